"""One entry measured and judged: an error stops only its own part, and finished parts are never measured twice.

Every process of a run goes through the same entries in the same order; each detects on its share of the batches, and
the first one merges, evaluates and judges.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from cascadezoo.benchmarks.reports.rows import counted
from cascadezoo.benchmarks.reports.schema import (
    Accuracy,
    AccuracyTiming,
    EntryReport,
    GivenWeights,
    Machine,
    Report,
    Settings,
    Speed,
)
from cascadezoo.benchmarks.reports.verdict import SpeedReference, Verdict, judge_accuracy, judge_speed, overall
from cascadezoo.benchmarks.verify.attempts import Failure, Stopped, alone, in_every_process
from cascadezoo.benchmarks.verify.coco_layout import TIMED, Dataset
from cascadezoo.benchmarks.verify.results_stream import ResultsStream
from cascadezoo.benchmarks.verify.run_folder import Depends, Finished, Part, RunFolder, part_depends, results_depend
from cascadezoo.benchmarks.verify.shares import Store, accounted, results_of_all
from cascadezoo.coco.metrics import published
from cascadezoo.distributed import World
from cascadezoo.errors import CascadezooError, MissingResource, WrongEntry
from cascadezoo.images import read_image
from cascadezoo.manifest import Evaluation, ZooEntry

if TYPE_CHECKING:
    from cascadezoo.benchmarks.verify.accuracy import DetectionCost
    from cascadezoo.detector import Detector

Progress: TypeAlias = Callable[[str, int, int], None]  # what is being done, images done, images in all

_ABSENT = (MissingResource, WrongEntry)


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
    world: World
    analysis: Path | None
    progress: Progress | None


def verify_entry(entry: ZooEntry, job: Job) -> EntryReport:
    """Measure and judge one entry; every error becomes a verdict of what it stopped.  The same in every process."""
    finished = job.world.broadcast(
        job.run_dir.finished(entry.name, _depends(entry, job)) if job.world.is_first else None
    )
    if job.analysis:  # what is kept of detections is evaluated again
        finished = replace(finished, parts=finished.parts - {"accuracy"})
    if finished.report and finished.parts >= _asked(job.settings):
        return _joined(finished, None, job)
    report = job.world.broadcast(_measure_entry(entry, job, finished.parts))
    report = _joined(finished, report, job)
    if job.world.is_first and not job.run_dir.is_temporary:
        job.run_dir.keep(report, _depends(entry, job), finished)
    return report


def _asked(settings: Settings) -> set[Part]:
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


def _joined(finished: Finished, report: EntryReport | None, job: Job) -> EntryReport:
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


def _measure_entry(entry: ZooEntry, job: Job, done: Collection[Part]) -> EntryReport | None:
    """The report, at the first process, of the parts that are not ``done``."""
    settings = job.settings
    try:
        dataset = in_every_process(job.world, lambda: _available(entry, job), skip=_ABSENT)
        # a file that was given and is wrong is an error; a published one that cannot be had is not ours to fail
        model, digest = in_every_process(job.world, lambda: _load(entry, job), skip=() if job.weights else _ABSENT)
    except Stopped as stopped:
        return _entry_report(entry, None, *_nothing(entry, settings, stopped.failure))
    if settings.accuracy and "accuracy" not in done:
        accuracy = [_evaluate(entry, evaluation, model, digest, dataset, job) for evaluation in entry.evaluations]
    else:
        accuracy = []
    speed = _time(entry, model, dataset, job) if settings.speed and "speed" not in done else None
    job.world.wait()  # the others wait for the stop-watch
    return _entry_report(entry, digest, accuracy, speed) if job.world.is_first else None


def _entry_report(
    entry: ZooEntry, digest: str | None, accuracy: Sequence[Accuracy | None], speed: Speed | None
) -> EntryReport:
    parts = tuple(evaluation for evaluation in accuracy if evaluation)
    verdicts = [part.verdict for part in parts] + ([speed.verdict] if speed else [])
    return EntryReport(name=entry.name, verdict=overall(verdicts), weights_digest=digest, accuracy=parts, speed=speed)


def _nothing(entry: ZooEntry, settings: Settings, failure: Failure) -> tuple[list[Accuracy], Speed | None]:
    """Every part of an entry of which nothing could be measured."""
    accuracy = [_unmeasured(evaluation, settings, failure) for evaluation in entry.evaluations if settings.accuracy]
    return accuracy, _speed(entry, *failure) if settings.speed else None


def _available(entry: ZooEntry, job: Job) -> Dataset:
    """The data set: looked for before the weights, which may have to be fetched."""
    dataset = job.dataset_of(entry)
    if isinstance(dataset, str):
        raise MissingResource(dataset)
    if entry.availability == "never_published" and job.weights is None:
        raise MissingResource("no weights: the published link leads to another model's file, and no other is known")
    return dataset


def _load(entry: ZooEntry, job: Job) -> tuple["Detector", str]:
    import torch

    import cascadezoo
    from cascadezoo.converters.canonical import content_digest

    torch.manual_seed(job.settings.seed)
    source: dict[str, Any] = {"pretrained": True} if job.weights is None else {"weights": job.weights}
    model = cascadezoo.load(entry.name, **source)
    digest = content_digest(model.state_dict())
    return model.to(job.device), digest


def _evaluate(
    entry: ZooEntry, evaluation: Evaluation, model: "Detector", digest: str, dataset: Dataset, job: Job
) -> Accuracy | None:
    """One evaluation, at the first process; the others do their share and return None."""
    if evaluation.tta and not job.settings.tta:
        return _unmeasured(evaluation, job.settings, Failure(Verdict.SKIPPED, "test-time augmentation: needs --tta"))
    from cascadezoo.benchmarks.verify.accuracy import figures_of

    label = f"{entry.name}{' tta' * evaluation.tta}"
    begun = time.perf_counter()
    try:
        store = _store(entry, evaluation, digest, dataset, job)
        shares = results_of_all(job.world, store, partial(_detect, evaluation, model, dataset, job, label))
        if shares is None:
            return None
        evaluating = time.perf_counter()
        images = dataset.chosen(job.settings.limit)
        results = alone(lambda: accounted(images, [of_share for _, of_share in shares]))
        folder = job.analysis and job.analysis / entry.name / _stem(evaluation)
        figures = alone(lambda: figures_of(dataset, images, results, entry.has_masks, job.settings.evaluator, folder))
        seconds = time.perf_counter() - begun
    except Stopped as stopped:
        return _unmeasured(evaluation, job.settings, stopped.failure)
    total = len(dataset.images)
    part = f"{len(images)} of {counted(total, 'image')}" * (len(images) < total)
    tolerance = _tolerance(evaluation, job.settings)
    verdict, reason, checks = judge_accuracy(published(evaluation), figures, tolerance, part)
    return Accuracy(
        tta=evaluation.tta,
        basis=evaluation.basis,
        verdict=verdict,
        reason=f"given weights: {reason}" if job.given else reason,
        tolerance=tolerance,
        checks=checks,
        figures=figures,
        dataset=dataset.name,
        annotations_sha256=dataset.digest,
        images=len(images),
        detections=len(results),
        timing=_timing([detected for detected, _ in shares], seconds, begun + seconds - evaluating),
    )


def _store(entry: ZooEntry, evaluation: Evaluation, digest: str, dataset: Dataset, job: Job) -> Store:
    """Where the results of one evaluation are kept."""
    identity = {
        "entry": entry.name,
        "tta": evaluation.tta,
        "weights": digest,
        **results_depend(entry, job.run, dataset.digest),
    }
    return Store(job.run_dir.path / entry.name, _stem(evaluation), identity, job.run_dir.is_temporary)


def _stem(evaluation: Evaluation) -> str:
    """What files of this evaluation are called."""
    return "tta" if evaluation.tta else "plain"


def _detect(
    evaluation: Evaluation, model: "Detector", dataset: Dataset, job: Job, label: str, stream: ResultsStream
) -> "DetectionCost":
    """This process's share of the images."""
    from cascadezoo.benchmarks.verify.accuracy import detect_all

    return detect_all(
        model,
        dataset.chosen(job.settings.limit),
        stream,
        batch_size=job.batch_size,
        precision=job.settings.precision,
        tta=evaluation.tta,
        part=(job.world.rank, job.world.size),
        workers=job.workers,
        progress=job.progress and partial(job.progress, label),
    )


def _timing(shares: Sequence["DetectionCost"], seconds: float, evaluate: float) -> AccuracyTiming:
    """Of several processes the slowest decides: its time is the run's."""
    slowest = max(shares, key=lambda share: share.seconds)
    used = slowest.decode + slowest.inference
    return AccuracyTiming(
        seconds=round(seconds, 3),
        decode=round(slowest.decode, 3),
        inference=round(slowest.inference, 3),
        evaluate=round(evaluate, 3),
        outside_share=round(max(0.0, 1 - used / seconds), 4),
        images=sum(share.images for share in shares),
        batch_size=min(share.batch_size for share in shares),
        processes=len(shares),
        notes=tuple(dict.fromkeys(note for share in shares for note in share.notes)),
    )


def _time(entry: ZooEntry, model: "Detector", dataset: Dataset, job: Job) -> Speed | None:
    """The speed, measured by the first process alone."""
    if not job.world.is_first:
        return None
    from cascadezoo.benchmarks.verify.speed import measure

    settings = job.settings
    try:
        files = [image.path for image in dataset.images[:TIMED]]
        images = files if settings.decode else alone(lambda: [read_image(path) for path in files])
        timing = alone(lambda: measure(model, images, job.batch_size, settings.precision, least=settings.min_seconds))
    except Stopped as stopped:
        return _speed(entry, *stopped.failure)
    device = job.machine.device
    fps = {batch.batch_size: batch.fps for batch in timing.batches}
    reference = None if job.baseline is None else reference_of(job.baseline, entry.name)
    verdict, reason = judge_speed(device, settings.precision, fps, reference, settings.decode)
    return _speed(entry, verdict, reason).model_copy(update={"timing": timing})


def reference_of(baseline: Report, name: str) -> SpeedReference | None:
    """What an earlier report says of the speed of an entry, if anything."""
    for entry in baseline.entries:
        if entry.name == name and entry.speed and entry.speed.timing:
            fps = {batch.batch_size: batch.fps for batch in entry.speed.timing.batches}
            device = baseline.machines[entry.machine].device
            settings = baseline.settings
            return SpeedReference(device=device, precision=settings.precision, decode=settings.decode, fps=fps)
    return None


def _speed(entry: ZooEntry, verdict: Verdict, reason: str) -> Speed:
    return Speed(verdict=verdict, reason=reason, published_fps=entry.fps, published_device=entry.fps_device)


def _unmeasured(evaluation: Evaluation, settings: Settings, failure: Failure) -> Accuracy:
    return Accuracy(
        tta=evaluation.tta,
        basis=evaluation.basis,
        verdict=failure.verdict,
        reason=failure.reason,
        tolerance=_tolerance(evaluation, settings),
    )


def _tolerance(evaluation: Evaluation, settings: Settings) -> Decimal:
    return evaluation.tolerance if settings.tolerance is None else settings.tolerance
