"""Every operator's tests on the GPU; then compute-sanitizer over a few of them, where it is installed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from cascadezoo.benchmarks.measure.gpu.report import Report
from cascadezoo.benchmarks.measure.gpu.suites import run_suite, tests_folder
from cascadezoo.ops.library import COMPILED, STATUS

TOOLS = ("memcheck", "racecheck")
SANITIZING = 30.0  # seconds that one of them takes at least: under it torch itself is slow to start
SHORT = "test_equals_torchvision and contiguous and float32"


def run(report: Report, device: torch.device) -> None:
    """The tests with a device in their name, and those that the kernels pass in the emulator, on the real one."""
    folder = tests_folder()
    report.data["compiled_ops"] = list(COMPILED)
    if device.type not in COMPILED:
        report.fail(f"operators for {device.type}", f"not compiled ({STATUS.get(device.type, 'none exists')})")
    os.environ["KERNELS_ON"] = device.type
    room = len(TOOLS) * SANITIZING if sanitizer() else 0
    seconds = max(report.deadline.left() - room, report.deadline.left() / 2)
    run_suite(report, "tests", selection(folder, device.type), seconds)
    report.data["compute_sanitizer"] = {}
    for tool in TOOLS:
        if sanitizer() is None:
            report.data["compute_sanitizer"][tool] = {"result": "not installed"}
        elif report.has_time(f"compute-sanitizer {tool}", SANITIZING):
            result = sanitized(tool, device, report.deadline.left() / (len(TOOLS) - TOOLS.index(tool)))
            report.data["compute_sanitizer"][tool] = result
            if result.get("errors"):
                report.fail(f"compute-sanitizer {tool}", result["result"])
        report.write()


def selection(folder: Path, device: str) -> list[str]:
    """The tests that the device runs, for pytest."""
    without = ("test_emulator", "test_races", "test_reached")  # of the emulator, and of kernels that only it runs
    emulators_own = [f"--ignore={folder}/cuda_emulation/{name}.py" for name in without]
    layers = f"{folder}/optimizing/test_cudnn.py"
    return [f"{folder}/ops", f"{folder}/cuda_emulation", layers, *emulators_own, "-k", f"{device} or emulated"]


def sanitizer() -> str | None:
    """Where compute-sanitizer is."""
    return shutil.which("compute-sanitizer")


def sanitized(tool: str, device: torch.device, seconds: float) -> dict[str, Any]:
    """What a tool of compute-sanitizer says of a few tests; ``errors`` is None where it could not tell."""
    names = f"{SHORT} and {device.type}"
    tests = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/ops/test_operators.py", "-k", names]
    environ = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}  # else torch's blocks hide what lies beyond a tensor
    command = [str(sanitizer()), "--tool", tool, "--target-processes", "all", *tests]
    try:
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"errors": None, "result": f"not done in {seconds:.0f} s"}
    return sanitizer_says(done.stdout + done.stderr)


def sanitizer_says(text: str) -> dict[str, Any]:
    """The errors that its output counts, its first one in words, and how many tests passed under it."""
    summary = re.search(r"ERROR SUMMARY: (\d+) error|RACECHECK SUMMARY: (\d+) hazard", text)
    passed = re.search(r"(\d+) passed", text)
    if summary is None or passed is None:
        lines = [line for line in text.splitlines() if line.strip()] or ["no output"]
        return {"errors": None, "result": f"it did not run to its end: {lines[-1].strip()}"}
    errors = int(summary[1] or summary[2])
    first = re.search(r"^=========\s+((?:Invalid|Race|Error|Warning|Program hit|Misaligned|Potential).*)$", text, re.M)
    words = f"{errors} errors in {passed[1]} tests" + (f", first: {first[1]}" if errors and first else "")
    return {"errors": errors, "tests": int(passed[1]), "result": words}
