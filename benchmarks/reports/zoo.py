"""What the zoo page and the guide show: every entry with what was published, computed and measured of it."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from cascadezoo import registry
from cascadezoo.benchmarks.reports.schema import Accuracy, Report
from cascadezoo.benchmarks.reports.speeds import Conditions, Speed
from cascadezoo.benchmarks.reports.verdict import Verdict
from cascadezoo.coco.metrics import HUNDREDTH, METRICS, rounded
from cascadezoo.computed import Computed, computed
from cascadezoo.manifest import Evaluation, ZooEntry

_WHOLE = (Verdict.PASS, Verdict.FAIL, Verdict.NO_REFERENCE)  # of all images


class Verified(NamedTuple):
    """AP of the published weights as a report has it, in percent; of masks None where there are none."""

    box_ap: Decimal | None
    mask_ap: Decimal | None
    verdict: Verdict
    images: int
    report: str


class Row(NamedTuple):
    """One entry; ``speeds``: images per second, by the place of their conditions in ``Zoo.conditions``."""

    entry: ZooEntry
    computed: Computed
    verified: Verified | None
    speeds: dict[int, float]

    @property
    def published(self) -> Evaluation:
        """The figures that a re-evaluation must find, without test-time augmentation, as costs are counted."""
        return _plain(self.entry)

    @property
    def on_coco(self) -> bool:
        """Whether its AP compares with others'."""
        return self.entry.data == "coco"


class Zoo(NamedTuple):
    """All rows, what their speeds were measured under, and the entries of the reports that are nobody's: neither the
    zoo's nor on another data set."""

    rows: list[Row]
    conditions: list[Conditions]
    strangers: list[str]


def zoo(reports: Mapping[str, Report], speeds: Sequence[Speed]) -> Zoo:
    """Every entry of the manifest.

    Args:
        reports: of ``cascadezoo verify``, by name; of an entry in several of them the last one counts.  Weights that
            were given are not the published ones and do not count.
        speeds: as measured, of any entries.
    """
    entries = registry.entries()
    by_entry: dict[str, dict[Conditions, float]] = {}
    for speed in speeds:
        by_entry.setdefault(speed.entry, {})[speed.conditions] = speed.fps
    names = {entry.name for entry in entries}
    used = [conditions for name in names & by_entry.keys() for conditions in by_entry[name]]
    conditions = sorted(set(used), key=lambda each: (-used.count(each), each))
    place = {each: number for number, each in enumerate(conditions)}
    verified = _verified(reports)
    rows = [
        Row(
            entry,
            computed(entry),
            verified.get(entry.name),
            {place[each]: fps for each, fps in by_entry.get(entry.name, {}).items()},
        )
        for entry in entries
    ]
    told = [entry.name for report in reports.values() for entry in report.entries]
    return Zoo(rows, conditions, sorted({*told} - {entry.name for entry in registry.all_known()}))


def _verified(reports: Mapping[str, Report]) -> dict[str, Verified]:
    found = {}
    for name, report in reports.items():
        for entry in report.entries:
            part = next((part for part in entry.accuracy if not part.tta and part.verdict in _WHOLE), None)
            if part is not None and entry.given is None:
                found[entry.name] = Verified(
                    _figure(part, "box_ap"), _figure(part, "mask_ap"), part.verdict, part.images, name
                )
    return found


def _plain(entry: ZooEntry) -> Evaluation:
    return next(evaluation for evaluation in entry.evaluations if not evaluation.tta)


def _figure(part: Accuracy, metric: str) -> Decimal | None:
    measured = METRICS[metric].of(part.figures)
    return None if measured is None else rounded(measured, HUNDREDTH)
