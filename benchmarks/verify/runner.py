"""One entry measured and judged: an error stops only its own part, and finished parts are never measured twice.

Every process of a run goes through the same entries in the same order; each detects on its share of the batches, and
the first one merges, evaluates and judges.
"""

import functools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from cascadezoo.benchmarks.reports.schema import Accuracy, AccuracyTiming, EntryReport, Report, Settings, Speed
from cascadezoo.benchmarks.reports.verdict import SpeedReference, Verdict, judge_accuracy, judge_speed, overall
from cascadezoo.benchmarks.verify.attempts import Failure, Stopped, alone, in_every_process, of_every_process
from cascadezoo.benchmarks.verify.coco_layout import TIMED, Dataset
from cascadezoo.benchmarks.verify.results_stream import ResultsStream, merged, read_results
from cascadezoo.coco.metrics import published
from cascadezoo.distributed import World
from cascadezoo.errors import MissingResource, UnwritableOutput, WrongEntry
from cascadezoo.files import write_json
from cascadezoo.images import read_image
from cascadezoo.manifest import Evaluation, ZooEntry

if TYPE_CHECKING:
    from cascadezoo.benchmarks.verify.accuracy import DetectionCost
    from cascadezoo.detector import Detector

Progress: TypeAlias = Callable[[str, int, int], None]  # what is being done, images done, images in all

_ABSENT = (MissingResource, WrongEntry)

_log = logging.getLogger("cascadezoo")


@dataclass(frozen=True)
class Job:
    """What is the same for every entry of a run.

    Attributes:
        settings: as in the report.
        run_dir: where detections and finished reports are kept.
        dataset_of: an entry's data set, or a sentence why there is none.
        weights: a file instead of the published weights.
        device: a torch device's name.
        batch_size: images at a time.
        workers: processes that decode images; None for as many as suit the machine.
        baseline: an earlier report to compare the speed with.
        world: the processes of the run.
        progress: called with what is being done, images done, and images in all.
    """

    settings: Settings
    run_dir: Path
    dataset_of: Callable[[ZooEntry], Dataset | str]
    weights: Path | None
    device: str
    batch_size: int
    workers: int | None
    baseline: Report | None
    world: World
    progress: Progress | None


def verify_entry(entry: ZooEntry, job: Job) -> EntryReport:
    """Measure and judge one entry; every error becomes a verdict of what it stopped.  The same in every process."""
    finished = job.run_dir / entry.name / "report.json"
    for kept in job.world.broadcast(_finished(finished) if job.world.is_first else None):
        return kept
    report = job.world.broadcast(_measure_entry(entry, job))
    if job.world.is_first and not {Verdict.ERROR, Verdict.SKIPPED} & {report.verdict}:
        _keep(finished, report)
    return report


def _keep(path: Path, report: EntryReport) -> None:
    """Without it the run still ends as it should; going on with it would evaluate this entry again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, report.model_dump(mode="json"))
    except (OSError, UnwritableOutput) as error:
        _log.warning("%s is not kept: %s", path, error)


def _finished(path: Path) -> list[EntryReport]:
    return [EntryReport.model_validate_json(path.read_bytes())] if path.is_file() else []


def _measure_entry(entry: ZooEntry, job: Job) -> EntryReport | None:
    """The report, at the first process."""
    settings = job.settings
    try:
        dataset = in_every_process(job.world, lambda: _available(entry, job), skip=_ABSENT)
        # a file that was given and is wrong is an error; a published one that cannot be had is not ours to fail
        model, digest = in_every_process(job.world, lambda: _load(entry, job), skip=() if job.weights else _ABSENT)
    except Stopped as stopped:
        return _entry_report(entry, None, *_nothing(entry, settings, stopped.failure))
    accuracy = [_evaluate(entry, e, model, digest, dataset, job) for e in entry.evaluations if settings.accuracy]
    speed = _time(entry, model, dataset, job) if settings.speed else None
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

    begun = time.perf_counter()
    try:
        shares = of_every_process(job.world, lambda: _detect(entry, evaluation, model, digest, dataset, job))
        if shares is None:
            return None
        evaluating = time.perf_counter()
        images = dataset.chosen(job.settings.limit)
        results = merged([of_share for _, of_share in shares])
        figures = alone(lambda: figures_of(dataset, images, results, entry.has_masks, job.settings.evaluator))
        seconds = time.perf_counter() - begun
    except Stopped as stopped:
        return _unmeasured(evaluation, job.settings, stopped.failure)
    partial = f"{len(images)} of {len(dataset.images)} images" * (job.settings.limit is not None)
    tolerance = _tolerance(evaluation, job.settings)
    verdict, reason, checks = judge_accuracy(published(evaluation), figures, tolerance, partial)
    return Accuracy(
        tta=evaluation.tta,
        basis=evaluation.basis,
        verdict=verdict,
        reason=reason,
        tolerance=tolerance,
        checks=checks,
        figures=figures,
        dataset=dataset.name,
        annotations_sha256=dataset.digest,
        images=len(images),
        detections=len(results),
        timing=_timing([detected for detected, _ in shares], seconds, begun + seconds - evaluating),
    )


def _detect(
    entry: ZooEntry, evaluation: Evaluation, model: "Detector", digest: str, dataset: Dataset, job: Job
) -> tuple["DetectionCost", dict[int, Any]]:
    """This process's share of the images: what detecting took, and the results, read back from disk."""
    from cascadezoo.benchmarks.verify.accuracy import detect_all, results_path

    part = job.world.rank, job.world.size
    path = results_path(job.run_dir, entry.name, evaluation.tta, part)
    identity = {
        "entry": entry.name,
        "tta": evaluation.tta,
        "weights": digest,
        "annotations": dataset.digest,
        "precision": job.settings.precision,
    }
    label = f"{entry.name}{' tta' * evaluation.tta}"
    with ResultsStream(path, identity) as stream:
        detected = detect_all(
            model,
            dataset.chosen(job.settings.limit),
            stream,
            batch_size=job.batch_size,
            precision=job.settings.precision,
            tta=evaluation.tta,
            part=part,
            workers=job.workers,
            progress=job.progress and functools.partial(job.progress, label),
        )
    return detected, read_results(path)


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
    from cascadezoo.benchmarks.reports.schema import describe_machine
    from cascadezoo.benchmarks.verify.speed import measure

    settings = job.settings
    try:
        images = alone(lambda: [read_image(image.path) for image in dataset.images[:TIMED]])
        timing = alone(lambda: measure(model, images, job.batch_size, settings.precision))
    except Stopped as stopped:
        return _speed(entry, *stopped.failure)
    device = describe_machine(job.device, settings.evaluator).device
    fps = {batch.batch_size: batch.fps for batch in timing.batches}
    reference = None if job.baseline is None else reference_of(job.baseline, entry.name)
    verdict, reason = judge_speed(device, settings.precision, fps, reference)
    return _speed(entry, verdict, reason).model_copy(update={"timing": timing})


def reference_of(baseline: Report, name: str) -> SpeedReference | None:
    """What an earlier report says of the speed of an entry, if anything."""
    for entry in baseline.entries:
        if entry.name == name and entry.speed and entry.speed.timing:
            fps = {batch.batch_size: batch.fps for batch in entry.speed.timing.batches}
            device = baseline.machines[entry.machine].device
            return SpeedReference(device=device, precision=baseline.settings.precision, fps=fps)
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
