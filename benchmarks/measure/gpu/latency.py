"""The latency of one image: the headline entry beside torchvision's network first, then the others."""

import time

import torch

from cascadezoo.benchmarks.measure.gpu.report import Report
from cascadezoo.benchmarks.measure.gpu.speed import ENTRIES, HEADLINE, begin, measure, targets

RUNS = 20


def run(report: Report, device: torch.device, runs: int = RUNS) -> None:
    """Rows of each entry while there is time; the targets come with the first."""
    peaks, took = begin(report, device), 0.0
    for entry in ENTRIES:
        if report.has_time(entry, 1.5 * took):  # as long as the one before, and some more for a larger network
            start = time.monotonic()
            with report.attempt(entry):
                times = measure(report, entry, 1, device, peaks, runs, theirs=entry == HEADLINE)
                if entry == HEADLINE:
                    report.data["targets"] = targets(times)
            took = time.monotonic() - start
