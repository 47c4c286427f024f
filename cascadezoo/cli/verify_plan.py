"""``cascadezoo verify --dry-run``: what would run, said in lines or as JSON."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascadezoo.cli.terminal import echo, echo_json, write_text
from cascadezoo.cli.verify_progress import duration

if TYPE_CHECKING:
    from cascadezoo.benchmarks.verify.plan import DataPlan, EntryPlan, Plan, Room

_STATES = {"measure": "to measure", "finished": "finished", "taken": "taken", "SKIPPED": "SKIPPED"}


def show_plan(
    names: tuple[str, ...] | None,
    json_file: Path | None,
    strict: bool,
    *,
    device: str | None,
    batch_size: int | None,
    workers: int | None,
    engine: Any,
    **options: Any,
) -> int:
    """Print the plan of a call with these options and return its exit code: 1 where the disk has no room for it."""
    from cascadezoo.benchmarks.verify.plan import planned
    from cascadezoo.benchmarks.verify.request import requested

    plan = planned(requested(names, engine=engine, **options), device, batch_size, engine)
    if json_file:
        write_text(json_file, plan.model_dump_json(indent=2) + "\n", echo_json)
    if json_file != Path("-"):
        _print(plan)
    skipped = any(entry.state == "SKIPPED" for entry in plan.entries)
    return int(plan.lacks_room or (strict and skipped))


def _print(plan: "Plan") -> None:
    echo(*map(_entry, plan.entries), *map(_data, plan.data), *map(_room, plan.rooms))
    counts = Counter[str](entry.state for entry in plan.entries)
    told = ", ".join(f"{counts[state]} {words}" for state, words in _STATES.items() if counts[state]) or "no entries"
    if counts["measure"]:
        time = "how long is not known" if plan.seconds is None else f"about {duration(plan.seconds)} on one device"
        told = f"{told}; {time}"
    echo(told, err=True)


def _entry(entry: "EntryPlan") -> str:
    time = "" if entry.seconds is None else f"about {duration(entry.seconds)}"
    room = f" (about {_size(entry.download_bytes)})" if entry.download_bytes else ""
    weights = f"weights {entry.weights}{room}" if entry.weights else ""
    details = "; ".join(filter(None, (", ".join(entry.evaluations), weights, time, entry.reason)))
    return f"{_STATES[entry.state]:12} {entry.name}{': ' * bool(details)}{details}"


def _data(data: "DataPlan") -> str:
    if data.annotations is None:
        return f"{'data':12} {data.name}: is drawn first"
    decoded = f", {data.image} can be decoded" if data.image else ""
    return (
        f"{'data':12} {data.name}: {data.images} images, {data.annotations} (sha256 {data.annotations_sha256}){decoded}"
    )


def _room(room: "Room") -> str:
    state = "NO ROOM" if room.needed > room.free else "disk"
    return f"{state:12} {room.folder}: {room.what} need about {_size(room.needed)}, {_size(room.free)} are free"


def _size(count: int) -> str:
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"
