"""Speeds as they were measured: of verify reports, and of the benchmarks whose results a checkout holds."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cascadezoo.benchmarks.reports.schema import Report

RESULTS = Path(__file__).parents[1] / "results"  # beside this room in a checkout; an installed package has none


class Conditions(NamedTuple):
    """What a speed depends on besides the entry, in words.

    Attributes:
        device: its name; of a CPU also the number of threads.
        computed_in: precision, and how the model was prepared.
        batch_size: images at a time.
        what: the images and the weights.
    """

    device: str
    computed_in: str
    batch_size: int
    what: str


class Speed(NamedTuple):
    """Images per second of an entry."""

    entry: str
    conditions: Conditions
    fps: float


def speeds_of_reports(reports: Mapping[str, Report]) -> Iterator[Speed]:
    """Those of the published weights in reports of ``cascadezoo verify``."""
    for report in reports.values():
        decoded = "decoding included" if report.settings.decode else "decoded before"
        for entry in report.entries:
            timing = entry.speed.timing if entry.speed and entry.given is None else None
            for batch in timing.batches if timing else ():
                device = report.machines[entry.machine].device
                what = f"images of the data set, {decoded}; published weights"
                yield Speed(
                    entry.name, Conditions(device, report.settings.computed_in, batch.batch_size, what), batch.fps
                )


def speeds_of_results(folder: Path) -> Iterator[Speed]:
    """Those of the benchmarks, as far as their files are in the folder."""
    for name, read in _READERS.items():
        path = folder / name
        if path.is_file():
            yield from read(json.loads(path.read_text("utf-8")))


def _of_gpu(report: dict[str, Any]) -> Iterator[Speed]:
    device = report["environment"]["torch"]["gpu"]
    for row in report["rows"]:
        height, width = row["network_input"]
        how = ", ".join((row["precision"], *["optimised"] * (row["way"] == "optimized")))
        what = f"a generated image, {height} × {width} at the network; random weights"
        yield Speed(row["entry"], Conditions(device, how, row["batch_size"], what), row["images_per_second"])


def _of_entries(report: dict[str, Any]) -> Iterator[Speed]:
    device = f"{report['environment']['cpu']}, {report['threads']} threads"
    height, width = report["image"]
    for row in report["rows"]:
        for way, found in row["ways"].items():
            how = "fp32" if way == "plain" else f"{way}, optimised"
            what = f"a generated image of {height} × {width} at the entry's scale; random weights"
            yield Speed(row["entry"], Conditions(device, how, 1, what), 1000 / found["total_ms"]["median"])


_READERS: dict[str, Callable[[dict[str, Any]], Iterator[Speed]]] = {
    "gpu_latency.json": _of_gpu,
    "gpu_throughput.json": _of_gpu,
    "latency_entries.json": _of_entries,
}
