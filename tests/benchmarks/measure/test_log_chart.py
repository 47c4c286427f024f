"""Charts over logarithmic axes, worked by hand."""

from xml.etree import ElementTree

import pytest

from cascadezoo.benchmarks.measure.log_chart import Line, log_chart

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*lines: Line) -> ElementTree.Element:
    return ElementTree.fromstring(log_chart("a title", "size", "ms", lines))


def texts(chart: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in chart.iter(f"{SVG}text")]


def test_points_lie_where_their_logarithms_do() -> None:
    chart = drawn(Line("one", [1, 10, 100], [2, 20, 200]))
    places = [(float(dot.get("cx", 0)), float(dot.get("cy", 0))) for dot in chart.iter(f"{SVG}circle")]
    # the plot is 70..530 across and 310..40 down, for 1 to 100 and for 2 to 200: a decade is half of each side
    assert places == [(70, 310), (300, 175), (530, 40)]
    assert any(line.get("points") == "70.0,310.0 300.0,175.0 530.0,40.0" for line in chart.iter(f"{SVG}polyline"))


def test_ticks_enclose_the_values() -> None:
    found = texts(drawn(Line("one", [0.258, 16.5], [1100, 1900])))
    assert found == [
        "a title", "size", "ms",
        "0.2", "0.5", "1", "2", "5", "10", "20",
        "1,000", "2,000",
        "one",
    ]  # fmt: skip


def test_a_long_axis_has_numbers_at_powers_of_ten_alone() -> None:
    found = texts(drawn(Line("one", [1, 100_000], [1, 1])))
    assert found[3:] == ["1", "10", "100", "1,000", "10,000", "100,000", "1", "2", "one"]


def test_names_are_text_and_no_markup() -> None:
    assert texts(drawn(Line("<b>&", [1, 2], [1, 2])))[-1] == "<b>&"


def test_more_lines_than_colours_are_refused() -> None:
    line = Line("one", [1, 2], [1, 2])
    with pytest.raises(ValueError, match="8 lines: a chart has colours for 7"):
        drawn(*[line] * 8)
