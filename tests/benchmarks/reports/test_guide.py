"""Which model? The answers are the best of the zoo's figures, and the pages hold them."""

from pathlib import Path

import pytest

from cascadezoo.benchmarks.reports.guide import (
    BEGIN,
    END,
    MODERATE,
    SMALL,
    choices,
    guide,
    pages,
    with_guide,
)
from cascadezoo.benchmarks.reports.zoo import zoo
from cascadezoo.errors import FileError

ROOT = Path(__file__).parents[3]


def test_the_pages_hold_the_guide() -> None:
    lines = guide(zoo({}, []))
    for page in pages(ROOT):
        text = page.read_text()
        assert with_guide(text, lines, page.name) == text, "run python -m cascadezoo.benchmarks.reports.guide"
    assert ROOT / "docs" / "zoo.md" in pages(ROOT)


def test_only_pages_with_its_first_mark_have_it(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for name, text in (("README.md", "nothing"), ("docs/a.md", f"x\n{BEGIN}\n"), ("docs/b.md", "nothing")):
        (tmp_path / name).write_text(text)
    assert pages(tmp_path) == [tmp_path / "docs" / "a.md"]


def test_nothing_fits_a_wish_better() -> None:
    """The best by box AP, sought as one would by hand."""
    found = zoo({}, [])
    best, masks, boxes, licensed, own = choices(found)
    rows = [row for row in found.rows if row.entry.has_weights and row.entry.data == "coco"]
    for choice, fitting in (
        (best, rows),
        (masks, [row for row in rows if row.entry.has_masks and row.computed.total_flops <= MODERATE]),
        (boxes, [row for row in rows if not row.entry.has_masks and row.computed.total_flops <= SMALL]),
        (licensed, [row for row in rows if row.entry.weights_license != "unstated"]),
    ):
        assert choice.row in fitting
        assert choice.row.published.box_ap == max(row.published.box_ap for row in fitting)
        assert f"box AP {choice.row.published.box_ap}" in choice.why
    assert own.row.entry.availability == "embedded"


def test_the_guide_has_five_rows_and_stays_in_its_place() -> None:
    lines = guide(zoo({}, []))
    assert len(lines) == 2 + 5
    assert with_guide(f"before\n{BEGIN}\nold\n{END}\nafter\n", ["new"], "x.md") == (
        f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    )


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END}\n{BEGIN}\n"])
def test_a_page_without_a_place_for_it_is_refused(text: str) -> None:
    with pytest.raises(FileError, match=r"x\.md has no place for the guide"):
        with_guide(text, [], "x.md")
