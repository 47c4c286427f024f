"""One entry measured and judged: an error stops only its own part, and finished parts are never measured twice.

Every process of a run goes through the same entries in the same order; each detects on its share of the batches, and
the first one merges, evaluates and judges.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from cascadezoo.benchmarks.reports.rows import counted
from cascadezoo.benchmarks.reports.schema import (
    Accuracy,
    AccuracyTiming,
    EntryReport,
    Precision,
    Report,
    Settings,
    Speed,
)
from cascadezoo.benchmarks.reports.verdict import SpeedReference, Verdict, judge_accuracy, judge_speed, overall
from cascadezoo.benchmarks.verify.attempts import Failure, Stopped, alone, in_every_process
from cascadezoo.benchmarks.verify.coco_layout import TIMED, Dataset
from cascadezoo.benchmarks.verify.job import Job, finished_parts, joined, kept, settled
from cascadezoo.benchmarks.verify.results_stream import Results, ResultsStream, kept_results
from cascadezoo.benchmarks.verify.run_folder import Part, results_depend
from cascadezoo.benchmarks.verify.shares import Store, accounted, results_of_all
from cascadezoo.coco.metrics import published
from cascadezoo.errors import MissingResource, WrongEntry
from cascadezoo.images import read_image
from cascadezoo.manifest import Evaluation, ZooEntry

if TYPE_CHECKING:
    from cascadezoo.benchmarks.verify.accuracy import DetectionCost
    from cascadezoo.detector import Detector

_ABSENT = (MissingResource, WrongEntry)


@dataclass(frozen=True)
class Detected:
    """The half of an entry that needs the device, done by one process; the results lie on disk.

    Attributes:
        digest: of the weights; None where nothing could be measured.
        accuracy: of each evaluation what detecting took, or its part of the report where that is all there will be.
        speed: where it was asked for.
        failure: why nothing could be measured.
    """

    digest: str | None
    accuracy: tuple["DetectionCost | Accuracy", ...]
    speed: Speed | None
    failure: Failure | None = None


def verify_entry(entry: ZooEntry, job: Job) -> EntryReport:
    """Measure and judge one entry; every error becomes a verdict of what it stopped.  The same in every process."""
    finished = job.world.broadcast(finished_parts(entry, job) if job.world.is_first else None)
    if (report := settled(finished, job)) is not None:
        return report
    report = job.world.broadcast(_measure_entry(entry, job, finished.parts))
    return kept(entry, job, finished, report) if job.world.is_first else joined(finished, report, job)


def detect_entry(entry: ZooEntry, job: Job, done: Collection[Part]) -> Detected:
    """The detections of an entry, on disk, and its speed, less the parts that are ``done``; in a world of one."""
    settings = job.settings
    try:
        dataset, model, digest = _ready(entry, job)
    except Stopped as stopped:
        accuracy, speed = _nothing(entry, settings, stopped.failure)
        return Detected(None, tuple(accuracy), speed, stopped.failure)
    evaluations = entry.evaluations if settings.accuracy and "accuracy" not in done else ()
    costs = tuple(_detect_alone(entry, evaluation, model, digest, dataset, job) for evaluation in evaluations)
    speed = _time(entry, model, dataset, job) if settings.speed and "speed" not in done else None
    return Detected(digest, costs, speed)


def judge_entry(entry: ZooEntry, job: Job, detected: Detected) -> EntryReport:
    """The figures and verdicts of an entry whose detections lie on disk; needs neither its model nor its device."""
    parts = [
        part if isinstance(part, Accuracy) else _judge_alone(entry, evaluation, detected.digest or "", job, part)
        for evaluation, part in zip(entry.evaluations, detected.accuracy, strict=False)  # none where all are finished
    ]
    return _entry_report(entry, detected.digest, parts, detected.speed)


def unavailable(entry: ZooEntry, job: Job) -> EntryReport | None:
    """The report of an entry whose data or weights are not to be had, as far as it shows before anything is loaded."""
    try:
        in_every_process(job.world, lambda: _available(entry, job), skip=_ABSENT)
    except Stopped as stopped:
        return failed(entry, job, stopped.failure)
    return None


def failed(entry: ZooEntry, job: Job, failure: Failure) -> EntryReport:
    """The report of an entry of which nothing could be measured."""
    return _entry_report(entry, None, *_nothing(entry, job.settings, failure))


def _measure_entry(entry: ZooEntry, job: Job, done: Collection[Part]) -> EntryReport | None:
    """The report, at the first process, of the parts that are not ``done``."""
    settings = job.settings
    try:
        dataset, model, digest = _ready(entry, job)
    except Stopped as stopped:
        return _entry_report(entry, None, *_nothing(entry, settings, stopped.failure))
    if settings.accuracy and "accuracy" not in done:
        accuracy = [_evaluate(entry, evaluation, model, digest, dataset, job) for evaluation in entry.evaluations]
    else:
        accuracy = []
    speed = _time(entry, model, dataset, job) if settings.speed and "speed" not in done else None
    job.world.wait()  # the others wait for the stop-watch
    return _entry_report(entry, digest, accuracy, speed) if job.world.is_first else None


def _ready(entry: ZooEntry, job: Job) -> tuple[Dataset, "Detector", str]:
    """The data set, the model on its device and the digest of its weights; raises Stopped."""
    dataset = in_every_process(job.world, lambda: _available(entry, job), skip=_ABSENT)
    # a file that was given and is wrong is an error; a published one that cannot be had is not ours to fail
    model, digest = in_every_process(job.world, lambda: _load(entry, job), skip=() if job.weights else _ABSENT)
    return dataset, model, digest


def _entry_report(
    entry: ZooEntry, digest: str | None, accuracy: Sequence[Accuracy | None], speed: Speed | None
) -> EntryReport:
    parts = tuple(evaluation for evaluation in accuracy if evaluation)
    verdicts = [part.verdict for part in parts] + ([speed.verdict] if speed else [])
    return EntryReport(name=entry.name, verdict=overall(verdicts), weights_digest=digest, accuracy=parts, speed=speed)


def _nothing(entry: ZooEntry, settings: Settings, failure: Failure) -> tuple[list[Accuracy], Speed | None]:
    """Every part of an entry of which nothing could be measured."""
    accuracy = [_unmeasured(evaluation, settings, failure) for evaluation in entry.evaluations if settings.accuracy]
    return accuracy, _speed(entry, failure.verdict, failure.reason) if settings.speed else None


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
    model = model.to(job.device)
    if job.settings.optimize:
        return model.optimize(precision=job.settings.precision, exact=job.settings.exact), digest
    return model, digest


def _evaluate(
    entry: ZooEntry, evaluation: Evaluation, model: "Detector", digest: str, dataset: Dataset, job: Job
) -> Accuracy | None:
    """One evaluation, at the first process; the others do their share and return None."""
    if (unasked := _unasked(evaluation, job.settings)) is not None:
        return unasked
    label = _label(entry, evaluation)
    begun = time.perf_counter()
    try:
        store = _store(entry, evaluation, digest, dataset, job)
        shares = results_of_all(job.world, store, partial(_detect, evaluation, model, dataset, job, label))
    except Stopped as stopped:
        return _unmeasured(evaluation, job.settings, stopped.failure)
    if shares is None:
        return None
    costs, results = zip(*shares, strict=True)
    return _judge(entry, evaluation, dataset, job, costs, results, time.perf_counter() - begun)


def _detect_alone(
    entry: ZooEntry, evaluation: Evaluation, model: "Detector", digest: str, dataset: Dataset, job: Job
) -> "DetectionCost | Accuracy":
    """The detections of one evaluation, left on disk."""
    if (unasked := _unasked(evaluation, job.settings)) is not None:
        return unasked
    detect = partial(_detect, evaluation, model, dataset, job, _label(entry, evaluation))
    try:
        shares = results_of_all(job.world, _store(entry, evaluation, digest, dataset, job), detect)
    except Stopped as stopped:
        return _unmeasured(evaluation, job.settings, stopped.failure)
    assert shares is not None  # a world of one
    ((cost, _),) = shares
    return cost


def _judge_alone(entry: ZooEntry, evaluation: Evaluation, digest: str, job: Job, cost: "DetectionCost") -> Accuracy:
    """The figures of one evaluation from the detections on disk."""
    try:
        dataset = alone(lambda: _available(entry, job))
        store = _store(entry, evaluation, digest, dataset, job)
        results = alone(lambda: dict(kept_results(store.files(), store.identity)))
    except Stopped as stopped:
        return _unmeasured(evaluation, job.settings, stopped.failure)
    return _judge(entry, evaluation, dataset, job, [cost], [results], cost.seconds)


def _judge(
    entry: ZooEntry,
    evaluation: Evaluation,
    dataset: Dataset,
    job: Job,
    costs: Sequence["DetectionCost"],
    shares: Sequence[dict[int, Results]],
    detecting: float,
) -> Accuracy:
    """The figures and the verdict on the results of all processes, which took so many seconds to make."""
    from cascadezoo.benchmarks.verify.accuracy import figures_of

    begun = time.perf_counter()
    images = dataset.chosen(job.settings.limit)
    try:
        results = alone(lambda: accounted(images, shares))
        folder = job.analysis and job.analysis / entry.name / _stem(evaluation)
        figures = alone(lambda: figures_of(dataset, images, results, entry.has_masks, job.settings.evaluator, folder))
    except Stopped as stopped:
        return _unmeasured(evaluation, job.settings, stopped.failure)
    evaluating = time.perf_counter() - begun
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
        timing=_timing(costs, detecting + evaluating, evaluating),
    )


def _unasked(evaluation: Evaluation, settings: Settings) -> Accuracy | None:
    if not evaluation.tta or settings.tta:
        return None
    return _unmeasured(evaluation, settings, Failure(Verdict.SKIPPED, "test-time augmentation: needs --tta"))


def _label(entry: ZooEntry, evaluation: Evaluation) -> str:
    return f"{entry.name}{' tta' * evaluation.tta}"


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
        precision=_autocast(job.settings),
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
        timing = alone(lambda: measure(model, images, job.batch_size, _autocast(settings), least=settings.min_seconds))
    except Stopped as stopped:
        return _speed(entry, stopped.failure.verdict, stopped.failure.reason)
    device = job.machine.device
    fps = {batch.batch_size: batch.fps for batch in timing.batches}
    reference = None if job.baseline is None else reference_of(job.baseline, entry.name)
    verdict, reason = judge_speed(device, settings.computed_in, fps, reference, settings.decode)
    return _speed(entry, verdict, reason).model_copy(update={"timing": timing})


def reference_of(baseline: Report, name: str) -> SpeedReference | None:
    """What an earlier report says of the speed of an entry, if anything."""
    for entry in baseline.entries:
        if entry.name == name and entry.speed and entry.speed.timing:
            fps = {batch.batch_size: batch.fps for batch in entry.speed.timing.batches}
            device = baseline.machines[entry.machine].device
            settings = baseline.settings
            return SpeedReference(device=device, precision=settings.computed_in, decode=settings.decode, fps=fps)
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


def _autocast(settings: Settings) -> Precision:
    """What torch's autocast is asked for: an optimised model computes in its own precision."""
    return "fp32" if settings.optimize else settings.precision


def _tolerance(evaluation: Evaluation, settings: Settings) -> Decimal:
    return evaluation.tolerance if settings.tolerance is None else settings.tolerance
