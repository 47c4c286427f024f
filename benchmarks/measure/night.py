"""A night of verification, simulated: ``python -m cascadezoo.benchmarks.measure.night`` (`make night`; needs Ray).

All published entries in turn on eight devices that Ray is told of: schedule, processes, run folder and report are those
of ``cascadezoo verify --all --engine ray``; only the detector sleeps, for as long as the entry's network is large.
"""

import json
import os
import sys
import time
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import click

from cascadezoo import registry
from cascadezoo.benchmarks.measure.results import RESULTS, write_report
from cascadezoo.benchmarks.reports.schema import Accuracy, AccuracyTiming, EntryReport, Settings, describe_machine
from cascadezoo.benchmarks.reports.verdict import judge_accuracy
from cascadezoo.benchmarks.verify import fleet_entries
from cascadezoo.benchmarks.verify.coco_layout import Dataset
from cascadezoo.benchmarks.verify.estimates import costs
from cascadezoo.benchmarks.verify.fleet import cluster
from cascadezoo.benchmarks.verify.fleet_entries import Pieces
from cascadezoo.benchmarks.verify.job import Job
from cascadezoo.benchmarks.verify.results_stream import ResultsStream, read_results
from cascadezoo.benchmarks.verify.run_folder import Part, RunFolder, run_depends
from cascadezoo.benchmarks.verify.runner import Detected
from cascadezoo.coco.metrics import published
from cascadezoo.files import write_json
from cascadezoo.manifest import ZooEntry

DEVICES = 8
SECONDS = 960.0  # of each device
JUDGING = 0.05  # of an entry's time, behind the next one's
IMAGES = 20  # whose results each entry writes
_LENGTHS = "lengths.json"


class _Alone:
    """A world of one, which imports no torch."""

    rank, size, is_first = 0, 1, True

    def all_gather(self, value: Any) -> list[Any]:
        return [value]


def detect(job: Job, entry: ZooEntry, done: Collection[Part], threads: int, share: int) -> Detected:
    """Sleep as long as the entry is given, and write results of a few images meanwhile."""
    seconds = _seconds(job, entry)
    with ResultsStream(job.run_dir.path / entry.name / "plain.results", {"entry": entry.name}) as stream:
        for image in range(IMAGES):
            time.sleep(seconds / IMAGES)
            stream.add(image, [])
    if "torch" in sys.modules:
        raise RuntimeError("torch was imported where only sleeping was to be measured")
    return Detected(f"{os.getpid()}", (), None)


def judge(job: Job, entry: ZooEntry, detected: Detected) -> EntryReport:
    """A report that gives the published figures back, after a while."""
    seconds = _seconds(job, entry)
    time.sleep(seconds * JUDGING)
    images = len(read_results(job.run_dir.path / entry.name / "plain.results"))
    evaluation = entry.evaluations[0]
    verdict, reason, checks = judge_accuracy(published(evaluation), {}, evaluation.tolerance, f"{images} images")
    timing = AccuracyTiming(
        seconds=seconds, decode=0.0, inference=seconds, evaluate=0.0, outside_share=0.0, images=images, batch_size=1,
        processes=1,
    )  # fmt: skip
    part = Accuracy(tta=evaluation.tta, basis=evaluation.basis, verdict=verdict, reason=reason, checks=checks,
                    tolerance=evaluation.tolerance, images=images, timing=timing)  # fmt: skip
    return EntryReport(name=entry.name, verdict=verdict, weights_digest=detected.digest, accuracy=(part,))


def _seconds(job: Job, entry: ZooEntry) -> float:
    lengths: dict[str, float] = json.loads((job.run_dir.path / _LENGTHS).read_text())
    return lengths[entry.name]


def _job(folder: Path) -> Job:
    annotations = folder / "annotations.json"
    annotations.write_text("{}")
    settings, machine = Settings(speed=False), describe_machine("cpu", "pycocotools")
    return Job(
        settings=settings,
        run=run_depends(settings, machine, None),
        run_dir=RunFolder(folder),
        dataset_of=_Data(Dataset("COCO val2017", annotations, folder, "")),
        weights=None,
        given=None,
        device="cuda",
        machine=machine,
        batch_size=1,
        workers=None,
        baseline=None,
        world=cast(Any, _Alone()),
        analysis=None,
        progress=None,
    )


class _Data:
    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __call__(self, entry: ZooEntry) -> Dataset:
        return self.dataset


@click.command()
@click.option("--seconds", default=SECONDS, show_default=True, help="How long each device is busy.")
@click.option(
    "--output",
    default=RESULTS / "night.json",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The report.  [default: benchmarks/results/night.json]",
)
def main(seconds: float, output: Path) -> None:
    """Simulate the night and write a report."""
    # as if the weights of all had been published
    entries = [
        entry.model_copy(update={"availability": "published"}) for entry in registry.entries() if entry.data == "coco"
    ]
    sizes = costs(entries, Settings(speed=False))
    scale = seconds * DEVICES / sum(sizes.of.values())
    lengths = {name: size * scale for name, size in sizes.of.items()}
    ideal = max(max(lengths.values()), sum(lengths.values()) / DEVICES)
    begun = time.monotonic()
    with (
        TemporaryDirectory() as name,
        cluster(None, "cuda", threads=1, num_gpus=DEVICES, num_cpus=DEVICES) as pieces,
    ):
        folder = Path(name)
        write_json(folder / _LENGTHS, lengths)
        started = time.monotonic()
        reports: list[EntryReport] = []
        measured = fleet_entries.reports(entries, _job(folder), pieces, sizes, lambda left: None, Pieces(detect, judge))
        for report in measured:
            reports.append(report)
            click.echo(
                f"{time.monotonic() - started:7.1f} s  {len(reports):2} of {len(entries)}  {report.name}", err=True
            )
        elapsed = time.monotonic() - started
        kept = len(list(folder.glob("*/report.json")))
    whole = [report for report in reports if report.accuracy[0].images == IMAGES]
    result = {
        "benchmark": "night",
        "unit": "seconds",
        "entries": len(entries),
        "measured": len(whole),
        "kept": kept,
        "processes": len({report.weights_digest for report in whole}),
        "devices": DEVICES,
        "longest": round(max(lengths.values()), 1),
        "sum": round(sum(lengths.values()), 1),
        "ideal": round(ideal, 1),
        "elapsed": round(elapsed, 1),
        "starting_ray": round(started - begun, 1),
        "lost": sum(bool(report.accuracy[0].timing.notes) for report in reports if report.accuracy[0].timing),
        "share_of_ideal": round(ideal / elapsed, 4),
    }
    write_report(output, result)
    click.echo(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
