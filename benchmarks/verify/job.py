"""What is the same for every entry of a run, and what a run folder already has of one: torch is not imported."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from cascadezoo.benchmarks.reports.schema import EntryReport, GivenWeights, Machine, Report, Settings
from cascadezoo.benchmarks.reports.verdict import overall
from cascadezoo.benchmarks.verify.coco_layout import Dataset
from cascadezoo.benchmarks.verify.run_folder import Depends, Finished, Part, RunFolder, part_depends
from cascadezoo.errors import CascadezooError
from cascadezoo.manifest import ZooEntry

if TYPE_CHECKING:
    from cascadezoo.distributed import World

_log = logging.getLogger("cascadezoo")

Progress: TypeAlias = Callable[[str, int, int], None]  # what is being done, images done, images in all


@dataclass(frozen=True)
class Job:
    """What is the same for every entry of a run.

    Attributes:
        settings: as in the report.
        run: what the figures of every entry depend on.
        run_dir: where detections and finished reports are kept.
        dataset_of: an entry's data set, or a sentence why there is none.
        weights: a file instead of the published weights.
        given: the same file as reports name it.
        device: a torch device's name.
        machine: that it is of.
        batch_size: images at a time.
        workers: processes that decode images; None for as many as suit the machine.
        baseline: an earlier report to compare the speed with.
        world: the processes of the run.
        analysis: a folder for what the results tell beyond the figures; None for none.
        progress: called with what is being done, images done, and images in all.
    """

    settings: Settings
    run: Mapping[str, Any]
    run_dir: RunFolder
    dataset_of: Callable[[ZooEntry], Dataset | str]
    weights: Path | None
    given: GivenWeights | None
    device: str
    machine: Machine
    batch_size: int
    workers: int | None
    baseline: Report | None
    world: "World"
    analysis: Path | None
    progress: Progress | None


def found_parts(entry: ZooEntry, job: Job) -> Finished:
    """What the run folder has of an entry."""
    finished = job.run_dir.finished(entry.name, _depends(entry, job))
    if job.analysis:  # what is kept of detections is evaluated again
        return replace(finished, parts=finished.parts - {"accuracy"})
    return finished


def finished_parts(entry: ZooEntry, job: Job) -> Finished:
    """As ``found_parts``; what is measured again is logged."""
    finished = found_parts(entry, job)
    for part, names in finished.changed.items():
        _log.warning("%s: %s is measured again, since this has changed: %s", entry.name, part, ", ".join(names))
    return finished


def settled(finished: Finished, job: Job) -> EntryReport | None:
    """The report of an entry of which nothing is left to measure; None where something is."""
    return joined(finished, None, job) if finished.report and finished.parts >= asked(job.settings) else None


def kept(entry: ZooEntry, job: Job, finished: Finished, report: EntryReport) -> EntryReport:
    """The parts measured now and those finished earlier, as one report that the run folder has too."""
    report = joined(finished, report, job)
    if not job.run_dir.is_temporary:
        job.run_dir.keep(report, _depends(entry, job), finished)
    return report


def asked(settings: Settings) -> set[Part]:
    """The parts that are to be measured."""
    asked: dict[Part, bool] = {"accuracy": settings.accuracy, "speed": settings.speed}
    return {part for part, is_asked in asked.items() if is_asked}


def _depends(entry: ZooEntry, job: Job) -> dict[Part, Depends]:
    """What the parts depend on, as far as it is known now."""
    if job.run_dir.is_temporary:
        return {}
    return part_depends(
        entry,
        job.run,
        job.settings,
        annotations=_annotations(entry, job),
        given=job.given.sha256 if job.given else None,
        device=job.machine.device,
        batch_size=job.batch_size,
    )


def _annotations(entry: ZooEntry, job: Job) -> str | None:
    try:
        dataset = job.dataset_of(entry)
        return None if isinstance(dataset, str) else dataset.digest
    except (CascadezooError, OSError):  # told when the entry is measured
        return None


def joined(finished: Finished, report: EntryReport | None, job: Job) -> EntryReport:
    """Finished parts and those measured now, as one report of what was asked for."""
    parts, settings = finished.parts, job.settings
    old, new = finished.report or report, report or finished.report
    if old is None or new is None:
        raise AssertionError("neither finished nor measured")
    accuracy = (old if "accuracy" in parts else new).accuracy if settings.accuracy else ()
    speed = (old if "speed" in parts else new).speed if settings.speed else None
    verdicts = [part.verdict for part in accuracy] + ([speed.verdict] if speed else [])
    return new.model_copy(
        update={"verdict": overall(verdicts), "given": job.given, "accuracy": accuracy, "speed": speed}
    )
