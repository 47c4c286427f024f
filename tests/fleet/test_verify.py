"""``verify --engine ray`` on one machine: the report of a single process, whatever dies on the way."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_coco import NAME, write_coco

from cascadezoo.benchmarks.reports.schema import Report, read_report, without_timing
from cascadezoo.benchmarks.reports.verdict import Verdict

pytestmark = pytest.mark.fleet

BOXES = "cascade_r50_fpn_1x.mmdet"
THIRD = "cascade_r101_fpn_1x.mmdet"
FOLDER = Path(__file__).parent


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_coco(tmp_path_factory.mktemp("coco"), 4)


@pytest.fixture(scope="module")
def alone(root: Path, tmp_path_factory) -> Report:
    """The report of one process."""
    report = tmp_path_factory.mktemp("alone") / "report.json"
    with started(root, "--json", str(report), engine=()) as process:
        assert process.wait() == 0
    return read_report(report)


def started(
    root: Path, *options: str, engine: tuple[str, ...] = ("--engine", "ray"), **environ: object
) -> subprocess.Popen:
    path = os.pathsep.join(filter(None, (str(FOLDER), str(FOLDER.parent), os.environ.get("PYTHONPATH"))))
    given = {name: value if isinstance(value, str) else json.dumps(value) for name, value in environ.items()}
    return subprocess.Popen(
        [sys.executable, str(FOLDER / "fleet_zoo.py"), "verify", NAME, BOXES, THIRD, "--data-root", str(root), "--ap",
         "--tolerance", "100", "--batch-size", "2", "--workers", "0", "--device", "cpu", *engine, *options],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **given},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def entries(report: Report, *left_out: str) -> list[object]:
    data = without_timing(report.model_dump(mode="json"))["entries"]
    return [entry for entry in data if entry["name"] not in left_out]


def living(mark: str) -> list[str]:
    """Names of the processes whose environment holds this text, except for two of Ray's own that take longer to end."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "comm").read_text())
        except OSError:  # it has ended, or is another user's
            continue
    return [name for name in found if not name.startswith(("ray::Dashboard", "ray::RuntimeEnv"))]


def until(condition, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.2)


def test_an_entry_whose_process_dies_is_tried_again_or_an_error_and_the_others_finish(
    root: Path, alone: Report, tmp_path: Path
) -> None:
    harm = {NAME: ["abort", 1, str(tmp_path)], BOXES: ["kill", 9, str(tmp_path)]}
    with started(root, "--json", "-", HARM=harm) as process:
        out, err = process.communicate()
    assert process.returncode == 1
    report = Report.model_validate_json(out)  # nothing of Ray's is among it
    by_name = {entry.name: entry for entry in report.entries}
    died = "its process died (killed, or a crash in native code)"
    assert by_name[BOXES].verdict is Verdict.ERROR
    assert by_name[BOXES].accuracy[0].reason == f"lost 3 times: {died}"
    assert by_name[NAME].accuracy[0].timing.notes == (f"lost once: {died}",)
    assert entries(report, BOXES) == entries(alone, BOXES)
    assert f"{NAME}: {died}; it is tried again (1 of 2)" in err
    assert f"{BOXES}: {died}; it is tried again (2 of 2)" in err
    assert len(list(tmp_path.glob(f"{BOXES}.*"))) == 3


def test_stopped_and_killed_no_finished_entry_is_measured_again(root: Path, alone: Report, tmp_path: Path) -> None:
    folder, log = tmp_path / "run", tmp_path / "loaded"
    harm = {NAME: ["sleep", 2, str(tmp_path)]}
    options = ("--run-dir", str(folder), "--json", str(tmp_path / "report.json"))
    mark = f"LOADED={log}"
    with started(root, *options, HARM=harm, LOADED=str(log)) as process:
        until(lambda: all((folder / name / "report.json").exists() for name in (BOXES, THIRD)))
        shown = read_report(folder / "report.json")  # while it runs
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    until(lambda: not living(mark), 60)
    assert entries(shown, NAME) == entries(alone, NAME)
    (waiting,) = (entry for entry in shown.entries if entry.name == NAME)
    assert (waiting.verdict, waiting.accuracy[0].reason) == (Verdict.SKIPPED, "not finished yet")
    assert sorted(log.read_text().split()) == [THIRD, BOXES]

    with started(root, *options, HARM=harm, LOADED=str(log)) as process:
        until((tmp_path / f"{NAME}.1").exists)
        process.kill()
    until(lambda: not living(mark), 60)
    with started(root, *options, HARM=harm, LOADED=str(log)) as process:
        assert process.wait() == 0
    assert log.read_text().split()[2:] == [NAME]
    report = read_report(tmp_path / "report.json")
    assert without_timing(report.model_dump(mode="json")) == without_timing(alone.model_dump(mode="json"))
    assert read_report(folder / "report.json") == report


@pytest.fixture
def running_cluster(tmp_path: Path):
    """The address of a cluster that runs already, of two CPUs, and the environment with the key to it."""
    key = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray = Path(sys.executable).with_name("ray")
    options = ["--head", "--block", f"--port={port}", "--num-cpus=2", "--include-dashboard=false"]
    path = os.pathsep.join(filter(None, (str(FOLDER), str(FOLDER.parent), os.environ.get("PYTHONPATH"))))
    environ = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0",
               "RAY_worker_niceness": "0", **key}  # fmt: skip
    log = tmp_path / "ray.log"
    with log.open("w") as file:
        head = subprocess.Popen([ray, "start", *options], env=environ, stdout=file, stderr=file)
    try:
        until(lambda: head.poll() is not None or "--block" in log.read_text(), 120)
        assert head.poll() is None, log.read_text()
        yield f"127.0.0.1:{port}", key
    finally:
        head.send_signal(signal.SIGTERM)  # ends what it has started
        head.wait(60)


def test_a_cluster_that_runs_already_gives_the_same_report(
    root: Path, alone: Report, tmp_path: Path, running_cluster: tuple[str, dict[str, str]]
) -> None:
    report, (address, key) = tmp_path / "report.json", running_cluster
    options = ("--address", address, "--run-dir", str(tmp_path / "run"), "--json", str(report))
    with started(root, *options, **key) as process:
        _, err = process.communicate()
        assert process.returncode == 0, err
    assert entries(read_report(report)) == entries(alone)
    assert read_report(report).machines == alone.machines
