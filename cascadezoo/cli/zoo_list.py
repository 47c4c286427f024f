"""``cascadezoo list``: the entries as a table, as CSV or as JSON."""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from io import StringIO
from typing import NamedTuple, TypeAlias

import click

from cascadezoo import registry
from cascadezoo.cli.command import Command
from cascadezoo.cli.parameters import Number, Words
from cascadezoo.cli.terminal import Styled, echo, echo_json, echo_text
from cascadezoo.computed import computed
from cascadezoo.errors import UsageError
from cascadezoo.manifest import ELSEWHERE, FAMILIES, PUBLISHERS, ZooEntry

STATES = {
    "published": "available",
    "moved": "available",
    "wrong_link": "available",
    "never_published": "never published",
    "embedded": "in the package",
}
COLOURS = {"never published": "red", "in the package": "green"}
_SHORT = {"available": "yes", "never published": "never", "in the package": "inside"}  # in the table, 80 wide
_WERE = {"never published": "were never published", "in the package": "lie in the package"}
_MARKS = {
    "*": "with test-time augmentation",
    "+": "from a later edition of the publisher's page; the table has no figure",
    "#": "on the drawn shapes of `cascadezoo shapes`, not on COCO",
    "~": "on nuImages, not on COCO",
}
_ON = {"shapes": "#", "nuimages": "~"}  # marks of other data than COCO

Value: TypeAlias = Decimal | str | None


class Column(NamedTuple):
    """What is said of every entry; ``read`` gives None where nothing is known."""

    heading: str
    read: Callable[[ZooEntry], Value]
    largest_first: bool = False
    is_ap: bool = False  # marked where it is of other data than COCO, or augmented; sorted among those of COCO


def _attribute(name: str) -> Callable[[ZooEntry], Value]:
    return lambda entry: getattr(entry, name)


def _ap(heading: str, name: str) -> Column:
    return Column(heading, lambda entry: getattr(entry.evaluations[0], name), largest_first=True, is_ap=True)


def _parameters(entry: ZooEntry) -> Decimal:
    """Millions of numbers that training may change, to a tenth."""
    return (Decimal(computed(entry).parameters) / 1_000_000).quantize(Decimal("0.1"))


def _operations(entry: ZooEntry) -> Decimal:
    """GFLOPs of an image at the publisher's scale."""
    return (Decimal(computed(entry).total_flops) / 1_000_000_000).quantize(Decimal(1))


COLUMNS = {
    "name": Column("name", _attribute("name")),
    "publisher": Column("publisher", _attribute("publisher")),
    "family": Column("family", _attribute("family")),
    "backbone": Column("backbone", _attribute("backbone")),
    "pretraining": Column("pretraining", _attribute("pretraining")),
    "schedule": Column("schedule", _attribute("schedule")),
    "ap": _ap("box AP", "box_ap"),
    "ap50": _ap("box AP50", "box_ap50"),
    "ap75": _ap("box AP75", "box_ap75"),
    "mask_ap": _ap("mask AP", "mask_ap"),
    "mask_ap50": _ap("mask AP50", "mask_ap50"),
    "mask_ap75": _ap("mask AP75", "mask_ap75"),
    "tta": Column("augmented", lambda entry: "yes" if entry.evaluations[0].tta else "no"),
    "data": Column("data", _attribute("data")),
    "fps": Column("fps", _attribute("fps"), largest_first=True),
    "inference_time": Column("time", _attribute("inference_time")),
    "fps_device": Column("measured on", _attribute("fps_device")),
    "params": Column("params, M", _parameters),
    "flops": Column("GFLOPs", _operations),
    "weights": Column("weights", lambda entry: STATES[entry.availability]),
    "license": Column("licence", _attribute("weights_license")),
}
_SHOWN = ("name", "ap", "mask_ap", "weights")


@click.command(
    "list",
    cls=Command,
    short_help="The entries, their AP and their weights",
    examples=(
        "cascadezoo list",
        "cascadezoo list '*x101*' --masks",
        "cascadezoo list --sort mask_ap --min-ap 44",
        "cascadezoo list --columns name,ap,params,license",
        "cascadezoo list --data nuimages",
        "cascadezoo list --csv > zoo.csv",
    ),
)
@click.argument("pattern", required=False)
@click.option(
    "--publisher",
    metavar="NAME",
    type=click.Choice(PUBLISHERS),
    help=f"Only this publisher's entries: {', '.join(PUBLISHERS)}.",
)
@click.option("--family", type=click.Choice(FAMILIES), help="Only this kind of detector.")
@click.option("--masks/--no-masks", default=None, help="Only entries with masks, or only those without.")
@click.option("--available", is_flag=True, help="Only entries whose weights exist somewhere.")
@click.option("--min-ap", metavar="N", type=Number(0, 100), help="Only entries with this box AP on COCO, or a higher.")
@click.option(
    "--data",
    type=click.Choice(ELSEWHERE),
    help="Only the entries on this data set; --min-ap then counts on it, not on COCO.",
)
@click.option(
    "--sort",
    metavar="COLUMN",
    type=click.Choice(tuple(COLUMNS)),
    help="By this column: the highest AP or fps first, else from the smallest up.",
)
@click.option(
    "--columns",
    metavar="A,B,...",
    type=Words(tuple(COLUMNS), "column"),
    help=f"What to say of each: {', '.join(COLUMNS)}.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values, of all columns without --columns.")
@click.option("--json", "as_json", is_flag=True, help="The whole records as a JSON list.")
def list_command(
    pattern: str | None,
    publisher: str | None,
    family: str | None,
    masks: bool | None,
    available: bool,
    min_ap: float | None,
    data: str | None,
    sort: str | None,
    columns: tuple[str, ...] | None,
    as_csv: bool,
    as_json: bool,
) -> None:
    """List the published entries whose name fits PATTERN, such as '*x101*' (quote it).

    AP is average precision in percent, as published: on COCO, except for figures with a mark that says otherwise.
    Entries on another data set are listed by themselves, with --data.  Weights: yes (at the published link or, where
    that is out of date or wrong, at a corrected one), inside the package, or never published.
    """
    if as_json and (as_csv or columns):
        raise UsageError("--json gives whole records: leave out --csv and --columns")
    names = registry.list_models(pattern, publisher, family, masks, available or None, data)
    entries = [
        entry for entry in map(registry.info, names) if min_ap is None or _reaches(entry, min_ap, data or "coco")
    ]
    if sort:
        entries.sort(key=_order(COLUMNS[sort]))
    if as_json:
        echo_json(json.dumps([entry.model_dump(mode="json") for entry in entries], indent=2, ensure_ascii=False))
    elif as_csv:
        _print_csv(entries, columns or tuple(COLUMNS))
    elif entries:
        added = (sort,) if sort and sort not in _SHOWN else ()
        _print_table(entries, columns or (*_SHOWN[:-1], *added, _SHOWN[-1]))
    if not entries:
        echo(f"no entry fits{_advice(pattern, min_ap)}", err=True)


def _reaches(entry: ZooEntry, least: float, data: str) -> bool:
    return entry.data == data and entry.evaluations[0].box_ap >= Decimal(str(least))


def _order(column: Column) -> Callable[[ZooEntry], tuple[bool, bool, Decimal | str]]:
    """Entries on other data than COCO, and then those without the figure, come last."""

    def key(entry: ZooEntry) -> tuple[bool, bool, Decimal | str]:
        value = column.read(entry)
        elsewhere = column.is_ap and entry.data != "coco"
        if value is None:
            return True, elsewhere, ""
        return False, elsewhere, -value if column.largest_first and isinstance(value, Decimal) else value

    return key


def _advice(pattern: str | None, min_ap: float | None) -> str:
    if min_ap is not None:
        return ", or none reaches that AP: `cascadezoo list --sort ap` shows the highest"
    if pattern is None or any(sign in pattern for sign in "*?["):
        return ": `cascadezoo list` shows all of them"
    return f": PATTERN is for the whole name, so try '*{pattern}*'"


def _print_csv(entries: Iterable[ZooEntry], columns: Sequence[str]) -> None:
    """Figures as published, digit for digit, without marks: the columns ``tta`` and ``data`` say what those say."""
    text = StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(columns)
    rows.writerows([_plain(COLUMNS[name].read(entry)) for name in columns] for entry in entries)
    echo_text(text.getvalue())


def _plain(value: Value) -> str:
    return "" if value is None else str(value)


def _print_table(entries: Sequence[ZooEntry], columns: Sequence[str]) -> None:
    rows = [[_cell(entry, COLUMNS[name]) for name in columns] for entry in entries]
    headings = [COLUMNS[name].heading for name in columns]
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    echo(Styled(_aligned(headings, widths), bold=True))
    for entry, row in zip(entries, rows, strict=True):
        line, state = _aligned(row, widths), STATES[entry.availability]
        if "weights" in columns and state in COLOURS:
            before, _, after = line.partition(f" {_SHORT[state]}")
            echo((f"{before} ", Styled(_SHORT[state], fg=COLOURS[state]), after))
        else:
            echo(line)
    shown = {STATES[entry.availability] for entry in entries}
    figures = [name for name in columns if COLUMNS[name].is_ap]
    marks = {_mark(entry) for entry in entries if any(COLUMNS[name].read(entry) for name in figures)}
    echo(*(f"{mark} {meaning}" for mark, meaning in _MARKS.items() if mark in marks), err=True)
    for name, meaning in (("fps", "images a second"), ("inference_time", "of inference")):
        devices = sorted({str(entry.fps_device) for entry in entries if getattr(entry, name)})
        if name in columns and devices:
            heading = COLUMNS[name].heading
            echo(f"{heading}: {meaning}, as published, on one {' or '.join(devices)}", err=True)
    if "weights" in columns:
        echo(*(f"{_SHORT[state]}: weights {_WERE[state]}" for state in COLOURS if state in shown), err=True)


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


def _cell(entry: ZooEntry, column: Column) -> str:
    value = column.read(entry)
    if column is COLUMNS["weights"]:
        return _SHORT[STATES[entry.availability]]
    return _plain(value) + (_mark(entry) if column.is_ap and value is not None else "")


def _mark(entry: ZooEntry) -> str:
    judged = entry.evaluations[0]
    if entry.data != "coco":
        return _ON[entry.data]
    if judged.basis == "later":
        return "+"
    return "*" if judged.tta else ""
