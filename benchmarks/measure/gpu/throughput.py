"""Images a second in batches: copies of one image go through the network together."""

import time

import torch

from cascadezoo.benchmarks.measure.gpu.report import Report
from cascadezoo.benchmarks.measure.gpu.speed import ENTRIES, HEADLINE, begin, measure

RUNS = 6
BATCH_SIZES = (4, 8)


def run(report: Report, device: torch.device, runs: int = RUNS) -> None:
    """Rows of each entry and batch size while there is time."""
    peaks, took = begin(report, device), 0.0
    for entry in ENTRIES:
        for batch_size in BATCH_SIZES:
            if report.has_time(f"{entry}, batch {batch_size}", 1.5 * took):
                start = time.monotonic()
                with report.attempt(f"{entry}, batch {batch_size}"):
                    measure(report, entry, batch_size, device, peaks, runs, theirs=entry == HEADLINE)
                took = time.monotonic() - start
