"""Outlines of masks, with fewer points where that changes next to nothing, for people who edit them."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from cascadezoo.coco.polygons import Polygon, polygons_of
from cascadezoo.coco.segmentations import bitmap
from cascadezoo.outputs.found import Window

_LEAST = 0.99  # overlap (IoU) with the mask, below which more points are kept

_Ring = npt.NDArray[np.float64]


def outlines_of(window: Window) -> list[Polygon]:
    """One polygon for each connected part of a mask, with its holes, in pixels of the image, corners.

    What they cover and the mask have an IoU of 0.99 or more; where no fewer points are enough for that, they run along
    the pixels' edges, exactly.
    """
    exact = polygons_of(window.mask, window.left, window.top)
    for fewer in _WAYS:
        polygons = [Polygon(fewer(polygon.outer), [fewer(hole) for hole in polygon.holes]) for polygon in exact]
        if all(len(ring) > 2 for ring in rings_of(polygons)) and _overlap(polygons, window) >= _LEAST:
            return polygons
    return exact


def rings_of(polygons: Sequence[Polygon]) -> list[_Ring]:
    """All outlines, holes too."""
    return [ring for polygon in polygons for ring in (polygon.outer, *polygon.holes)]


def _fewer(ring: _Ring, tolerance: float) -> _Ring:
    """Some of the points, such that none of the others is further than that from the new outline (Douglas-Peucker)."""
    points = cv2.approxPolyDP(ring.astype(np.float32).reshape(-1, 1, 2), tolerance, True)
    return points.reshape(-1, 2).astype(np.float64)


def _smooth(ring: _Ring) -> _Ring:
    """An outline along pixels' edges, by the middles of these edges: it has no steps, and rounds corners off."""
    sides = np.roll(ring, -1, axis=0) - ring
    lengths = np.abs(sides).sum(axis=1).astype(int)
    along = np.arange(lengths.sum()) - np.repeat(lengths.cumsum() - lengths, lengths) + 0.5
    middles: _Ring = np.repeat(ring, lengths, axis=0) + np.repeat(np.sign(sides), lengths, axis=0) * along[:, None]
    return middles


# straight sides and sharp corners first, then curves, with more points and more
_WAYS: tuple[Callable[[_Ring], _Ring], ...] = (
    lambda ring: _fewer(ring, 1),
    lambda ring: _fewer(_smooth(ring), 0.75),
    lambda ring: _fewer(_smooth(ring), 0.5),
)


def _overlap(polygons: Sequence[Polygon], window: Window) -> float:
    """The IoU of polygons and mask, both in pixels; a hole may have a part inside."""
    covered = np.zeros(window.mask.shape, np.bool_)
    for outer, holes in polygons:
        (left, top), (right, bottom) = np.floor(outer.min(axis=0)).astype(int), np.ceil(outer.max(axis=0)).astype(int)
        size = (int(bottom - top), int(right - left))
        own = bitmap([outer - (left, top)], *size) > 0
        if holes:
            own &= bitmap([hole - (left, top) for hole in holes], *size) == 0
        covered[top - window.top : bottom - window.top, left - window.left : right - window.left] |= own
    return float((covered & window.mask).sum() / (covered | window.mask).sum())
