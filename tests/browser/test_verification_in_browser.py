"""The page of a verify report in a browser."""

from pathlib import Path

import pytest
from sample_report import sample

from cascadezoo.benchmarks.reports.html import html

pytestmark = pytest.mark.browser

PHONE = {"width": 390, "height": 844}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    report = sample()
    long = "damaged: /a/folder/" + "x" * 2000
    first = report.entries[0]
    parts = (first.accuracy[0], first.accuracy[1].model_copy(update={"reason": long}))
    report = report.model_copy(update={"entries": (first.model_copy(update={"accuracy": parts}), *report.entries[1:])})
    (tmp_path / "report.html").write_text(html(report))
    return tmp_path / "report.html"


def test_bars_are_as_long_as_their_figures(opened, path: Path) -> None:
    with opened(path) as page:
        track = page.locator(".track").first.bounding_box()
        bar = page.locator(".length").first.bounding_box()
        assert bar["width"] / track["width"] == pytest.approx(41.3 / 50, abs=0.005)
        assert page.locator(".off").count() == 1  # the mask AP of the first entry


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1000, 1600])
def test_text_is_wrapped_and_nothing_is_cut_off(opened, path: Path, width: int, scheme: str) -> None:
    with opened(path, viewport={"width": width, "height": 900}, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        cut = page.evaluate(
            "[...document.querySelectorAll('td, dd, li, figcaption')]"
            ".filter((e) => e.scrollWidth > e.clientWidth + 1).length"
        )
        assert cut == 0


def test_a_narrow_page_names_each_cell(opened, path: Path) -> None:
    with opened(path, viewport=PHONE) as page:
        cell = page.locator("#Accuracy td").first
        assert cell.evaluate("e => getComputedStyle(e, '::before').content") == '"entry"'


def test_details_open(opened, path: Path) -> None:
    with opened(path) as page:
        page.locator("details summary").nth(1).click()
        assert page.get_by_text("stages at batch 1").is_visible()
