"""What a verification is asked for: options checked, files read, data looked for, before torch is imported."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cascadezoo import registry
from cascadezoo.benchmarks.reports.schema import EntryReport, GivenWeights, Precision, Report, Settings, read_report
from cascadezoo.benchmarks.verify.coco_layout import NAMES, TIMED, Dataset, found_in, require_limit, shapes_val
from cascadezoo.benchmarks.verify.fleet import EngineName, require_engine
from cascadezoo.benchmarks.verify.live import REPORT, settled_by
from cascadezoo.coco.evaluation import DEFAULT, require_evaluator
from cascadezoo.errors import UsageError, WeightsNotFound
from cascadezoo.files import file_sha256
from cascadezoo.manifest import ZooEntry
from cascadezoo.paths import expanded

NO_DATA = {
    "coco": "no data: give --data-root DIR, a folder with annotations/instances_val2017.json and val2017/",
    "nuimages": "no data: give --data-root DIR, a folder with annotations/nuimages_v1.0-val.json and samples/",
}
_BATCH_SIZE = {"cpu": 1, "cuda": 8}


class Data:
    """Each entry's data set, or a sentence why there is none; what was read of it stays here."""

    def __init__(self, given: Dataset | None) -> None:
        self._given = given

    def __call__(self, entry: ZooEntry) -> Dataset | str:
        return shapes_val() if entry.data == "shapes" else self._given or NO_DATA[entry.data]

    def __reduce__(self) -> tuple[type["Data"], tuple[Dataset | None]]:
        return Data, (self._given and replace(self._given),)  # a copy that has read nothing


@dataclass(frozen=True)
class Request:
    """A verification as it was asked for.

    Attributes:
        settings: as in the report.
        entries: that were chosen.
        weights: a file instead of the published weights.
        given: the same file as reports name it.
        baseline: an earlier report to compare the speed with.
        baseline_sha256: of its file.
        earlier: a report whose entries are taken, except for those that failed.
        run_dir: where detections are kept.
        analysis: where what the results tell beyond the figures is written.
        dataset: what lies under the data root, where one was given and is needed.
    """

    settings: Settings
    entries: Sequence[ZooEntry]
    weights: Path | None
    given: GivenWeights | None
    baseline: Report | None
    baseline_sha256: str | None
    earlier: Report | None
    run_dir: Path | None
    analysis: Path | None
    dataset: Dataset | None

    @property
    def taken(self) -> Mapping[str, EntryReport]:
        """What the earlier report settles, by the entry's name."""
        return _taken(self.earlier, self.settings, self.given)

    @property
    def shared(self) -> list[Path]:
        """Files that every machine has to see."""
        return [path for path in (self.dataset and self.dataset.annotations, self.weights) if path]


def requested(
    names: str | Sequence[str] | None,
    *,
    weights: str | Path | None = None,
    data_root: str | Path | None = None,
    accuracy: bool = True,
    speed: bool = True,
    tta: bool = False,
    limit: int | None = None,
    precision: Precision = "fp32",
    optimize: bool = False,
    exact: bool = False,
    evaluator: str = DEFAULT,
    tolerance: Decimal | float | str | None = None,
    decode: bool = False,
    min_seconds: float = 0,
    analysis: str | Path | None = None,
    baseline: str | Path | None = None,
    run_dir: str | Path | None = None,
    only_failed: str | Path | None = None,
    engine: EngineName | None = None,
    address: str | None = None,
    shard: tuple[int, int] | None = None,
) -> Request:
    """The request of a call of ``verify``, whose arguments these are.  Raises as it does."""
    if analysis is not None and not accuracy:
        raise UsageError("an analysis is of detections, and only speed was asked for: measure accuracy, too")
    if exact and not optimize:
        raise UsageError("exact is for an optimised model: optimize it too, or leave exact out")
    settings = _settings(
        accuracy=accuracy, speed=speed, tta=tta, precision=precision, optimize=optimize, exact=exact,
        evaluator=evaluator, limit=limit,
        tolerance=None if tolerance is None else str(tolerance), shard=shard, decode=decode, min_seconds=min_seconds,
    )  # fmt: skip
    require_engine(engine, address, run_dir)
    located = expanded if engine is None else _everywhere
    entries = _chosen(names, shard)
    path = None if weights is None else _weights(located(weights), entries)
    given = None if path is None else GivenWeights(name=path.name, sha256=file_sha256(path))
    baseline_file = None if baseline is None else expanded(baseline)
    earlier = None if only_failed is None else read_report(report_in(expanded(only_failed)))
    taken = _taken(earlier, settings, given)
    return Request(
        settings=settings,
        entries=entries,
        weights=path,
        given=given,
        baseline=None if baseline_file is None else read_report(baseline_file),
        baseline_sha256=None if baseline_file is None else file_sha256(baseline_file),
        earlier=earlier,
        run_dir=None if run_dir is None else located(run_dir),
        analysis=None if analysis is None else located(analysis),
        dataset=_dataset(
            None if data_root is None else located(data_root),
            [entry for entry in entries if entry.name not in taken],
            limit,
            speed,
        ),
    )


def report_in(path: Path) -> Path:
    """The file of a report: the path itself, or of a run folder the report in it."""
    return path / REPORT if path.is_dir() else path


def default_batch_size(device: str) -> int:
    """Images at a time on a device of this name."""
    return _BATCH_SIZE.get(device.split(":")[0], 1)


def _taken(earlier: Report | None, settings: Settings, given: GivenWeights | None) -> Mapping[str, EntryReport]:
    return {} if earlier is None else settled_by(earlier, settings, given.sha256 if given else None)


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


def _everywhere(path: str | Path) -> Path:
    """The path as processes find it whose folder is another."""
    return expanded(path).absolute()


def _weights(path: Path, entries: Sequence[ZooEntry]) -> Path:
    if len(entries) != 1:
        raise UsageError(f"weights are of one entry, and {len(entries)} were chosen: give one name")
    if not path.is_file():
        raise WeightsNotFound(f"{path} is not a file: give the path of a .safetensors or of a publisher's checkpoint")
    return path


def _dataset(root: Path | None, entries: Sequence[ZooEntry], limit: int | None, speed: bool) -> Dataset | None:
    """What lies under the data root, checked, where one was given and an entry needs it."""
    needed = {entry.data: None for entry in entries if entry.data != "shapes"}
    if root is None or not needed:
        return None
    if len(needed) > 1:
        names = " and ".join(NAMES[data] for data in needed)
        raise UsageError(f"the entries are judged on {names}, and --data-root is of one data set: verify them apart")
    dataset = found_in(root, *needed)
    masks = any(entry.has_masks for entry in entries if entry.data in needed)
    dataset.check(limit and max(limit, TIMED * speed), masks=masks)
    return dataset
