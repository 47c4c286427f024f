"""COCO's run-length encoding (RLE) of a mask that is known only inside a window."""

from typing import TypedDict

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask


class Rle(TypedDict):
    """A mask as pycocotools writes it into JSON: ``size`` is [height, width], ``counts`` its compressed runs."""

    size: list[int]
    counts: str


def encode_crop(crop: npt.NDArray[np.bool_], top: int, left: int, height: int, width: int) -> Rle:
    """The RLE of a (height, width) mask that is ``crop`` (h, w) at row ``top``, column ``left``, and empty elsewhere.

    Equal, byte for byte, to ``pycocotools.mask.encode`` of the whole mask, which is never built.
    """
    starts, ends = _runs(crop, top, left, height)
    joined = np.flatnonzero(starts[1:] == ends[:-1])  # from the bottom of one column into the top of the next
    starts, ends = np.delete(starts, joined + 1), np.delete(ends, joined)
    bounds = np.empty(2 * len(starts) + 2, dtype=np.int64)
    bounds[0], bounds[-1] = 0, height * width
    bounds[1:-1:2], bounds[2:-1:2] = starts, ends
    counts = np.diff(bounds)
    if len(starts) and counts[-1] == 0:  # nothing follows the last run
        counts = counts[:-1]
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return Rle(size=[height, width], counts=rle["counts"].decode("ascii"))


def _runs(crop: npt.NDArray[np.bool_], top: int, left: int, height: int) -> tuple[npt.NDArray[np.int64], ...]:
    """First pixels of the runs of each column, and the pixels after their last, counted down the image's columns."""
    h, w = crop.shape
    columns = np.zeros((w, h + 1), dtype=np.bool_)  # each column ends with an empty pixel, so runs end within it
    columns[:, :h] = crop.T
    flat = columns.reshape(-1)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat[:1].any():
        changes = np.insert(changes, 0, 0)
    column, row = np.divmod(changes, h + 1)
    pixels = (left + column) * height + top + row
    return pixels[0::2], pixels[1::2]
