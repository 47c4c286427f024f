"""Suites of tests on a device: what passed is counted as it comes, what fails is named, and one process that loses its
GPU takes no other test with it."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from cascadezoo.benchmarks.measure.gpu import containment, operators, parity, suites
from cascadezoo.benchmarks.measure.gpu.report import Deadline, Report

ROOT = Path(__file__).parents[4]
ALONE = """
import sys
from pathlib import Path
from cascadezoo.benchmarks.measure.gpu.report import Deadline, Report
from cascadezoo.benchmarks.measure.gpu.suites import run_suite
report = Report(Path("report.json"), "ops", Deadline(600))
run_suite(report, "tests", ["-q", "test_given.py"], 60, 1)
report.end()
"""
FOUR = """
import os, pytest
def test_right(): pass
def test_wrong(): assert 1 == 2, "one is not two"
@pytest.mark.skip
def test_skipped(): pass
@pytest.fixture
def broken(): raise ValueError("no fixture")
def test_error(broken): pass
"""
LOSES_ITS_GPU = """
import pytest, torch
@pytest.mark.parametrize("number", range(4))
def test_kernel(number):
    if number == 1:
        def answer(): raise RuntimeError("CUDA error: an illegal memory access was encountered")
        torch.cuda.is_initialized, torch.cuda.synchronize = (lambda: True), answer
"""
SLOW = """
import pytest, time
@pytest.mark.parametrize("number", range(9))
def test_slow(number): time.sleep(0.2)
"""


def suite(folder: Path, source: str, seconds: float) -> dict:
    """What the report says of tests that ran in this process."""
    file = folder / f"test_of_{folder.name}.py"  # a module of each name is imported once
    file.write_text(source)
    report = Report(folder / "report.json", "ops", Deadline(600))
    given = ["-q", "--import-mode=importlib", "--rootdir", str(folder), str(file)]
    suites.run_suite(report, "tests", given, seconds, processes=0)
    report.end()
    return json.loads(report.path.read_text())


def test_results_are_counted_and_failures_named(tmp_path: Path) -> None:
    found = suite(tmp_path, FOUR, 60)
    assert found["tests"] == {"collected": 4, "passed": 1, "skipped": 1, "failed": 2, "running": []}
    assert {name.partition("::")[2]: why for name, why in found["failures"].items()} == {
        "test_wrong": "AssertionError: one is not two", "test_error": "ValueError: no fixture"
    }  # fmt: skip
    assert (found["status"], found["left_out"]) == ("failed", [])


def test_a_process_that_loses_its_gpu_fails_one_test(tmp_path: Path) -> None:
    (tmp_path / "test_given.py").write_text(LOSES_ITS_GPU)
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", ALONE], cwd=tmp_path, env=environ, check=True, capture_output=True)
    found = json.loads((tmp_path / "report.json").read_text())
    assert (found["tests"]["failed"], found["tests"]["collected"]) == (1, 4)
    assert found["tests"]["passed"] >= 3  # the test itself may have been reported before its process ended
    ((name, why),) = found["failures"].items()
    assert "test_kernel[1]" in name + why
    assert "crashed" in why


def test_what_there_was_no_time_for_is_counted(tmp_path: Path) -> None:
    found = suite(tmp_path, SLOW, 0.5)
    done = found["tests"]["passed"]
    assert 1 <= done < 9
    assert found["left_out"] == [f"{9 - done} tests of tests"]
    assert (found["status"], found["failures"]) == ("passed", {})


def test_nothing_collected_is_a_failure(tmp_path: Path) -> None:
    assert suite(tmp_path, "", 60)["failures"] == {"tests": "no test was collected (pytest's code 5)"}


def test_a_suite_that_does_not_start_is_a_failure(tmp_path: Path) -> None:
    found = suite(tmp_path, "def test_one(): pass\nraise ValueError", 60)
    assert found["failures"] == {"tests": "no test was collected (pytest's code 2)"}


def test_a_gpu_that_answers_lets_the_process_live(monkeypatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    containment.pytest_runtest_teardown()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    containment.pytest_runtest_teardown()
    assert ended == []


def test_elsewhere_than_in_a_checkout_it_says_so(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="start in the root of a checkout"):
        suites.tests_folder()


MEMCHECK = """
========= COMPUTE-SANITIZER
========= Invalid __global__ read of size 4 bytes
=========     at group_kernel
10 passed, 300 deselected in 40.1s
========= ERROR SUMMARY: 3 errors
"""


@pytest.mark.parametrize(
    ("text", "errors", "words"),
    [
        (MEMCHECK, 3, "3 errors in 10 tests, first: Invalid __global__ read of size 4 bytes"),
        ("9 passed\n========= RACECHECK SUMMARY: 0 hazards displayed (0 errors)", 0, "0 errors in 9 tests"),
        ("========= Error: not supported", None, "it did not run to its end: ========= Error: not supported"),
        ("========= ERROR SUMMARY: 0 errors", None, "it did not run to its end: ========= ERROR SUMMARY: 0 errors"),
        ("", None, "it did not run to its end: no output"),
    ],
)  # fmt: skip
def test_what_compute_sanitizer_says(text: str, errors: int | None, words: str) -> None:
    found = operators.sanitizer_says(text)
    assert (found["errors"], found["result"]) == (errors, words)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The suites that would run; none does."""
    found: list[list[str]] = []
    for module in (operators, parity):
        monkeypatch.setattr(module, "run_suite", lambda report, suite, arguments, seconds: found.append(arguments))
    monkeypatch.setenv("KERNELS_ON", "")
    monkeypatch.chdir(ROOT)
    return found


def test_operators_are_tested_and_a_missing_library_is_a_failure(asked, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(operators, "sanitizer", lambda: None)
    monkeypatch.setattr(operators, "COMPILED", {})
    report = Report(tmp_path / "gpu_ops.json", "ops", Deadline(60))
    operators.run(report, torch.device("cuda"))
    assert os.environ["KERNELS_ON"] == "cuda"
    assert asked[0][:2] == ["tests/ops", "tests/cuda_emulation"]
    assert report.data["compute_sanitizer"] == {tool: {"result": "not installed"} for tool in operators.TOOLS}
    assert list(report.data["failures"]) == ["operators for cuda"]


COLLECT = """
import sys, pytest, torch
torch.cuda.is_available = lambda: True
class Named:
    def pytest_collection_finish(self, session): print(*[item.nodeid for item in session.items], sep="\\n")
sys.exit(pytest.main(["--collect-only", "-s", *sys.argv[1:]], plugins=[Named()]))
"""


def test_every_operator_with_a_cuda_kernel_is_tested_on_a_gpu() -> None:
    """By the sweep over all of them, by cases worked by hand or recorded, and by the tests beside the emulator."""
    sources = {path.name: path.read_text() for path in (ROOT / "csrc/cuda").glob("*_binding.cpp")}
    kernels = {name for text in sources.values() for name in re.findall(r'm\.impl\("(\w+)"', text)}
    assert len(kernels) >= 8
    selected = operators.selection(Path("tests"), "cuda")
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", COLLECT, *selected]
    found = subprocess.run(command, cwd=ROOT, env=environ, check=True, capture_output=True, text=True).stdout.split(
        "\n"
    )
    of_file = Counter(name.partition("::")[0] for name in found)
    sweep = re.compile(r"test_equals_torchvision\[(\w+)-\w+-cuda-strided\]")
    swept = {name for line in found for name in sweep.findall(line)}
    assert kernels <= swept
    for stem in ("nms", "rpn_select", "paste_rle", "roi_align", "dcnv3"):
        assert of_file[f"tests/ops/test_{stem}.py"] >= 3, stem
    for stem in ("nms", "rpn_select", "paste_rle", "pyramid_roi_align"):
        assert of_file[f"tests/cuda_emulation/test_{stem}.py"] >= 20, stem
    assert not any(name.endswith(("test_races.py", "test_emulator.py", "test_reached.py")) for name in of_file)


def test_compute_sanitizer_runs_while_there_is_time(asked, tmp_path, monkeypatch) -> None:
    """A stand-in that is found on the path says that it found errors, and then takes too long."""
    tool = tmp_path / "compute-sanitizer"
    tool.write_text(
        "#!/bin/sh\n[ $2 = racecheck ] && exec sleep 60\necho 2 passed\necho ========= ERROR SUMMARY: 1 error\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(operators, "SANITIZING", 0.1)
    report = Report(tmp_path / "gpu_ops.json", "ops", Deadline(2))
    operators.run(report, torch.device("cpu"))
    found = report.data["compute_sanitizer"]
    assert found["memcheck"]["result"] == "1 errors in 2 tests"
    assert found["racecheck"]["result"].startswith("not done in ")
    assert report.data["failures"]["compute-sanitizer memcheck"] == "1 errors in 2 tests"


def test_some_cases_are_run_in_narrower_types_while_there_is_time(asked, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(parity, "CASES", ("a/one", "a/two", "a/three"))
    monkeypatch.setattr(parity, "ONE_CASE", 5.0)
    report = Report(tmp_path / "gpu_parity.json", "parity", Deadline(60))

    def narrow(folder: Path, device: torch.device) -> list[dict]:
        report.deadline = Deadline(20 if folder.name == "one" else 1)
        if folder.name == "two":
            raise RuntimeError("no such type")
        return [{"case": folder.name, "device": device.type}]

    monkeypatch.setattr(parity, "narrow", narrow)
    parity.run(report, torch.device("cuda"))
    assert asked == [["-m", "parity", "tests/parity", "-k", "cuda"]]
    assert report.data["rows"] == [{"case": "one", "device": "cuda"}]
    assert report.data["failures"] == {"a/two": "RuntimeError: no such type"}
    assert report.data["left_out"] == ["a/three in tf32, bf16, fp16"]


@pytest.mark.slow
def test_a_recorded_case_in_every_precision(asked, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(parity, "CASES", ("mmdet/cascade_r50_caffe_fpn",))
    monkeypatch.setattr(parity, "NARROW", ("bf16",))
    report = Report(tmp_path / "gpu_parity.json", "parity", Deadline(600))
    parity.run(report, torch.device("cpu"))
    plain, narrow = report.data["rows"]
    assert (plain["case"], plain["precision"], plain["ok"]) == ("mmdet/cascade_r50_caffe_fpn", "fp32", True)
    assert narrow["precision"] == "bf16"
    assert narrow["score_max"] > plain["score_max"]
    assert report.data["failures"] == {}
