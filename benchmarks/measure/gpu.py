"""Everything that needs a GPU, in one command; the results are files under benchmarks/results.

    python -m cascadezoo.benchmarks.measure.gpu [--results FOLDER]

Builds the operators for the card, runs the operators' tests and every recorded parity case on it in float32 with TF32
off, and measures latency, DCNv3 and training.  Run from the root of a checkout: it needs tests/.
"""

import argparse
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import torch

from cascadezoo.benchmarks.measure.results import RESULTS, write_report
from cascadezoo.ops import building

SUITES = {"operators": ["tests/ops"], "parity": ["-m", "parity", "tests/parity", "-k", "cuda"]}
BENCHMARKS = {"latency": [], "ops": [], "training": ["--batch-size", "4", "--steps", "10", "--workers", "8"]}


def run_suite(arguments: list[str], report: Path) -> dict[str, Any]:
    """Run pytest with the compiled operators: how many passed, and each failure's first line."""
    environ = os.environ | {"CASCADEZOO_OPS": "compiled", "NVIDIA_TF32_OVERRIDE": "0"}
    command = [sys.executable, "-m", "pytest", f"--junitxml={report}", *arguments]
    code = subprocess.run(command, env=environ).returncode
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    failures = {
        f"{case.get('classname')}::{case.get('name')}": (problem.get("message") or "").split("\n")[0]
        for case in cases
        for problem in (*case.iter("failure"), *case.iter("error"))
    }
    skipped = sum(case.find("skipped") is not None for case in cases)
    on_gpu = sum("cuda" in (case.get("name") or "") for case in cases)
    report.unlink()
    return {
        "exit_code": code,
        "passed": len(cases) - len(failures) - skipped,
        "skipped": skipped,
        "on_gpu": on_gpu,
        "failures": failures,
    }


def main() -> int:
    """Build, test, measure, write; 1 where a test failed."""
    parser = argparse.ArgumentParser(description="Tests and benchmarks on a GPU.")
    parser.add_argument("--results", type=Path, default=RESULTS)
    results = parser.parse_args().results
    if not torch.cuda.is_available():
        print("no GPU that this torch can use: nothing was run")
        return 0
    results.mkdir(parents=True, exist_ok=True)
    libraries = [str(building.build(kind)) for kind in building.KINDS]
    suites = {name: run_suite(arguments, results / f"{name}.xml") for name, arguments in SUITES.items()}
    write_report(results / "gpu_tests.json", {"libraries": libraries, "tf32": False, "suites": suites})
    for name, suite in suites.items():
        print(f"{name}: {suite['passed']} passed, {len(suite['failures'])} failed, {suite['on_gpu']} on the GPU")
    for benchmark, options in BENCHMARKS.items():
        module, output = f"cascadezoo.benchmarks.measure.{benchmark}", str(results / f"gpu_{benchmark}.json")
        subprocess.run([sys.executable, "-m", module, "--device", "cuda", "--output", output, *options], check=True)
    return int(any(suite["exit_code"] for suite in suites.values()))


if __name__ == "__main__":
    sys.exit(main())
