"""``cascadezoo.verify``: the published figures of entries, measured again and judged."""

import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from cascadezoo import manifest, registry
from cascadezoo.benchmarks.reports.schema import (
    EntryReport,
    GivenWeights,
    Machine,
    Precision,
    Report,
    ReportTiming,
    Settings,
    code_digest,
    now,
    read_report,
)
from cascadezoo.benchmarks.reports.verdict import Verdict
from cascadezoo.benchmarks.verify.attempts import Failure
from cascadezoo.benchmarks.verify.coco_layout import TIMED, Dataset, coco_val2017, require_limit, shapes_val
from cascadezoo.benchmarks.verify.estimates import costs
from cascadezoo.benchmarks.verify.fleet import require_ray
from cascadezoo.benchmarks.verify.job import Job
from cascadezoo.benchmarks.verify.live import PENDING, REPORT, LiveReport, settled_by
from cascadezoo.benchmarks.verify.run_folder import RunFolder, run_depends, run_folder
from cascadezoo.coco.evaluation import require_evaluator
from cascadezoo.environment import environment
from cascadezoo.errors import CascadezooError, UsageError, WeightsNotFound
from cascadezoo.files import file_sha256
from cascadezoo.manifest import ZooEntry
from cascadezoo.paths import expanded
from cascadezoo.version import __version__

if TYPE_CHECKING:
    from cascadezoo.benchmarks.verify.job import Progress

_NO_COCO = "no data: give --data-root DIR, a folder with annotations/instances_val2017.json and val2017/"
_BATCH_SIZE = {"cpu": 1, "cuda": 8}

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
    batch_size: int | None = None,
    evaluator: str = "pycocotools",
    tolerance: Decimal | float | str | None = None,
    baseline: str | Path | None = None,
    run_dir: str | Path | None = None,
    shard: tuple[int, int] | None = None,
    only_failed: str | Path | None = None,
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
    workers: int | None = None,
    progress: "Progress | None" = None,
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
        limit: only the first images of the data set; the verdict is PARTIAL, if it has more.
        device: such as "cuda:1"; default: the GPU where there is one.
        precision: "fp32", "fp16" or "bf16".
        batch_size: images that go through the network together; default: 1 on the CPU, 8 on a GPU.
        evaluator: "pycocotools" or "hotcoco".
        tolerance: in AP; default: the manifest's.
        baseline: an earlier report of the same device to compare the speed with.
        run_dir: where the detections are kept; the same call with the same folder goes on where it was interrupted,
            with any number of processes, and measures again only that whose figures can have changed.  Its
            ``report.json`` is the report so far; what is still to come is SKIPPED there.
        shard: (i, n): every n-th of the entries, from the i-th, counted from 1.
        only_failed: an earlier report, or a run folder that has one: what it says of an entry is taken as it is, unless
            that is FAIL or ERROR or the entry was not finished.
        engine: "local" is this process or those of ``torchrun``, one entry after another; "ray" a cluster of Ray, each
            entry in a process of its own with a GPU of its own, or, without GPUs, as many CPUs as torch has threads.
        address: of the cluster, as Ray takes it; default: one of this machine alone, for this call.
        workers: processes that decode images.
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
    settings = _settings(
        accuracy=accuracy, speed=speed, tta=tta, precision=precision, evaluator=evaluator, limit=limit,
        tolerance=None if tolerance is None else str(tolerance), shard=shard,
    )  # fmt: skip
    require_engine(engine, address, run_dir)
    entries = _chosen(names, shard)
    path = _weights(weights, entries)
    baseline_file = None if baseline is None else expanded(baseline)
    reference = None if baseline_file is None else read_report(baseline_file)
    given = None if path is None else GivenWeights(name=path.name, sha256=file_sha256(path))
    earlier = None if only_failed is None else read_report(report_in(expanded(only_failed)))
    taken = {} if earlier is None else settled_by(earlier, settings, given and given.sha256)
    coco = _coco(data_root, [entry for entry in entries if entry.name not in taken], limit, speed)
    from cascadezoo.benchmarks.verify import engines  # and torch, now that there is something to measure
    from cascadezoo.benchmarks.verify.runner import failed

    kept = None if run_dir is None else expanded(run_dir)
    if engine == "ray":
        shared = [file for file in (coco and coco.annotations, path) if file]
        started = engines.on_ray(address, device, shared)
    else:
        started = engines.here(device)
    with started as measuring, run_folder(kept, measuring.world.is_first) as folder:
        is_first = measuring.world.is_first
        machine = measuring.machine(evaluator, folder)
        run = run_depends(settings, machine, None if baseline_file is None else file_sha256(baseline_file))
        if run_dir is not None and is_first:
            folder.claim(run)
        job = Job(
            settings=settings,
            run=run,
            run_dir=folder,
            dataset_of=_Data(coco),
            weights=path,
            given=given,
            device=measuring.device,
            machine=machine,
            batch_size=batch_size or _BATCH_SIZE.get(measuring.device.split(":")[0], 1),
            workers=workers,
            baseline=reference,
            world=measuring.world,
            progress=progress if is_first and engine == "local" else None,
        )
        pending = [failed(entry, job, Failure(Verdict.SKIPPED, PENDING)) for entry in entries]
        head = _report(settings, machine, date)
        live = LiveReport(head, pending, folder.path / REPORT if run_dir is not None and is_first else None)
        todo, done = [], 0

        def tell(left: float | None) -> None:
            if total and is_first:
                total(done, len(entries), left)

        def settle(report: EntryReport) -> None:
            nonlocal done
            done += 1
            if finished and is_first:
                finished(report)
            live.write(time.perf_counter() - start)

        for entry in entries:
            if earlier is not None and (one := taken.get(entry.name)):
                settle(live.take(one, earlier.machines[one.machine]))
            else:
                todo.append(entry)
        if earlier is not None:
            _begin_again(earlier, todo, folder if is_first else None)
        measuring.world.wait()  # for what was removed
        expected = costs(todo, settings, _timed(folder, reference, earlier))
        live.write(time.perf_counter() - start)
        for report in measuring.reports(todo, job, expected, tell):
            live.add(report)
            settle(report)
            if run_dir is None:
                shutil.rmtree(folder.path / report.name, ignore_errors=True)  # detections of one entry may fill 200 MB
        return measuring.world.broadcast(live.whole(time.perf_counter() - start))


class _Data:
    """Each entry's data set, or a sentence why there is none; what was read of it stays here."""

    def __init__(self, coco: Dataset | None) -> None:
        self._coco = coco

    def __call__(self, entry: ZooEntry) -> Dataset | str:
        return shapes_val() if entry.data == "shapes" else self._coco or _NO_COCO

    def __reduce__(self) -> tuple[type["_Data"], tuple[Dataset | None]]:
        return _Data, (self._coco and replace(self._coco),)  # a copy that has read nothing


def report_in(path: Path) -> Path:
    """The file of a report: the path itself, or of a run folder the report in it."""
    return path / REPORT if path.is_dir() else path


def require_engine(engine: str, address: str | None, run_dir: str | Path | None) -> None:
    """Raise UsageError or MissingResource where this engine cannot be had, or not so."""
    if engine not in ("local", "ray"):
        raise UsageError(f"no engine is called {engine!r}: choose local or ray")
    if address is not None and engine != "ray":
        raise UsageError("an address is of Ray's cluster: give the engine ray with it")
    if engine == "ray":
        require_ray()
        if address is not None and run_dir is None:
            raise UsageError("the machines of a cluster meet in a run folder: give --run-dir DIR, where all can write")
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UsageError("torchrun and the engine ray both share out the work: use one of them")


def _begin_again(earlier: Report, todo: Sequence[ZooEntry], folder: RunFolder | None) -> None:
    """Of what failed nothing counts, its detections included; of other code than now, the rest is warned of."""
    failing = {entry.name for entry in earlier.entries if entry.verdict is Verdict.FAIL}
    if folder is not None:
        for entry in todo:
            if entry.name in failing:
                folder.forget(entry.name)
        for reason in earlier.stale():
            _log.warning("what is taken from the earlier report is of another state: %s", reason)


def _timed(folder: RunFolder, *reports: Report | None) -> list[Report]:
    """Reports that may have times of entries: those given, and the run folder's of an earlier call."""
    with suppress(CascadezooError):
        return [read_report(folder.path / REPORT), *filter(None, reports)]
    return [*filter(None, reports)]


def _report(settings: Settings, machine: Machine, date: str) -> Report:
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


def _settings(**given: Any) -> Settings:
    require_limit(given["limit"])
    require_evaluator(given["evaluator"])
    if not (given["accuracy"] or given["speed"]):
        raise UsageError("neither accuracy nor speed: nothing to verify")
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _chosen(names: str | Sequence[str] | None, shard: tuple[int, int] | None) -> list[ZooEntry]:
    given = [names] if isinstance(names, str) else names
    entries = (
        list(registry.entries()) if given is None else list({e.name: e for e in map(registry.info, given)}.values())
    )
    if shard is None:
        return entries
    index, count = shard
    if not 1 <= index <= count:
        raise UsageError(f"shard {index}/{count}: give i/n with i from 1 to n")
    return entries[index - 1 :: count]


def _weights(weights: str | Path | None, entries: Sequence[ZooEntry]) -> Path | None:
    if weights is None:
        return None
    if len(entries) != 1:
        raise UsageError(f"weights are of one entry, and {len(entries)} were chosen: give one name")
    path = expanded(weights)
    if not path.is_file():
        raise WeightsNotFound(f"{path} is not a file: give the path of a .safetensors or of a publisher's checkpoint")
    return path


def _coco(root: str | Path | None, entries: Sequence[ZooEntry], limit: int | None, speed: bool) -> Dataset | None:
    """COCO, checked, where it was given and an entry needs it."""
    if root is None or not any(entry.data == "coco" for entry in entries):
        return None
    dataset = coco_val2017(expanded(root))
    masks = any(entry.has_masks for entry in entries if entry.data == "coco")
    dataset.check(limit and max(limit, TIMED * speed), masks=masks)
    return dataset
