"""COCO's run-length encoding (RLE) of a mask that is known only inside a window.

Formulas ported from (licences in NOTICE):

- cocodataset/cocoapi (pycocotools 2.0), Copyright (c) 2014, Piotr Dollar and Tsung-Yi Lin, BSD-2-Clause:
  ``common/maskApi.c`` (``rleFrString``)
"""

from collections.abc import Mapping
from typing import Any, TypedDict

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
    return encode_runs(run_ends(crop, top, left, height, width), height, width)


def decode_crop(rle: Rle | Mapping[str, Any]) -> tuple[npt.NDArray[np.bool_], int, int]:
    """What ``encode_crop`` takes, of a sound RLE: the smallest (h, w) mask that holds its pixels, its row and column.

    Of an empty mask h and w are 0.  (``pycocotools.mask.decode`` makes the whole mask, and warns with NumPy 2.)
    """
    height = rle["size"][0]
    ends = _counts(rle["counts"]).cumsum()
    stops = ends[1::2]
    starts = ends[0::2][: len(stops)]
    starts, stops = starts[starts < stops], stops[starts < stops]
    if not len(starts):
        return np.zeros((0, 0), np.bool_), 0, 0
    left, right = int(starts[0]) // height, (int(stops[-1]) - 1) // height + 1
    pixels = np.zeros((right - left) * height, np.bool_)
    for start, stop in zip((starts - left * height).tolist(), (stops - left * height).tolist(), strict=True):
        pixels[start:stop] = True
    columns = pixels.reshape(right - left, height)
    rows = np.flatnonzero(columns.any(axis=0))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    return np.ascontiguousarray(columns[:, top:bottom].T), top, left


def _counts(text: str | bytes) -> npt.NDArray[np.int64]:
    """The lengths of the runs: numbers in groups of five bits, least first, the sixth bit set where one follows; from
    the fourth on as differences to the number two before."""
    data = text if isinstance(text, bytes) else text.encode("ascii")
    groups = np.frombuffer(data, np.uint8).astype(np.int64) - 48
    lasts = np.flatnonzero(groups & 32 == 0)
    firsts = np.concatenate(([0], lasts[:-1] + 1))
    bits = 5 * (np.arange(len(groups)) - np.repeat(firsts, lasts - firsts + 1))
    numbers = np.add.reduceat((groups & 31) << bits, firsts)
    numbers -= np.where(groups[lasts] & 16, 1 << (bits[lasts] + 5), 0)  # negative
    numbers[1::2] = numbers[1::2].cumsum()
    numbers[2::2] = numbers[2::2].cumsum()
    return numbers


def encode_runs(ends: npt.NDArray[np.integer[Any]], height: int, width: int) -> Rle:
    """The RLE of a mask whose runs end at ``ends`` (``run_ends``)."""
    counts = ends.copy()
    counts[1:] -= ends[:-1]
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return Rle(size=[height, width], counts=rle["counts"].decode("ascii"))


def run_ends(crop: npt.NDArray[np.bool_], top: int, left: int, height: int, width: int) -> npt.NDArray[np.int64]:
    """The pixel after each run of the mask that ``encode_crop`` encodes, counted down the image's columns.

    Runs are empty and set by turns, the first empty, if of no pixel; the last ends at height * width.
    """
    starts, ends = _runs(crop, top, left, height)
    joined = np.flatnonzero(starts[1:] == ends[:-1])  # from the bottom of one column into the top of the next
    starts, ends = np.delete(starts, joined + 1), np.delete(ends, joined)
    bounds = np.empty(2 * len(starts) + 1, dtype=np.int64)
    bounds[0:-1:2], bounds[1:-1:2], bounds[-1] = starts, ends, height * width
    return bounds[:-1] if len(ends) and ends[-1] == bounds[-1] else bounds  # nothing follows the last run


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
