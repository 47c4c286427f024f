"""No file takes memory or time without bound, nor ends in an error of Python's own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from readers.hostile import CHECKPOINTS, IMAGES, SAFETENSORS

MOST = 500 * 2**20  # bytes above what the imports take
PATIENCE = 300  # seconds for all of them, which take some 20

FILES = CHECKPOINTS | SAFETENSORS | IMAGES


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_R9_R10_R11_hostile_files_are_bounded_and_refused_by_name(tmp_path: Path) -> None:
    for name, make in FILES.items():
        (tmp_path / name).write_bytes(make())
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    command = [sys.executable, "-m", "readers.bounded", str(tmp_path)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
        printed, fate = done.stdout, f"exit code {done.returncode}: {done.stderr[-500:]}"
    except subprocess.TimeoutExpired as error:
        printed, fate = (error.stdout or b"").decode(), "it never ended"
    results = [json.loads(line) for line in printed.splitlines()]
    finished = [result for result in results if "outcome" in result]
    assert {result["file"] for result in finished} == FILES.keys(), f"at {results[-1:]}: {fate}"
    assert not [result for result in finished if result["outcome"].startswith("raw")]
    first = next((result for result in finished if result["bytes"] > MOST), None)  # a peak never sinks again
    assert first is None
