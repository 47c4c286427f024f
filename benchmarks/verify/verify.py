"""``cascadezoo.verify``: the published figures of entries, measured again and judged."""

import shutil
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    describe_machine,
    now,
    read_report,
)
from cascadezoo.benchmarks.verify.coco_layout import TIMED, Dataset, coco_val2017, require_limit, shapes_val
from cascadezoo.benchmarks.verify.run_folder import run_depends, run_folder
from cascadezoo.coco.evaluation import DEFAULT, require_evaluator
from cascadezoo.environment import environment
from cascadezoo.errors import UsageError, WeightsNotFound
from cascadezoo.files import file_sha256
from cascadezoo.manifest import ZooEntry
from cascadezoo.paths import expanded
from cascadezoo.version import __version__

if TYPE_CHECKING:
    from cascadezoo.benchmarks.verify.runner import Progress

_NO_COCO = "no data: give --data-root DIR, a folder with annotations/instances_val2017.json and val2017/"
_BATCH_SIZE = {"cpu": 1, "cuda": 8}


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
    evaluator: str = DEFAULT,
    tolerance: Decimal | float | str | None = None,
    decode: bool = False,
    min_seconds: float = 0,
    baseline: str | Path | None = None,
    run_dir: str | Path | None = None,
    shard: tuple[int, int] | None = None,
    workers: int | None = None,
    analysis: str | Path | None = None,
    progress: "Progress | None" = None,
    finished: Callable[[EntryReport], None] | None = None,
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
        evaluator: "hotcoco" or "pycocotools", whose figures are the same.
        tolerance: in AP; default: the manifest's.
        decode: speed includes decoding the image files, on one thread.
        min_seconds: that each batch size is timed for, even once its median has settled.
        baseline: an earlier report of the same device to compare the speed with.
        run_dir: where the detections are kept; the same call with the same folder goes on where it was interrupted,
            with any number of processes, and measures again only that whose figures can have changed.
        shard: (i, n): every n-th of the entries, from the i-th, counted from 1.
        workers: processes that decode images.
        analysis: a folder; of each evaluation ``<entry>/plain/`` or ``<entry>/tta/`` gets the results in COCO's format
            and what they tell by class, by kind of error and image by image (``cascadezoo.analysis.folder``).
        progress: called with what is being done, and how many images of how many are.
        finished: called with the report of each entry.

    Raises:
        UsageError: unknown names, options that contradict each other, or a ``run_dir`` of another run or in use.
        MissingResource, FileError: ``weights``, ``data_root`` or ``baseline`` were given and cannot be used.
    """
    start, date = time.perf_counter(), now()
    if analysis is not None and not accuracy:
        raise UsageError("an analysis is of detections, and only speed was asked for: measure accuracy, too")
    settings = _settings(
        accuracy=accuracy, speed=speed, tta=tta, precision=precision, evaluator=evaluator, limit=limit,
        tolerance=None if tolerance is None else str(tolerance), shard=shard, decode=decode, min_seconds=min_seconds,
    )  # fmt: skip
    entries = _chosen(names, shard)
    path = _weights(weights, entries)
    baseline_file = None if baseline is None else expanded(baseline)
    reference = None if baseline_file is None else read_report(baseline_file)
    coco = _coco(data_root, entries, limit, speed)
    from cascadezoo.benchmarks.verify.runner import (  # and torch, now that there is something to measure
        Job,
        verify_entry,
    )
    from cascadezoo.devices import random_state_kept
    from cascadezoo.distributed import join

    given = None if path is None else GivenWeights(name=path.name, sha256=file_sha256(path))
    kept = None if run_dir is None else expanded(run_dir)
    with join(device, backend="gloo") as world, run_folder(kept, world.is_first) as folder:
        device = str(world.device)
        machine = describe_machine(device, evaluator)
        run = run_depends(settings, machine, None if baseline_file is None else file_sha256(baseline_file))
        if run_dir is not None and world.is_first:
            folder.claim(run)
        job = Job(
            settings=settings,
            run=run,
            run_dir=folder,
            dataset_of=lambda entry: shapes_val() if entry.data == "shapes" else coco or _NO_COCO,
            weights=path,
            given=given,
            device=device,
            machine=machine,
            batch_size=batch_size or _BATCH_SIZE.get(device.split(":")[0], 1),
            workers=workers,
            baseline=reference,
            world=world,
            analysis=None if analysis is None else expanded(analysis),
            progress=progress if world.is_first else None,
        )
        reports = []
        for entry in entries:
            with random_state_kept(world.device):
                report = verify_entry(entry, job)
            if finished and world.is_first:
                finished(report)
            if run_dir is None:
                shutil.rmtree(folder.path / entry.name, ignore_errors=True)  # detections of one entry may fill 200 MB
            reports.append(report)
        return world.broadcast(_report(settings, machine, tuple(reports), date, time.perf_counter() - start))


def _report(
    settings: Settings, machine: Machine, entries: tuple[EntryReport, ...], date: str, seconds: float
) -> Report:
    here = environment()
    return Report(
        settings=settings,
        version=__version__,
        commit=here["commit"],
        modified=here["modified"],
        manifest_sha256=manifest.digest(),
        code_sha256=code_digest(),
        machines=(machine,),
        entries=entries,
        timing=ReportTiming(date=date, seconds=round(seconds, 3)),
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
