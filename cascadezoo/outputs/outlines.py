"""Outlines of masks, with fewer points where that changes next to nothing, for people who edit them."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from cascadezoo.coco.polygons import Polygon, polygons_of
from cascadezoo.coco.segmentations import bitmap
from cascadezoo.outputs.found import Window

_TOLERANCES = (1.0, 0.5)  # pixels that an outline may move by; the larger the fewer points
_LEAST = 0.995  # overlap (IoU) with the mask below which a smaller tolerance is tried

_Ring = npt.NDArray[np.float64]


def outlines_of(window: Window) -> list[Polygon]:
    """One polygon for each connected part of a mask, with its holes, in pixels of the image, corners.

    Its area and the mask have an IoU of 0.995 or more, or else it runs along the pixels' edges, exactly.
    """
    exact = polygons_of(window.mask, window.left, window.top)
    for tolerance in _TOLERANCES:
        fewer = [Polygon(_fewer(p.outer, tolerance), [_fewer(hole, tolerance) for hole in p.holes]) for p in exact]
        if _is_sound(fewer) and _overlap(fewer, window) >= _LEAST:
            return fewer
    return exact


def rings_of(polygons: Sequence[Polygon]) -> list[_Ring]:
    """All outlines, holes too."""
    return [ring for polygon in polygons for ring in (polygon.outer, *polygon.holes)]


def _fewer(ring: _Ring, tolerance: float) -> _Ring:
    points = cv2.approxPolyDP(ring.astype(np.float32).reshape(-1, 1, 2), tolerance, True)
    return points.reshape(-1, 2).astype(np.float64)


def _is_sound(polygons: Sequence[Polygon]) -> bool:
    return all(len(ring) > 2 for ring in rings_of(polygons))


def _overlap(polygons: Sequence[Polygon], window: Window) -> float:
    """The IoU of polygons and mask, both in pixels; a hole may have a part inside."""
    shape = window.mask.shape
    covered = np.zeros(shape, np.bool_)
    for outer, holes in polygons:
        own = _filled([outer], window)
        if holes:
            own &= ~_filled(holes, window)
        covered |= own
    return float((covered & window.mask).sum() / (covered | window.mask).sum())


def _filled(rings: Sequence[_Ring], window: Window) -> npt.NDArray[np.bool_]:
    return bitmap([ring - (window.left, window.top) for ring in rings], *window.mask.shape) > 0
