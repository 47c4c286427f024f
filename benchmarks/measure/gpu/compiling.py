"""The operators compiled on this machine, for its CPU and its GPUs."""

import time

import torch

from cascadezoo.benchmarks.measure.gpu.report import Report
from cascadezoo.ops import building


def run(report: Report, device: torch.device) -> None:
    """Build each library that is not there; a row for each."""
    for kind in dict.fromkeys((device.type, "cpu")):
        with report.attempt(f"library for {kind}"):
            start = time.monotonic()
            library = building.build(kind)
            seconds = round(time.monotonic() - start, 1)
            report.data["rows"].append({"kind": kind, "library": library.name, "seconds": seconds})
