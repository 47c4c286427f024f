"""``cascadezoo.verify``: the published figures of entries, measured again and judged."""

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

from cascadezoo import manifest
from cascadezoo.benchmarks.reports.digest import code_digest
from cascadezoo.benchmarks.reports.schema import (
    EntryReport,
    Machine,
    Precision,
    Report,
    ReportTiming,
    Settings,
    now,
)
from cascadezoo.benchmarks.reports.verdict import Verdict
from cascadezoo.benchmarks.verify.attempts import Failure
from cascadezoo.benchmarks.verify.estimates import costs
from cascadezoo.benchmarks.verify.fleet import EngineName
from cascadezoo.benchmarks.verify.job import Job, Progress
from cascadezoo.benchmarks.verify.live import PENDING, REPORT, LiveReport, earlier_report
from cascadezoo.benchmarks.verify.request import Data, Request, default_batch_size, requested
from cascadezoo.benchmarks.verify.run_folder import RunFolder, run_depends, run_folder
from cascadezoo.coco.evaluation import DEFAULT
from cascadezoo.environment import environment
from cascadezoo.manifest import ZooEntry
from cascadezoo.version import __version__

_log = logging.getLogger("cascadezoo")


def verify(
    names: str | Sequence[str] | None = None,
    *,
    weights: str | Path | None = None,
    data_root: str | Path | None = None,
    accuracy: bool = True,
    speed: bool = True,
    tta: bool = False,
    limit: int | None = None,
    device: str | None = None,
    precision: Precision = "fp32",
    optimize: bool = False,
    exact: bool = False,
    batch_size: int | None = None,
    evaluator: str = DEFAULT,
    tolerance: Decimal | float | str | None = None,
    decode: bool = False,
    min_seconds: float = 0,
    baseline: str | Path | None = None,
    run_dir: str | Path | None = None,
    shard: tuple[int, int] | None = None,
    only_failed: str | Path | None = None,
    engine: EngineName | None = None,
    address: str | None = None,
    workers: int | None = None,
    analysis: str | Path | None = None,
    progress: Progress | None = None,
    finished: Callable[[EntryReport], None] | None = None,
    total: Callable[[int, int, float | None], None] | None = None,
) -> Report:
    """Measure box AP, mask AP and speed of entries with their publishers' test settings, and judge them.

    Under ``torchrun`` the processes share the images; each returns the same report.

    Args:
        names: entries; default: all.
        weights: a file, for a single entry; default: the published weights.
        data_root: COCO in its usual layout.  Without it only our own entries can be verified, the others are SKIPPED.
        accuracy, speed: what to measure.
        tta: also the evaluations with test-time augmentation, which are SKIPPED otherwise.
        limit: only so many images, the first of the data set; the verdict is PARTIAL, if it has more.
        device: such as "cuda:1"; default: the GPU where there is one.
        precision: "fp32", "fp16" or "bf16".
        optimize: measure what ``model.optimize(precision=…, exact=…)`` makes, rather than the model as it was loaded.
        exact: of an optimised model on a CPU, convolutions by plain sums.
        batch_size: images that go through the network together; default: 1 on the CPU, 8 on a GPU.
        evaluator: "hotcoco" or "pycocotools", whose figures are the same.
        tolerance: the difference in AP that still passes, 0 to 100; default: the manifest's, which is 0.1.
        decode: speed includes decoding the image files, on one thread.
        min_seconds: how long each batch size is timed at least, 0 to 86400, even once its median has settled.
        baseline: an earlier report of the same device to compare the speed with; more than 10 % slower is FAIL.
        run_dir: where the detections are kept; the same call with the same folder goes on where it was interrupted,
            with any number of processes, and measures again only that whose figures can have changed.  Its
            ``report.json`` is the report so far; what is still to come is SKIPPED there.
        shard: (i, n): every n-th of the entries, from the i-th, counted from 1.
        only_failed: an earlier report, or a run folder that has one: what it says of an entry is taken as it is, unless
            that is FAIL or ERROR or the entry was not finished.
        engine: "ray" for a cluster of Ray, each entry in a process of its own with a GPU of its own, or, without GPUs,
            as many CPUs as torch has threads; default: this process or those of ``torchrun``, entry by entry.
        address: of the cluster, as Ray takes it; default: one of this machine alone, for this call.
        workers: processes that decode images.
        analysis: a folder; of each evaluation ``<entry>/plain/`` or ``<entry>/tta/`` gets the results in COCO's format
            and what they tell by class, by kind of error and image by image (``cascadezoo.analysis.folder``).
        progress: called with what is being done, and how many images of how many are; not with the engine "ray".
        finished: called with the report of each entry.
        total: called now and then with the entries that are done, all entries, and about how many seconds are left,
            None where nothing tells.

    Raises:
        UsageError: unknown names, options that contradict each other, a ``run_dir`` of another run or in use, or
            machines of a cluster that are not alike or do not share the files.
        MissingResource, FileError: ``weights``, ``data_root``, ``baseline``, ``only_failed`` or Ray's cluster were
            given and cannot be used.
    """
    start, date = time.perf_counter(), now()
    request = requested(
        names, weights=weights, data_root=data_root, accuracy=accuracy, speed=speed, tta=tta, limit=limit,
        precision=precision, optimize=optimize, exact=exact, evaluator=evaluator, tolerance=tolerance,
        decode=decode, min_seconds=min_seconds,
        analysis=analysis, baseline=baseline, run_dir=run_dir,
        only_failed=only_failed, engine=engine, address=address, shard=shard,
    )  # fmt: skip
    from cascadezoo.benchmarks.verify import engines  # and torch, now that there is something to measure
    from cascadezoo.benchmarks.verify.runner import failed

    started = engines.on_ray(address, device, request.shared) if engine == "ray" else engines.here(device)
    with started as measuring, run_folder(request.run_dir, measuring.world.is_first) as folder:
        settings, is_first = request.settings, measuring.world.is_first
        machine = measuring.machine(evaluator, folder)
        run = run_depends(settings, machine, request.baseline_sha256)
        if not folder.is_temporary and is_first:
            folder.claim(run)
        job = Job(
            settings=settings,
            run=run,
            run_dir=folder,
            dataset_of=Data(request.dataset),
            weights=request.weights,
            given=request.given,
            device=measuring.device,
            machine=machine,
            batch_size=batch_size or default_batch_size(measuring.device),
            workers=workers,
            baseline=request.baseline,
            world=measuring.world,
            analysis=request.analysis,
            progress=progress if is_first and engine is None else None,
        )
        taken = request.taken
        todo = [entry for entry in request.entries if entry.name not in taken]
        live = LiveReport(
            _head(settings, machine, date),
            [failed(entry, job, Failure(Verdict.SKIPPED, PENDING)) for entry in request.entries],
            folder.path / REPORT if is_first and not folder.is_temporary else None,
        )
        done = 0

        def settle(report: EntryReport) -> None:
            nonlocal done
            done += 1
            if finished and is_first:
                finished(report)

        expected = costs(todo, settings, _timed(folder, request))
        for entry in request.entries:
            if request.earlier and (one := taken.get(entry.name)):
                settle(live.take(one, request.earlier.machines[one.machine]))
        if is_first:
            _begin_again(request, todo, folder)
        measuring.world.wait()  # for what was removed
        live.write(time.perf_counter() - start)

        def tell(left: float | None) -> None:
            if total and is_first:
                total(done, len(request.entries), left)

        for report in measuring.reports(todo, job, expected, tell):
            live.add(report)
            live.write(time.perf_counter() - start)
            settle(report)
            if folder.is_temporary:
                shutil.rmtree(folder.path / report.name, ignore_errors=True)  # detections of one entry may fill 200 MB
        seconds = time.perf_counter() - start
        live.write(seconds)
        return measuring.world.broadcast(live.whole(seconds))


def _begin_again(request: Request, todo: Sequence[ZooEntry], folder: RunFolder) -> None:
    """Of what failed nothing counts, its detections included; of other code than now, the rest is warned of."""
    if request.earlier is None:
        return
    failing = {entry.name for entry in request.earlier.entries if entry.verdict is Verdict.FAIL}
    for entry in todo:
        if entry.name in failing:
            folder.forget(entry.name)
    for reason in request.earlier.stale():
        _log.warning("what is taken from the earlier report is of another state: %s", reason)


def _timed(folder: RunFolder, request: Request) -> list[Report]:
    """Reports that may have times of entries: the run folder's of an earlier call, and those given."""
    return [report for report in (earlier_report(folder.path), request.baseline, request.earlier) if report]


def _head(settings: Settings, machine: Machine, date: str) -> Report:
    """A report without entries."""
    here = environment()
    return Report(
        settings=settings,
        version=__version__,
        commit=here["commit"],
        modified=here["modified"],
        manifest_sha256=manifest.digest(),
        code_sha256=code_digest(),
        machines=(machine,),
        entries=(),
        timing=ReportTiming(date=date, seconds=0.0),
    )
