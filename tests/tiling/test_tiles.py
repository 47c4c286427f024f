"""Where tiles lie: they cover the image, share what they have to, and are as few as that takes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadezoo.errors import UsageError, WrongType
from cascadezoo.tiling import Tiles, Window


def test_tiles_of_an_image_by_hand() -> None:
    windows = Tiles(4, 1, whole=False).windows(6, 9)
    rows = [(0, 4), (2, 6)]  # 6 = 4 + 4 - 2
    columns = [(0, 4), (2, 6), (5, 9)]  # 9 = 3 * 4 - 2 - 1: spread over 5, at 0, 2.5 and 5
    assert windows == [Window(left, top, right, bottom) for top, bottom in rows for left, right in columns]


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 25), st.integers(1, 25), st.data())
def test_tiles_cover_an_image_evenly(height: int, width: int, h: int, w: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, min(h, w) - 1))
    windows = Tiles((h, w), overlap, whole=False).windows(height, width)
    seen = np.zeros((height, width), int)
    for left, top, right, bottom in windows:
        assert (bottom - top, right - left) == (min(h, height), min(w, width))
        assert min(left, top, height - bottom, width - right) >= 0
        seen[top:bottom, left:right] += 1
    assert seen.min() == 1
    assert len(set(windows)) == len(windows)
    for length, side, starts in (
        (height, h, sorted({window.top for window in windows})),
        (width, w, sorted({window.left for window in windows})),
    ):
        gaps = np.diff(starts)
        assert (side - gaps >= overlap).all()
        assert gaps.max(initial=0) - gaps.min(initial=side) <= 1
        assert len(starts) == max(1, math.ceil((length - overlap) / (side - overlap)))  # no fewer would do


@given(st.integers(20, 80), st.integers(2, 20), st.data())
def test_what_fits_into_the_overlap_is_whole_in_some_tile(length: int, side: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(1, side - 1))
    start = data.draw(st.integers(0, length - overlap))
    windows = Tiles(side, overlap, whole=False).windows(side, length)
    assert any(window.left <= start and start + overlap <= window.right for window in windows)


def test_the_whole_image_comes_last_where_there_are_several() -> None:
    assert Tiles(4).windows(4, 7)[-1] == Window(0, 0, 7, 4)
    assert Tiles(4).windows(3, 4) == [Window(0, 0, 4, 3)]
    assert Tiles(4, whole=False).windows(4, 7) == [Window(0, 0, 4, 4), Window(3, 0, 7, 4)]


def test_the_overlap_is_a_quarter_by_default() -> None:
    assert [window.left for window in Tiles((80, 40), whole=False).windows(80, 130)] == [0, 30, 60, 90]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((0,), "tiles of 0 x 0 pixels: give a size of 1 or more"),
        (((8, -1),), "tiles of 8 x -1 pixels: give a size"),
        ((8, 8), "tiles of 8 x 8 pixels with an overlap of 8: give one of 0 to 7"),
        (((4, 9), 6), "give one of 0 to 3"),
        ((8, -1), "an overlap of -1"),
    ],
)
def test_impossible_tiles_are_refused(arguments: tuple, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Tiles(*arguments)


@pytest.mark.parametrize("arguments", [(1.5,), ("8",), ((8,),), ((8, 8, 8),), (True,), (8, 0.25)])
def test_tiles_are_whole_pixels(arguments: tuple) -> None:
    with pytest.raises(WrongType, match=r"give pixels, as whole numbers; the size of both sides, or \(height, width\)"):
        Tiles(*arguments)
