"""One part, in this process: ``python -m cascadezoo.benchmarks.measure.gpu.part NAME --output FILE``."""

import argparse
import math
import sys
import time
from importlib import import_module
from pathlib import Path

import torch

from cascadezoo.benchmarks.measure.gpu.plan import PARTS
from cascadezoo.benchmarks.measure.gpu.report import Deadline, Report

MODULES = {  # by part: the module whose ``run`` it is
    "build": "compiling",
    "ops": "operators",
    "sync": "waits",
    "graph": "replay",
    "latency": "latency",
    "parity": "parity",
    "throughput": "throughput",
    "training": "learning",
}


def run(name: str, output: Path, device: torch.device, seconds: float) -> bool:
    """Run a part and write its report; whether it passed."""
    report = Report(output, name, Deadline(seconds))
    with report.attempt(name):
        import_module(f"cascadezoo.benchmarks.measure.gpu.{MODULES[name]}").run(report, device)
    return report.end()


def main() -> int:
    """Run the part that the arguments name; 1 where it failed."""
    parser = argparse.ArgumentParser(description="One part of the work on a GPU.")
    parser.add_argument("name", choices=[part.name for part in PARTS])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--until", type=float, default=math.inf, help="when to end, in seconds since 1970")
    options = parser.parse_args()
    return int(not run(options.name, options.output, torch.device(options.device), options.until - time.time()))


if __name__ == "__main__":
    sys.exit(main())
