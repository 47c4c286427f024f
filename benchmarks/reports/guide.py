"""Which model? Five wishes, each with the entry that answers it by the figures of the zoo page.

python -m cascadezoo.benchmarks.reports.guide

writes the table anew between the two marks of each page that has them.
"""

from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from cascadezoo.benchmarks.reports.markdown import plain
from cascadezoo.benchmarks.reports.zoo import Row, Zoo, zoo
from cascadezoo.errors import FileError
from cascadezoo.files import whole_file

BEGIN = "<!-- which model: written by python -m cascadezoo.benchmarks.reports.guide -->"
END = "<!-- end of which model -->"
MODERATE, SMALL = 1_000e9, 500e9  # FLOPs


class Choice(NamedTuple):
    """A wish, the entry that answers it best, and why that one."""

    wish: str
    row: Row
    why: str


class _Wish(NamedTuple):
    """Of the entries that fit, the one with the highest box AP is meant."""

    wish: str
    fits: Callable[[Row], bool]
    because: str


_WISHES = (
    _Wish("The most accurate", lambda row: True, "highest published box AP of all"),
    _Wish(
        "Masks at a moderate cost",
        lambda row: row.entry.has_masks and row.computed.total_flops <= MODERATE,
        f"highest published box AP with masks below {MODERATE / 1e9:,.0f} GFLOPs",
    ),
    _Wish(
        "Boxes only, as cheap as it gets",
        lambda row: not row.entry.has_masks and row.computed.total_flops <= SMALL,
        f"highest published box AP below {SMALL / 1e9:,.0f} GFLOPs",
    ),
    _Wish(
        "Weights under a licence that is stated",
        lambda row: row.entry.weights_license != "unstated",
        "highest published box AP of those whose publisher licenses the weights themselves",
    ),
)
_OWN = "To try things out, without a network"


def choices(found: Zoo) -> list[Choice]:
    """The answers; only entries whose weights exist count, and of the wishes for accuracy those evaluated on COCO."""
    usable = [row for row in found.rows if row.entry.has_weights]
    on_coco = [row for row in usable if row.on_coco]
    answers = [
        Choice(wish.wish, best, f"{wish.because}: {_figures(best)}")
        for wish in _WISHES
        for best in [max(filter(wish.fits, on_coco), key=_accuracy)]
    ]
    own = next(row for row in usable if row.entry.availability == "embedded")
    size = f"{own.computed.tensor_bytes / 1e6:.0f} MB in the package, trained on drawn shapes"
    return [*answers, Choice(_OWN, own, f"{size}: {_cost(own)}")]


def guide(found: Zoo) -> list[str]:
    """The answers as the lines of a table in Markdown."""
    rows = [f"| {plain(each.wish)} | `{each.row.entry.name}` | {plain(each.why)} |" for each in choices(found)]
    return ["| you want | take | because |", "|---|---|---|", *rows]


def pages(root: Path) -> list[Path]:
    """The pages of a checkout that have the guide: README.md, and those of docs/."""
    return [path for path in (root / "README.md", *sorted((root / "docs").glob("*.md"))) if BEGIN in path.read_text()]


def with_guide(text: str, lines: Iterable[str], page: str) -> str:
    """A page with the table between its marks; raises FileError where it has none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise FileError(f"{page} has no place for the guide: give it the lines {BEGIN} and {END}")
    return "\n".join((before + begin, "", *lines, "", end + after))


def _accuracy(row: Row) -> tuple[Decimal, int]:
    """By box AP; of equals the cheaper one is better."""
    return row.published.box_ap, -row.computed.total_flops


def _figures(row: Row) -> str:
    masks = f", mask AP {row.published.mask_ap}" if row.published.mask_ap else ""
    return f"box AP {row.published.box_ap}{masks}, {_cost(row)}"


def _cost(row: Row) -> str:
    return f"{row.computed.total_flops / 1e9:,.0f} GFLOPs, {row.computed.parameters / 1e6:.0f} M parameters"


def main() -> None:
    """Write the pages."""
    lines = guide(zoo({}, []))
    for path in pages(Path()):
        text = with_guide(path.read_text("utf-8"), lines, str(path))
        with whole_file(path) as file:
            file.write(text.encode())


if __name__ == "__main__":
    main()
