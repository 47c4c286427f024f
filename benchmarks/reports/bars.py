"""Measured figures beside the published ones, as bars of a page: lengths and places in percent of their tracks."""

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from cascadezoo.benchmarks.reports.rows import evaluation_name, given_weights
from cascadezoo.benchmarks.reports.schema import Accuracy, Report
from cascadezoo.benchmarks.reports.verdict import Check, Verdict
from cascadezoo.coco.metrics import METRICS

_SPAN = 5  # tolerances to each side of a difference's track
_LEAST = Decimal("0.5")  # AP that the track reaches at least


class Bar(NamedTuple):
    """One published figure that was measured.

    Attributes:
        heading: which figure, such as "box AP".
        measured, published, difference: as they are printed.
        agrees: whether the difference is within the tolerance.
        length, mark: of the measured figure, and place of the published one, from 0 to ``Bars.limit``.
        band: left end and width of the tolerance on the difference's track.
        place: of the difference on it, at its end where it is further out.
    """

    heading: str
    measured: str
    published: str
    difference: str
    agrees: bool
    length: float
    mark: float
    band: tuple[float, float]
    place: float


class Group(NamedTuple):
    """The bars of one evaluation of an entry."""

    entry: str
    weights: str
    evaluation: str
    verdict: Verdict
    tolerance: Decimal
    bars: list[Bar]


class Bars(NamedTuple):
    """All groups; ``limit``: the AP at which a track ends."""

    limit: int
    groups: list[Group]


def bars(report: Report) -> Bars:
    """Every evaluation of a report with a published figure that was measured."""
    parts = [(entry, part) for entry in report.entries for part in entry.accuracy]
    checks = [one for _, part in parts for one in part.checks]
    figures = [figure for one in checks for figure in (one.published, one.rounded or Decimal(0))]
    limit = max(10, 10 * math.ceil(max(figures, default=Decimal(0)) / 10))
    groups = []
    for entry, part in parts:
        if drawn := list(_drawn(part, limit)):
            name = evaluation_name(part)
            groups.append(Group(entry.name, given_weights(entry), name, part.verdict, part.tolerance, drawn))
    return Bars(limit, groups)


def _drawn(part: Accuracy, limit: int) -> Iterator[Bar]:
    reach = max(_SPAN * part.tolerance, _LEAST)
    for one in part.checks:
        if one.rounded is not None and one.difference is not None:
            yield _bar(one, one.rounded, one.difference, part.tolerance, reach, limit)


def _bar(one: Check, measured: Decimal, difference: Decimal, tolerance: Decimal, reach: Decimal, limit: int) -> Bar:
    half = float(50 * tolerance / reach)
    return Bar(
        heading=METRICS[one.metric].heading,
        measured=str(measured),
        published=str(one.published),
        difference=f"{difference:+}" if difference else "±0",
        agrees=one.agrees,
        length=float(100 * measured / limit),
        mark=float(100 * one.published / limit),
        band=(50 - half, 2 * half),
        place=float(50 + 50 * max(Decimal(-1), min(Decimal(1), difference / reach))),
    )
