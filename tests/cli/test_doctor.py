"""C8: the doctor says, line by line, what to run."""

import json
import re
import subprocess
from types import SimpleNamespace

import pytest

from cascadezoo.cli import doctor

HEALTHY = {
    "cascadezoo": "1.0", "torch": "2.14.1", "torchvision": "0.29.1", "safetensors": "0.8.0", "numpy": "2.4.6",
    "opencv-python-headless": "5.0.0", "pycocotools": "2.0.11", "hotcoco": "1.3.0",
}  # fmt: skip
BOUNDS = ["torch!=2.13.*,>=2.11", "numpy>=1.26", "opencv-python-headless>=4.9", 'ruff>=99; extra == "dev"']


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """A machine as described: the answers of the processes that the doctor asks, and what is installed."""
    it = SimpleNamespace(
        packages=dict(HEALTHY),
        ops={"mode": "auto", "cpu": [True, "cpu.so"], "cuda": [True, "cuda.so"]},
        gpus={"cuda": "13.0", "gpus": ["H100, sm_90"]},
        broken={},
    )

    def ask(code: str) -> subprocess.CompletedProcess[str]:
        for word, words in it.broken.items():
            if word in code:
                return subprocess.CompletedProcess([], 1, "", f"Traceback\n{words}\n")
        answer = it.ops if code == doctor._OPS else it.gpus
        return subprocess.CompletedProcess([], 0, json.dumps(answer), "")

    monkeypatch.setattr(doctor, "_ask", ask)
    monkeypatch.setattr(doctor, "_version", lambda name: it.packages.get(name))
    monkeypatch.setattr(doctor, "requires", lambda name: BOUNDS)
    monkeypatch.setattr(doctor.compilers, "find_compilers", lambda: {"c++": "/usr/bin/c++", "nvcc": "/usr/bin/nvcc"})
    return it


def lines() -> dict[str, str]:
    """The sheet: what stands behind each label."""
    sheet = "\n".join(doctor._sheet(doctor.examine()))
    whole = re.sub(r"\n +", " ", sheet).splitlines()  # lines that were broken
    return {label: line.split(label, 1)[1].strip() for line in whole for label in [line.split("  ")[0].split(":")[0]]}


def test_C8_a_healthy_machine_needs_nothing(machine) -> None:
    found = doctor.examine()
    assert (found["problems"], found["remedies"]) == ([], {})
    assert lines()["torch"] == "2.14.1"


def test_C8_operators_that_are_not_built(machine) -> None:
    machine.ops = {"mode": "auto", "cpu": [False, "not built"], "cuda": [False, "not built"]}
    assert lines()["ops, cpu"] == "not built: run `cascadezoo build-ops`"
    assert lines()["ops, cuda"] == "not built: run `cascadezoo build-ops --cuda`"
    machine.gpus = {"cuda": "13.0", "gpus": []}
    assert lines()["ops, cuda"] == "not built"  # and nothing to build for
    assert lines()["GPUs"].startswith("none: no GPU that it can use")
    machine.gpus = {"cuda": None, "gpus": []}
    assert lines()["GPUs"].endswith("install torch with CUDA (https://pytorch.org)")


def test_C8_operators_that_do_not_load(machine) -> None:
    machine.ops |= {"cpu": [False, "cpu.so: file too short"]}
    (problem,) = doctor.examine()["problems"]
    assert problem.endswith("cpu.so: file too short: run `cascadezoo build-ops --force`")
    machine.ops |= {"cpu": [False, "/cache is another's: delete it and run `cascadezoo build-ops`"]}
    (problem,) = doctor.examine()["problems"]
    assert problem.endswith("delete it and run `cascadezoo build-ops`")


def test_C8_packages_that_are_old_or_missing(machine) -> None:
    machine.packages |= {"torch": "2.10.1+cu128", "numpy": None}
    assert lines()["torch"] == "2.10.1+cu128: older than 2.11: run `pip install --upgrade 'torch>=2.11'`"
    assert lines()["numpy"] == "not installed: run `pip install numpy`"


def test_C8_the_other_opencvs(machine) -> None:
    del machine.packages["opencv-python-headless"]
    assert lines()["opencv-python-headless"] == "not installed: run `pip install opencv-python-headless`"
    machine.packages["opencv-python"] = "4.12.0"
    remedy = "run `pip uninstall --yes opencv-python && pip install opencv-python-headless`"
    assert lines()["opencv-python-headless"] == f"not installed: opencv-python serves in its place: {remedy}"
    machine.packages["opencv-python-headless"] = "4.12.0"
    assert "opencv-python-headless and opencv-python overwrite each other" in lines()["opencv-python"]
    machine.broken = {"cv2": "ImportError: libGL.so.1"}
    (problem,) = doctor.examine()["problems"]
    assert problem.startswith(
        "OpenCV does not load: ImportError: libGL.so.1: run `pip uninstall --yes opencv-python-headless"
    )


def test_C8_a_torch_that_does_not_load(machine) -> None:
    machine.broken = {"torch": "RuntimeError: operator torchvision::nms does not exist"}
    problems = doctor.examine()["problems"]
    assert problems[0].endswith("run `pip install --upgrade torch torchvision` in one command, so that they fit")
    assert all("run `pip install" in problem for problem in problems)


def test_C8_a_setting_that_is_not_known(machine) -> None:
    machine.broken = {"MODE": "UsageError: CASCADEZOO_OPS=fast is not known: it is one of auto, torch"}
    (problem,) = doctor.examine()["problems"]
    assert problem.endswith("it is one of auto, torch: set it to one of them, or unset it")


def test_C8_a_missing_compiler_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert doctor.compilers.find_compilers()["c++"].endswith("install one, or name it in CXX")
