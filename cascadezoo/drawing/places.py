"""Where tags go: beside or in what they name, never over each other and never over a small object.

A picture is divided into square cells, a few to a tag's height.  What no tag may cover takes whole cells, so that not a
pixel of it ever is; and how many objects lie in a cell says which of the free places is best.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cascadezoo.drawing.rows import Box

_CELLS = 6  # to a tag's height
_SMALL = 16  # squares of a tag's height, of which a tag has about four: smaller objects are never covered, ...
_THIN = 2  # ... nor are those of less than so many heights in width or height
_STEPS = 8  # in which a tag is moved along an edge
_ORDER = 0.02  # how much worse a place is than the one before it, where 1 is to cover one more object

Places = npt.NDArray[np.int64]
"""(C, 2) left and top of the places that a tag may take, pixels."""
_Rectangles = npt.NDArray[np.float64] | npt.NDArray[np.int64]
"""(R, 4) xyxy, pixels."""
_Spans = npt.NDArray[np.int64]
"""(R, 4) the first column and row of cells, and those behind the last."""


class Map:
    """The cells of one picture.

    Args:
        size: height and width of the picture, pixels.
        tag_height: pixels.
        boxes: xyxy of all N objects, pixels of the picture.
        rim: how far what is drawn of a box reaches beyond it, pixels.
    """

    def __init__(self, size: tuple[int, int], tag_height: int, boxes: Sequence[Box], rim: int) -> None:
        height, width = size
        self._room = np.array([width, height])
        self._cell = max(1, tag_height // _CELLS)
        self._taken = np.zeros((-(-height // self._cell), -(-width // self._cell)), np.uint8)
        crowd = np.zeros(self._taken.shape)
        self._boxes = np.array(boxes, np.float64).reshape(-1, 4)
        sides = (self._boxes[:, 2:] - self._boxes[:, :2]).clip(0)
        self._small = (sides.prod(axis=1) < _SMALL * tag_height**2) | (sides.min(axis=1) < _THIN * tag_height)
        self._kept_clear = self._touched(self._boxes + np.array([-rim, -rim, rim, rim]))
        self._objects = self._nearest(self._boxes)
        for left, top, right, bottom in self._kept_clear[self._small].tolist():
            self._taken[top:bottom, left:right] = 1
        for left, top, right, bottom in self._objects.tolist():
            crowd[top:bottom, left:right] += 1
        self._crowd, self._taken_sums = cv2.integral(crowd, sdepth=cv2.CV_64F), cv2.integral(self._taken)

    def tag(self, index: int, width: int, height: int) -> tuple[int, int] | None:
        """The left and top of the best free place for the tag of box ``index``, which takes it; None where there is
        none."""
        if self._small[index]:
            x1, y1, x2, y2 = (self._kept_clear[index] * self._cell).tolist()
            tags = self._moved_inside(_beside(x1, y1, x2, y2, width, height), width, height)
        else:
            x1, y1, x2, y2 = self._boxes[index].round().astype(int).tolist()
            around, within = (each(x1, y1, x2, y2, width, height) for each in (_beside, _inside))
            tags = self._moved_inside(np.concatenate((around, within)), width, height)
        spans, own = self._nearest(tags), self._objects[index]
        common = _cells(np.concatenate((np.maximum(spans[:, :2], own[:2]), np.minimum(spans[:, 2:], own[2:])), axis=1))
        cost = common / max(int(_cells(own[None])[0]), 1)  # the share of its own object that it covers, ...
        cost += (_sums(self._crowd, spans) - common) / _cells(spans)  # ... and how many others lie below it
        cost[self._taken_below(tags) > 0] = np.inf
        return self._take(tags, cost)

    def note(self, width: int, height: int) -> tuple[int, int] | None:
        """The left and top of a tag of no object: at the bottom or at the top, where it covers least; None where the
        picture is smaller."""
        wide, high = self._room.tolist()
        lefts = np.linspace(wide - width, 0, 9).astype(int).tolist()
        places = np.array([(left, top) for top in (high - height, 0) for left in lefts])
        tags = self._moved_inside(places, width, height)
        objects = _sums(self._crowd, self._nearest(tags))
        return self._take(tags, self._taken_below(tags) + objects / max(self._crowd[-1, -1], 1))

    def _moved_inside(self, places: Places, width: int, height: int) -> _Rectangles:
        """The tags (R, 4) at these places, moved into the picture; none where that has no room for one."""
        if width > self._room[0] or height > self._room[1]:
            return np.zeros((0, 4), np.int64)
        size = np.array([width, height])
        places = places.clip(0, self._room - size)
        return np.concatenate((places, places + size), axis=1)

    def _taken_below(self, tags: _Rectangles) -> npt.NDArray[np.float64]:
        """How many taken cells each tag would cover."""
        return _sums(self._taken_sums, self._touched(tags))

    def _take(self, tags: _Rectangles, cost: npt.NDArray[np.float64]) -> tuple[int, int] | None:
        cost = cost + _ORDER * np.arange(len(tags))
        if not np.isfinite(cost).any():
            return None
        chosen = tags[cost.argmin()][None]
        ((left, top, right, bottom),) = self._touched(chosen).tolist()
        self._taken[top:bottom, left:right] = 1
        self._taken_sums = cv2.integral(self._taken)
        return int(chosen[0, 0]), int(chosen[0, 1])

    def _touched(self, rectangles: _Rectangles) -> _Spans:
        """All cells of which a part lies in the rectangle."""
        low = np.floor(rectangles[:, :2] / self._cell)
        return self._within(low, np.maximum(np.ceil(rectangles[:, 2:] / self._cell), low + 1))

    def _nearest(self, rectangles: _Rectangles) -> _Spans:
        """The cells that are nearest to the rectangle's size: rectangles that meet share none."""
        low = np.rint(rectangles[:, :2] / self._cell)
        return self._within(low, np.maximum(np.rint(rectangles[:, 2:] / self._cell), low + 1))

    def _within(self, low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]) -> _Spans:
        rows, columns = self._taken.shape
        spans: _Spans = np.concatenate((low, high), axis=1).clip(0, [columns, rows] * 2).astype(np.int64)
        return spans


def _beside(x1: int, y1: int, x2: int, y2: int, w: int, h: int) -> Places:
    """Above, below, at the right and at the left of a box, the most readable first; at last moved along its edges, a
    quarter of the tag still above or below it, and half a height away."""
    middle, centre = (x1 + x2 - w) // 2, (y1 + y2 - h) // 2
    aligned = [
        (x1, y1 - h), (x2 - w, y1 - h), (middle, y1 - h), (x1, y2), (x2 - w, y2), (middle, y2),
        (x2, y1), (x2, centre), (x2, y2 - h), (x1 - w, y1), (x1 - w, centre), (x1 - w, y2 - h),
    ]  # fmt: skip
    tops = (y1 - h, y2, y1 - h - h // 2, y2 + h // 2)
    lefts = np.linspace(x1 - 3 * w // 4, x2 - w // 4, _STEPS).astype(int).tolist()
    moved = [(left, top) for top in tops for left in lefts]
    return np.array(aligned + moved)


def _inside(x1: int, y1: int, x2: int, y2: int, w: int, h: int) -> Places:
    """In the corners of a box, at the middle of its edges and in its own middle."""
    middle, centre = (x1 + x2 - w) // 2, (y1 + y2 - h) // 2
    return np.array([(left, top) for top in (y1, y2 - h, centre) for left in (x1, x2 - w, middle)])


def _sums(integral: npt.NDArray[Any], spans: _Spans) -> npt.NDArray[np.float64]:
    left, top, right, bottom = spans.T
    sums = integral[bottom, right] - integral[top, right] - integral[bottom, left] + integral[top, left]
    inside: npt.NDArray[np.float64] = sums.astype(np.float64)
    return inside


def _cells(spans: _Spans) -> npt.NDArray[np.int64]:
    """How many cells each span has; 0 where it is turned inside out."""
    cells: npt.NDArray[np.int64] = (spans[:, 2:] - spans[:, :2]).clip(0).prod(axis=1)
    return cells
