"""What an annotation's ``segmentation`` may be, and its mask and area.

pycocotools trusts what it is given: a point far away ends the process or takes all memory, a damaged run-length
encoding gives any mask.  So nothing reaches it that was not checked here.

Formulas ported from (licences in NOTICE):

- cocodataset/cocoapi (pycocotools 2.0), Copyright (c) 2014, Piotr Dollar and Tsung-Yi Lin, BSD-2-Clause:
  ``common/maskApi.c`` (``rleFrString``)
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from cascadezoo.coco.rle import decode_crop

# pycocotools draws outlines at five times their size, in about 110 bytes a pixel of length
_LONGEST_OUTLINE = 2**20
_FAR = 1e9  # pixels: beyond any image

Bitmap = npt.NDArray[np.uint8]
Polygons = list[npt.NDArray[np.float64]]  # each (K, 2) x and y, K >= 3
Segmentation = Polygons | Mapping[str, Any]  # the latter: RLE with its counts compressed (text) or not (list)


class Malformed(ValueError):
    """A segmentation that is refused; ``kind`` is that of ``cascadezoo.coco.faults``."""

    def __init__(self, kind: str, problem: str) -> None:
        super().__init__(problem)
        self.kind = kind


def sound(segmentation: Any, size: tuple[int, int] | None) -> list[list[float]] | dict[str, Any] | None:
    """The segmentation as JSON has it, without polygons of less than three points; None where there is none.

    An empty list means that no polygon had three points.  ``size``: height and width of the image, None where they are
    not known: then only what needs no size is checked.  Raises Malformed.
    """
    if segmentation is None or segmentation == []:  # the latter is how many tools write a box without a mask
        return None
    if isinstance(segmentation, list):
        bound = sum(_checked_bound(polygon, size) for polygon in segmentation)
        if bound > _LONGEST_OUTLINE and (outline := sum(map(_outline, segmentation))) > _LONGEST_OUTLINE:
            raise Malformed("polygon-far", f"its outlines are {outline:.3g} pixels long, beyond {_LONGEST_OUTLINE}")
        return [polygon for polygon in segmentation if len(polygon) >= 6]
    if not isinstance(segmentation, dict):
        raise Malformed(
            "segmentation-type", f"a list of polygons or an RLE (size and counts) is wanted, not {shown(segmentation)}"
        )
    return _sound_rle(segmentation, size)


def reaches_beyond(polygons: list[list[float]], size: tuple[int, int], by: float) -> bool:
    """Whether a point lies more than ``by`` pixels outside the image."""
    height, width = size
    return any(
        min(polygon) < -by or max(polygon[::2]) > width + by or max(polygon[1::2]) > height + by for polygon in polygons
    )


def bitmap(segmentation: Segmentation, height: int, width: int) -> Bitmap:
    """The mask (height, width), 0 or 1, as pycocotools rasterises it; polygons in pixels of that size."""
    crop, top, left = decode_crop(_rle(segmentation, height, width))
    mask = np.zeros((height, width), np.uint8)
    mask[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    return mask


def encoded(segmentation: Any, height: int, width: int) -> Any:
    """A sound segmentation as pycocotools computes with it: an RLE, its counts compressed."""
    return _rle(as_arrays(segmentation), height, width)


def area(segmentation: Any, height: int, width: int) -> float:
    """How many pixels a sound segmentation covers."""
    return float(coco_mask.area(encoded(segmentation, height, width)))


def as_arrays(segmentation: Any) -> Any:
    """Polygons as (K, 2) arrays; an RLE, or None, as it is."""
    if isinstance(segmentation, list):
        return [np.array(polygon, dtype=np.float64).reshape(-1, 2) for polygon in segmentation]
    return segmentation


def shown(value: Any) -> str:
    """A value from the file for a message, cut to 80 characters."""
    if isinstance(value, int) and abs(value) >= 2**64:  # Python prints no more than 4300 digits
        return f"a number of {value.bit_length()} bits"
    try:
        text = json.dumps(value, default=repr)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}…"


def are_finite(numbers: list[Any]) -> bool:
    """Whether all are int or float, and of a size that pixels can have."""
    return set(map(type, numbers)) <= {int, float} and all(-_FAR < number < _FAR for number in numbers)


def _rle(segmentation: Segmentation, height: int, width: int) -> Any:
    if isinstance(segmentation, list):
        flat = [polygon.ravel().tolist() for polygon in segmentation]
        return coco_mask.merge(coco_mask.frPyObjects(flat, height, width))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, height, width)
    return segmentation


def _checked_bound(polygon: Any, size: tuple[int, int] | None) -> float:
    """A bound of ``_outline``, quickly; raises Malformed."""
    if not isinstance(polygon, list) or len(polygon) % 2 or not set(map(type, polygon)) <= {int, float}:
        raise Malformed("polygon-type", f"a polygon is a list of x1, y1, x2, y2, …, not {shown(polygon)}")
    if not polygon:
        return 0
    if not math.isfinite(_sum(polygon)) and any(type(n) is float and not math.isfinite(n) for n in polygon):
        raise Malformed("polygon-number", "a polygon holds NaN or an infinity")
    low, high = min(polygon), max(polygon)
    limit = _FAR if size is None else 2 * max(size)
    if not -limit < low <= high < limit:
        far = low if -low > high else high
        raise Malformed("polygon-far", f"a polygon's point at {_number(far)} lies far beyond the image")
    return len(polygon) / 2 * float(high - low)


def _outline(polygon: list[float]) -> float:
    """The polygon's length in pixels, the larger side of each edge."""
    points = np.array(polygon, dtype=np.float64).reshape(-1, 2)
    return float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())


def _sum(numbers: list[Any]) -> float:
    """The sum, which is finite only where all numbers are."""
    try:
        return float(sum(numbers))
    except OverflowError:  # a whole number beyond floats
        return math.inf


def _number(value: float) -> str:
    return shown(value) if isinstance(value, int) else f"{value:g}"


def _sound_rle(rle: dict[str, Any], size: tuple[int, int] | None) -> dict[str, Any]:
    own = rle.get("size")
    if not isinstance(own, list) or len(own) != 2 or not all(type(side) is int and 0 < side < _FAR for side in own):
        raise Malformed("rle-size", f"the size of an RLE is [height, width], not {shown(own)}")
    if size is not None and tuple(own) != size:
        raise Malformed("rle-size", f"its RLE is of size {own}, the image of [{size[0]}, {size[1]}] (height, width)")
    counts, total = rle.get("counts"), own[0] * own[1]
    if isinstance(counts, list):
        if not all(type(n) is int and n >= 0 for n in counts):
            raise Malformed("rle-counts", "the counts of its RLE are not all whole numbers of 0 or more")
        if sum(counts) != total:
            raise Malformed("rle-counts", f"the counts of its RLE do not add up to the {total} pixels of its size")
    elif not isinstance(counts, str):
        raise Malformed("rle-counts", f"the counts of an RLE are a list or a text, not {shown(counts)}")
    elif (covered := _pixels(counts)) is None:
        raise Malformed("rle-text", "its compressed RLE is damaged: its text is none that an RLE has")
    elif covered != total:
        raise Malformed("rle-text", f"its compressed RLE is damaged: its runs do not fill the {total} pixels")
    return {"size": own, "counts": counts}


def _pixels(counts: str) -> int | None:
    """How many pixels a compressed RLE covers, None where the text is no RLE; pycocotools itself trusts every text.

    Each number is written in groups of five bits, least first; from the third on, as its difference to the number two
    before (``rleFrString`` of pycocotools' maskApi.c).
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        group = ord(character) - 48
        if not 0 <= group < 64 or shift > 30:
            return None
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (1 << shift) if group & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            if runs[-1] < 0:
                return None
            value = shift = 0
    return None if shift else sum(runs)
