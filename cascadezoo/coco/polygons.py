"""The exact outlines of a mask, along the edges of its pixels, with their holes.

Coordinates are those of the corners of pixels: the pixel in column 0 and row 0 is the square from (0, 0) to (1, 1).
(OpenCV's ``findContours`` joins the centres of pixels: half a pixel too small all round.)  Pixels that share a side
are connected, those that touch at a corner alone are not.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

Ring: TypeAlias = npt.NDArray[np.float64]
"""(P, 2) x, y: the corners of a closed outline in order, none of them twice, the first not repeated at the end."""

# How many outlines turn at a corner of pixels, by which of the four round it are set: 1 the one above on the left,
# 2 above on the right, 4 below on the left, 8 below on the right.  Two do where two pixels touch at that corner alone.
_TURNS = np.array([0, 1, 1, 0, 1, 0, 2, 1, 1, 2, 0, 1, 0, 1, 1, 0], np.uint8)
_RISING = 6  # the two that touch are above on the right and below on the left
_BELOW_RIGHT = 8


class Polygon(NamedTuple):
    """One connected part of a mask, in pixels of the image, corners.

    As ``polygons_of`` makes it, no ring crosses or touches itself, and rings of one polygon touch each other at single
    points at most, so that geometry programs take it as a valid polygon.
    """

    outer: Ring  # clockwise as seen on the screen, y being down: its shoelace sum is positive
    holes: list[Ring]  # the other way round

    @property
    def area(self) -> float:
        """How many pixels it covers."""
        return area(self.outer) + sum(map(area, self.holes))

    def bridged(self) -> Ring:
        """The same area as one ring, for formats that know no holes.

        From the highest corner of each hole the ring goes straight up to the next outline, and back the same way.  A
        program that fills by either of the usual rules, even-odd and nonzero, fills the same pixels.
        """
        if not self.holes:
            return self.outer
        # what lies above a hole has its highest corner above the hole's, so it comes earlier
        rings = [self.outer, *sorted(map(_from_its_top, self.holes), key=lambda ring: (ring[0, 1], ring[0, 0]))]
        above = _edges_above(rings)
        detours: list[dict[int, list[Ring]]] = [{} for _ in rings]
        for number in range(len(rings) - 1, 0, -1):  # the lowest first: a hole takes those below along
            hole = _with_detours(rings[number], detours[number])
            owner, edge, y = above[number - 1]
            foot = np.array([[hole[0, 0], y]])
            detours[owner].setdefault(edge, []).append(np.concatenate((foot, hole, hole[:1], foot)))
        return _with_detours(self.outer, detours[0])


def polygons_of(mask: npt.NDArray[np.bool_], left: int = 0, top: int = 0) -> list[Polygon]:
    """The connected parts of a mask (h, w) whose first pixel is in column ``left`` and row ``top`` of its image.

    Filled again, they are the mask, pixel for pixel.  They come in the order of their highest corners; none from an
    empty mask.
    """
    pixels = np.ascontiguousarray(mask, dtype=np.bool_).view(np.uint8)
    if not pixels.any():
        return []
    at, around, twins, rings = _traced(pixels)
    rows, columns = np.divmod(at, pixels.shape[1] + 1)
    points = np.stack((columns + float(left), rows + float(top)), axis=1)
    _, parts = cv2.connectedComponents(pixels, connectivity=4)
    found: dict[int, Polygon] = {}
    for ring in rings:
        start = ring[0]
        is_outer = bool(around[start] & _BELOW_RIGHT)
        part = int(parts[rows[start], columns[start] - (not is_outer)])
        *apart, last = (points[piece] for piece in _untouching(ring, twins))
        if is_outer:
            found[part] = Polygon(last, apart)
        else:
            found[part].holes.extend((*apart, last))
    return list(found.values())


def as_coco(polygons: Sequence[Polygon]) -> list[list[float]]:
    """COCO's ``segmentation``: a list x1, y1, x2, y2, … for each part, holes bridged (``Polygon.bridged``).

    pycocotools draws the same pixels again, holes and all.
    """
    return [polygon.bridged().ravel().tolist() for polygon in polygons]


def area(ring: npt.ArrayLike) -> float:
    """The shoelace sum: the area inside a ring, pixels, negative where it runs the other way round (a hole)."""
    x, y = np.asarray(ring, np.float64).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def _traced(
    pixels: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.uint8], list[int], list[list[int]]]:
    """The outlines' corners and how they follow each other.

    Returns where each corner lies in the grid (h + 1, w + 1) of the corners of pixels, which pixels round it are set,
    the other corner at the same place (-1: none), and the rings as numbers of corners, each from its highest corner on
    and with the set pixels on the right hand of whoever walks along it.
    """
    height, width = pixels.shape
    grid = np.zeros((height + 1, width + 1), np.uint8)
    for bit, view in enumerate((grid[1:, 1:], grid[1:, :-1], grid[:-1, 1:], grid[:-1, :-1])):
        view += pixels << bit
    turns = _TURNS[grid].ravel()
    places = np.flatnonzero(turns)
    at = np.repeat(places, turns[places])
    around = grid.ravel()[at]
    second = np.zeros(len(at), np.bool_)
    second[1:] = at[1:] == at[:-1]

    # along a row of the grid every other stretch between corners is an edge; of two corners at one place the first ends
    # an edge and the second begins one.  So along a column, but there the two change places where the pixels that touch
    # rise to the right: each is to turn round a pixel of its own
    rows, columns = np.divmod(at, width + 1)
    down = np.argsort(2 * (columns * (height + 1) + rows) + (second ^ (around == _RISING)))
    opposite = np.empty_like(down)
    opposite[down[0::2]], opposite[down[1::2]] = down[1::2], down[0::2]
    twins = np.where(turns[at] == 2, np.arange(len(at)) + 1 - 2 * second, -1)
    rings = list(_walks(opposite.tolist(), (around & _BELOW_RIGHT).tolist()))
    return at, around, twins.tolist(), rings


def _walks(opposite: list[int], is_outer: list[int]) -> Iterator[list[int]]:
    """Rings of corners; the one at the other end of a corner's horizontal edge has the number next to it, the one at
    the other end of its vertical edge is ``opposite``."""
    done = bytearray(len(opposite))
    start = 0
    while start >= 0:
        ring: list[int] = []
        corner = start
        while not done[corner]:
            across = corner ^ 1
            done[corner] = done[across] = 1
            ring += (corner, across)
            corner = opposite[across]
        yield ring if is_outer[start] else [start, *ring[:0:-1]]
        start = done.find(0, start)


def _untouching(ring: list[int], twins: list[int]) -> Iterator[list[int]]:
    """A ring in pieces that do not touch themselves; its first corner is in the last of them."""
    path: list[int] = []
    place: dict[int, int] = {}  # of a corner in the path
    for corner in ring:
        if (since := place.get(twins[corner])) is not None:
            yield path[since:]
            for left in path[since:]:
                del place[left]
            del path[since:]
        place[corner] = len(path)
        path.append(corner)
    yield path


def _from_its_top(ring: Ring) -> Ring:
    """The ring from its highest corner on, the leftmost of several."""
    return np.roll(ring, -int(np.lexsort((ring[:, 0], ring[:, 1]))[0]), axis=0)


def _edges_above(rings: Sequence[Ring]) -> list[tuple[int, int, float]]:
    """For the first corner of each ring but the first, which edge of an earlier ring lies right above it, or at its
    place: that ring's number, the edge's number in it, and its y there."""
    starts = np.concatenate(rings)
    ends = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    upright = starts[:, 0] == ends[:, 0]
    (x1, y1), (x2, y2) = starts[~upright].T, ends[~upright].T
    slopes, low, high = (y2 - y1) / (x2 - x1), np.minimum(x1, x2), np.maximum(x1, x2)
    owners = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])[~upright]
    numbers = np.concatenate([np.arange(len(ring)) for ring in rings])[~upright]
    found = []
    for ring_number, ring in enumerate(rings[1:], start=1):
        x, y = ring[0]
        candidates = np.flatnonzero((low <= x) & (x <= high) & (owners < ring_number))
        ys = y1[candidates] + slopes[candidates] * (x - x1[candidates])
        nearest = int(np.where(ys <= y, y - ys, np.inf).argmin())
        edge = candidates[nearest]
        found.append((int(owners[edge]), int(numbers[edge]), float(ys[nearest])))
    return found


def _with_detours(ring: Ring, detours: dict[int, list[Ring]]) -> Ring:
    """A ring with detours from its edges, by the edge's number, each from a point of the edge and back to it."""
    pieces, done = [], 0
    for edge, leaving in sorted(detours.items()):
        pieces.append(ring[done : edge + 1])
        pieces += sorted(leaving, key=lambda detour: abs(detour[0, 0] - ring[edge, 0]))
        done = edge + 1
    whole: Ring = np.concatenate((*pieces, ring[done:]))
    is_last = (whole != np.roll(whole, -1, axis=0)).any(axis=1)
    kept: Ring = whole[is_last]  # a detour may begin at a corner, which then stands there twice
    return kept
