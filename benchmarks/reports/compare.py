"""Two reports side by side, and several joined into one."""

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field

from cascadezoo import registry
from cascadezoo.benchmarks.reports.rows import detailed, evaluation_name, given_weights, shard_name
from cascadezoo.benchmarks.reports.schema import EntryReport, Machine, Report, ReportTiming
from cascadezoo.errors import UsageError
from cascadezoo.spec.record import Record

MOVED = 0.005  # percentage points; smaller differences of a figure are not listed
FASTER_OR_SLOWER = 0.02  # part of the earlier speed; smaller differences are not listed


class Move(Record):
    """One difference between two reports."""

    entry: str | None = Field(description="The entry's name; None for a difference of the whole reports.")
    part: str = Field(description="The evaluation, or speed; empty for a difference of the whole entry or reports.")
    what: str = Field(description="What differs, such as verdict, bbox AP, fps at batch 8, or a setting's name.")
    before: str | None = Field(description="Its value in the earlier report; None where it is not there.")
    after: str | None = Field(description="Its value in the later report; None where it is not there.")
    kind: Literal["verdict", "figure", "speed", "presence", "setting"]


def compare(before: Report, after: Report) -> list[Move]:
    """All differences between two reports; empty where there are none."""
    moves = [*_settings(before, after)]
    old, new = ({entry.name: entry for entry in report.entries} for report in (before, after))
    for name in [*old, *(name for name in new if name not in old)]:
        if name not in new or name not in old:
            states = [side[name].verdict if name in side else None for side in (old, new)]
            moves.append(Move(entry=name, part="", what="entry", before=states[0], after=states[1], kind="presence"))
            continue
        moves += _weights(old[name], new[name])
        moves += _accuracy(old[name], new[name])
        moves += _speed(old[name], new[name], before, after)
    return moves


def merge(reports: Sequence[Report]) -> Report:
    """One report of the same run's parts, in the order of the manifest.

    Raises UsageError where they are not parts of one run: other settings, code or manifest, an entry twice, or shards
    missing.
    """
    if not reports:
        raise UsageError("no reports to merge")
    first = reports[0]
    for other in reports[1:]:
        _require_same(first, other)
    _require_whole([report.settings.shard for report in reports])
    machines: list[Machine] = []
    entries: dict[str, EntryReport] = {}
    for report in reports:
        for entry in report.entries:
            if entry.name in entries:
                raise UsageError(f"{entry.name} is in two of the reports: merge parts of one run")
            machine = report.machines[entry.machine]
            if machine not in machines:
                machines.append(machine)
            entries[entry.name] = entry.model_copy(update={"machine": machines.index(machine)})
    order = {entry.name: number for number, entry in enumerate(registry.all_known())}
    return first.model_copy(
        update={
            "settings": first.settings.model_copy(update={"shard": None}),
            "machines": tuple(machines),
            "entries": tuple(entries[name] for name in sorted(entries, key=lambda name: order.get(name, len(order)))),
            "timing": ReportTiming(
                date=min(report.timing.date for report in reports), seconds=sum(r.timing.seconds for r in reports)
            ),
        }
    )


def _require_same(first: Report, other: Report) -> None:
    for field in ("version", "commit", "manifest_sha256", "code_sha256"):
        if getattr(first, field) != getattr(other, field):
            raise UsageError(f"the reports differ in {field}: they are not parts of one run")
    shared = [report.settings.model_copy(update={"shard": None}) for report in (first, other)]
    if shared[0] != shared[1]:
        differ = [name for name in type(shared[0]).model_fields if getattr(shared[0], name) != getattr(shared[1], name)]
        raise UsageError(f"the reports differ in their settings ({', '.join(differ)}): they are not parts of one run")


def _require_whole(shards: Sequence[tuple[int, int] | None]) -> None:
    counts = {shard[1] for shard in shards if shard}
    if not counts:
        return
    if len(counts) > 1 or None in shards:
        raise UsageError("the reports are shards of different divisions: merge parts of one run")
    count = counts.pop()
    if missing := sorted(set(range(1, count + 1)) - {shard[0] for shard in shards if shard}):
        raise UsageError(f"missing: {', '.join(f'shard {shard_name((i, count))}' for i in missing)}")


def _settings(before: Report, after: Report) -> Iterator[Move]:
    for what, a in _described(before).items():
        if a != (b := _described(after)[what]):
            yield Move(entry=None, part="", what=what, before=a, after=b, kind="setting")


def _described(report: Report) -> dict[str, str | None]:
    given = {name: _text(getattr(report.settings, name)) for name in type(report.settings).model_fields}
    given["shard"] = report.settings.shard and shard_name(report.settings.shard)
    return {
        "commit": report.commit,
        "code": report.code_sha256[:12],
        "manifest": report.manifest_sha256[:12],
        "device": ", ".join(machine.device for machine in report.machines),
        **given,
    }


def _weights(before: EntryReport, after: EntryReport) -> Iterator[Move]:
    then, now = (given_weights(entry) or "the published ones" for entry in (before, after))
    if then != now:
        yield Move(entry=before.name, part="", what="weights", before=then, after=now, kind="setting")


def _accuracy(before: EntryReport, after: EntryReport) -> Iterator[Move]:
    name = before.name
    old, new = ({(part.tta, part.basis): part for part in entry.accuracy} for entry in (before, after))
    for key in [*old, *(key for key in new if key not in old)]:
        a, b = old.get(key), new.get(key)
        if a is None or b is None:
            states = [part.verdict if part else None for part in (a, b)]
            label = "".join(evaluation_name(part) for part in (a, b) if part)
            yield Move(entry=name, part=label, what="evaluation", before=states[0], after=states[1], kind="presence")
            continue
        label = evaluation_name(a)
        if a.verdict != b.verdict:
            yield Move(entry=name, part=label, what="verdict", before=a.verdict, after=b.verdict, kind="verdict")
        for kind in dict.fromkeys([*a.figures, *b.figures]):
            figures = a.figures.get(kind, {}), b.figures.get(kind, {})
            for metric in dict.fromkeys([*figures[0], *figures[1]]):
                x, y = (side.get(metric) for side in figures)
                if (x is None) != (y is None) or (x is not None and y is not None and abs(x - y) >= MOVED):
                    what = f"{kind} {metric}"
                    yield Move(entry=name, part=label, what=what, before=detailed(x), after=detailed(y), kind="figure")


def _speed(before: EntryReport, after: EntryReport, old: Report, new: Report) -> Iterator[Move]:
    a, b = before.speed, after.speed
    if a and b and a.verdict != b.verdict:
        yield Move(entry=before.name, part="speed", what="verdict", before=a.verdict, after=b.verdict, kind="verdict")
    if not (a and b and a.timing and b.timing):
        return
    if old.machines[before.machine].device != new.machines[after.machine].device:
        return
    fps = [{batch.batch_size: batch.fps for batch in speed.timing.batches} for speed in (a, b) if speed.timing]
    for size in fps[0].keys() & fps[1].keys():
        x, y = fps[0][size], fps[1][size]
        if abs(y - x) > FASTER_OR_SLOWER * x:
            what = f"fps at batch {size}"
            yield Move(entry=before.name, part="speed", what=what, before=f"{x:.2f}", after=f"{y:.2f}", kind="speed")


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return None if value is None else str(value)
