"""No file takes memory or time without bound, nor ends in an error of Python's own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from readers.hostile import CHECKPOINTS, IMAGES, SAFETENSORS

MOST = 500 * 2**20  # bytes above what the imports take
PATIENCE = 300  # seconds for all files of a verb; they take 15 at most

FILES: dict[str, Mapping[str, Callable[[], bytes]]] = {
    "inspect": CHECKPOINTS | SAFETENSORS,
    "convert": CHECKPOINTS,
    "image": IMAGES,
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("verb", FILES)
def test_R9_R10_R11_hostile_files_are_bounded_and_refused_by_name(verb: str, tmp_path: Path) -> None:
    for name, make in FILES[verb].items():
        (tmp_path / name).write_bytes(make())
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    command = [sys.executable, "-m", "readers.bounded", verb, str(tmp_path)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
        printed, fate = done.stdout, f"exit code {done.returncode}: {done.stderr[-500:]}"
    except subprocess.TimeoutExpired as error:
        printed, fate = (error.stdout or b"").decode(), "it never ended"
    results = [json.loads(line) for line in printed.splitlines()]
    finished = {result["file"]: result for result in results if "outcome" in result}
    assert finished.keys() == FILES[verb].keys(), f"{verb} of {results[-1]['file'] if results else 'nothing'}: {fate}"
    raw = {name: result["outcome"] for name, result in finished.items() if result["outcome"].startswith("raw")}
    assert not raw
    first = next((result for result in finished.values() if result["bytes"] > MOST), None)  # a peak never sinks again
    assert first is None
