"""Bars of measured figures beside the published ones, placed as by hand."""

import pytest
from html_page import Page
from sample_report import accuracy_of, report_of, sample

from cascadezoo.benchmarks.reports.bars import Bar, bars
from cascadezoo.benchmarks.reports.html import html


def drawn(published: str, measured: float | None, tolerance: str) -> Bar:
    part = accuracy_of({"box_ap": published}, {"bbox": {"AP": measured}}, tolerance)
    found = bars(report_of(part))
    assert found.limit == 50
    ((bar,),) = [group.bars for group in found.groups]
    return bar


def test_a_bar_ends_at_the_measured_figure_and_the_difference_lies_on_its_own_track() -> None:
    bar = drawn("41.2", 41.3, "0.1")
    assert (bar.heading, bar.measured, bar.published, bar.difference) == ("box AP", "41.3", "41.2", "+0.1")
    assert (bar.length, bar.mark) == (pytest.approx(82.6), pytest.approx(82.4))  # of 50
    # the track reaches five tolerances, 0.5, to each side: the tolerance is a fifth of a half, and so is 0.1
    assert bar.band == (pytest.approx(40), pytest.approx(20))
    assert bar.place == pytest.approx(60)
    assert bar.agrees


def test_a_difference_beyond_the_track_lies_at_its_end() -> None:
    assert (drawn("41.2", 30.0, "0.1").place, drawn("41.2", 30.0, "0.1").agrees) == (0, False)
    assert drawn("41.2", 49.0, "0.1").place == 100


def test_a_tolerance_of_nothing_has_a_track_all_the_same() -> None:
    bar = drawn("41.2", 41.2, "0")
    assert (bar.band, bar.place, bar.difference) == ((50, 0), 50, "±0")


def test_what_was_not_measured_has_no_bar() -> None:
    part = accuracy_of({"box_ap": "41.2"}, {"bbox": {"AP": None}}, "0.1")
    assert bars(report_of(part)).groups == []
    assert "Measured against published" not in html(report_of(part))
    assert [group.evaluation for group in bars(sample()).groups] == ["plain", "plain"]  # the third one was skipped


def test_the_page_tells_in_words_what_bars_show() -> None:
    text = Page(html(sample())).text
    assert "is AP in percent from 0 to 50" in text
    assert "box AP\n\n41.3 (41.2)\n\n+0.1" in text
    assert "mask AP\n\n30.0 (35.9)\n\n-5.9" in text
