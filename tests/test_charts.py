"""Charts, pixel by pixel where it matters."""

import numpy as np
import pytest

from cascadezoo.charts import MOST_LINES, Line, Panel, line_chart, matrix_chart

BLUE, RED = (31, 119, 180), (214, 39, 40)
PLOT = (70, 44, 670, 348)  # left, top, right, bottom of a panel's axes


def near(pixels: np.ndarray, x: float, y: float, colour: tuple[int, int, int]) -> bool:
    """Whether a pixel of this colour lies within two of where (x, y), both 0..1, is drawn."""
    left, top, right, bottom = PLOT
    column, row = round(left + x * (right - left)), round(bottom - y * (bottom - top))
    window = pixels[row - 2 : row + 3, column - 2 : column + 3].reshape(-1, 3)
    return bool((np.abs(window - colour).max(axis=1) < 40).any())


def test_lines_are_where_their_points_are() -> None:
    falling, flat = Line("falling", [0, 1], [1, 0]), Line("flat", [0, 0.5, 1], [0.3, 0.3, float("nan")])
    picture = line_chart([Panel("one", "recall", [falling, flat]), Panel("two", "recall", [])])
    pixels = np.asarray(picture).astype(int)
    assert pixels.shape == (800, 1000, 3)
    first, second = pixels[:400], pixels[400:]
    assert near(first, 0.25, 0.75, BLUE)
    assert near(first, 0.9, 0.1, BLUE)
    assert near(first, 0.25, 0.3, RED)
    assert not near(first, 0.75, 0.3, RED)  # the point that is none
    assert not near(first, 0.25, 0.75, RED)
    assert not (np.abs(second - BLUE).max(axis=2) < 40).any()


def test_no_two_lines_have_one_colour() -> None:
    lines = [Line(str(n), [0, 1], [n / 20, n / 20]) for n in range(MOST_LINES)]
    pixels = np.asarray(line_chart([Panel("many", "recall", lines)])).astype(int)
    rows = [round(PLOT[3] - n / 20 * (PLOT[3] - PLOT[1])) for n in range(1, MOST_LINES)]
    assert len({tuple(pixels[row, 200]) for row in rows}) == MOST_LINES - 1


@pytest.mark.parametrize("size", [1, 9, 81])
def test_a_matrix_is_dark_where_the_share_is_great(size: int) -> None:
    shares = np.zeros((size, size))
    shares[-1, 0] = np.nan
    shares[0, 0] = 1
    counts = np.zeros((size, size), dtype=np.int64)
    pixels = np.asarray(matrix_chart("shares", [f"class {n}" for n in range(size)], shares, counts)).astype(int)
    dark = (np.abs(pixels - (8, 48, 107)).max(axis=2) < 40).sum()
    side = max(14, min(64, 1100 // size))
    assert dark == pytest.approx(side**2, rel=0.3)
    if size == 9:
        assert (pixels == 244).all(axis=2).sum() == pytest.approx(side**2, rel=0.3)  # no share at all


def test_numbers_stand_in_all_cells_or_in_none() -> None:
    def ink(largest: int) -> int:
        counts = np.array([[1, 0], [0, largest]])
        pixels = np.asarray(matrix_chart("", ["", ""], np.zeros((2, 2)), counts)).astype(int)
        return int((pixels.max(axis=2) < 100).sum())

    assert ink(10) > ink(1) > 0
    assert ink(10**12) == 0


def test_names_from_anyone_are_drawn_on_one_line() -> None:
    plain, hostile = (
        matrix_chart("title", [name, "background"], np.eye(2), np.eye(2, dtype=np.int64)).size
        for name in ("a" * 25 + "…", "a" * 25 + "\n\x1b" * 50)
    )
    assert hostile == plain
