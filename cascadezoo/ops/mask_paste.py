"""From a detection's small mask of probabilities to the pixels of the image.

Shapes: N detections, M x M cells per mask, an image of H x W pixels.  Masks are computed one detection at a time and
only where they can be set, so that memory follows the largest box, not N * H * W.

Formulas ported from (licences in NOTICE):

- open-mmlab/mmdetection 3.3.0, Copyright (c) OpenMMLab, Apache-2.0:
  ``mmdet/models/roi_heads/mask_heads/fcn_mask_head.py`` (``_do_paste_mask``)
- facebookresearch/Detectron e8942c8, Copyright (c) 2017-present, Facebook, Inc., Apache-2.0:
  ``detectron/core/test.py`` (``segm_results``), ``detectron/utils/boxes.py`` (``expand_boxes``)
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cascadezoo.spec.conventions import MaskPaste

MASK_THRESHOLD = 0.5
GRID_PIXELS = 2**20  # a sampling grid holds at most this many points (8 bytes each), or one row of pixels


class Crop(NamedTuple):
    """The part of an image outside which a mask is empty: its top left pixel and the (h, w) bool mask there; h or w
    is 0 when the box lies outside the image."""

    top: int
    left: int
    mask: Tensor


PasteMethod: TypeAlias = Callable[[Tensor, Tensor, int, int], Iterator[Crop]]
"""(probabilities (N, M, M), boxes (N, 4) xyxy pixels, height, width) -> one ``Crop`` per detection, in order."""


def paste_bilinear(probabilities: Tensor, boxes: Tensor, height: int, width: int) -> Iterator[Crop]:
    """Sample each mask bilinearly at the pixel centres (x + 0.5, y + 0.5); a pixel is set at 0.5 or more.

    ``probabilities`` (N, M, M) floating point in 0..1 spread over ``boxes`` (N, 4) xyxy, in pixels, which may reach
    beyond the image.  Cells fade to zero beyond the box.  A side of zero length samples the mask's middle.  A
    coordinate that is not a finite number makes the mask empty.

    Source: mmdetection 3.3.0, mmdet/models/roi_heads/mask_heads/fcn_mask_head.py, ``_do_paste_mask`` with
    ``skip_empty``, here in rows of bounded size.
    """
    boxes = boxes.detach().float()
    for cells, box, (x1, y1, x2, y2) in zip(probabilities.detach().float(), boxes, boxes.tolist(), strict=True):
        if not all(map(math.isfinite, (x1, y1, x2, y2))):
            yield _nothing(cells.device)
            continue
        left, right = _window(x1, x2, width)
        top, bottom = _window(y1, y2, height)
        mask = torch.empty((bottom - top, right - left), dtype=torch.bool, device=cells.device)
        u = _relative_centres(left, right, box[0], box[2])
        v = _relative_centres(top, bottom, box[1], box[3])
        rows = max(1, GRID_PIXELS // max(1, len(u)))
        for start in range(0, len(v), rows):
            part = v[start : start + rows]
            grid = torch.stack((u.expand(len(part), -1), part[:, None].expand(-1, len(u))), dim=-1)
            values = F.grid_sample(cells[None, None], grid[None], padding_mode="zeros", align_corners=False)
            mask[start : start + rows] = values[0, 0] >= MASK_THRESHOLD
        yield Crop(top, left, mask)


def paste_integer_box(probabilities: Tensor, boxes: Tensor, height: int, width: int) -> Iterator[Crop]:
    """Resize each mask, with a rim of zeros, to its box in whole pixels; a pixel is set above 0.5.

    ``probabilities`` (N, M, M) in 0..1, ``boxes`` (N, 4) xyxy in pixels, x2 the last pixel inside.  The box is widened
    about its centre by the rim, (M + 2) / M, and truncated to integers towards zero.  Where no float32 holds the
    widened box the mask is empty.

    Source: Detectron ``core/test.py`` ``segm_results``, ``utils/boxes.py`` ``expand_boxes``.
    """
    on_host = (x.detach().float().cpu().numpy() for x in (probabilities, boxes))
    for cells, box in zip(*on_host, strict=True):
        rimmed = np.pad(cells, 1)
        with np.errstate(over="ignore", invalid="ignore"):
            centre, half = (box[2:] + box[:2]) * np.float32(0.5), (box[2:] - box[:2]) * np.float32(0.5)
            half = half * np.float32(len(rimmed) / len(cells))
            corners = (*(centre - half).tolist(), *(centre + half).tolist())
        if not all(map(math.isfinite, corners)):
            yield _nothing(probabilities.device)
            continue
        x1, y1, x2, y2 = map(int, corners)
        left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2 + 1, width), min(y2 + 1, height)
        if right <= left or bottom <= top:
            yield _nothing(probabilities.device)
            continue
        rows, columns = slice(top - y1, bottom - y1), slice(left - x1, right - x1)
        resized = _resized(rimmed, y2 - y1 + 1, x2 - x1 + 1, rows, columns, 4 * max(GRID_PIXELS, height * width))
        yield Crop(top, left, torch.from_numpy(resized > MASK_THRESHOLD).to(probabilities.device))


PASTE: dict[MaskPaste, PasteMethod] = {
    MaskPaste.BILINEAR: paste_bilinear,
    MaskPaste.INTEGER_BOX: paste_integer_box,
}


def paste(
    probabilities: Tensor, boxes: Tensor, height: int, width: int, method: PasteMethod = paste_bilinear
) -> Tensor:
    """Whole masks, (N, H, W) bool, as ``method`` pastes them."""
    return whole(method(probabilities, boxes, height, width), len(boxes), height, width, probabilities.device)


def whole(crops: Iterable[Crop], count: int, height: int, width: int, device: torch.device) -> Tensor:
    """Whole masks, (N, H, W) bool, of the crops of N detections."""
    masks = torch.zeros((count, height, width), dtype=torch.bool, device=device)
    for mask, crop in zip(masks, crops, strict=True):
        h, w = crop.mask.shape
        mask[crop.top : crop.top + h, crop.left : crop.left + w] = crop.mask
    return masks


def _nothing(device: torch.device) -> Crop:
    return Crop(0, 0, torch.zeros((0, 0), dtype=torch.bool, device=device))


def _resized(cells: np.ndarray, height: int, width: int, rows: slice, columns: slice, most: int) -> np.ndarray:
    """Cells (M, M) resized to ``height`` x ``width``, of which these rows and columns are wanted.

    OpenCV resizes the whole of it; what has more than ``most`` pixels is computed where it is wanted alone.
    """
    if height * width <= most:
        return cv2.resize(cells, (width, height))[rows, columns]
    down, across = _tents(len(cells), height, rows), _tents(len(cells), width, columns)
    wanted: np.ndarray = down @ cells @ across.T
    return wanted


def _tents(cells: int, size: int, window: slice) -> np.ndarray:
    """How much each of the cells counts, (window, cells) float32, in linear interpolation to ``size`` pixels."""
    at = (np.arange(window.start, window.stop) + 0.5) * (cells / size) - 0.5
    distance = np.abs(at.clip(0, cells - 1)[:, None] - np.arange(cells))
    tents: np.ndarray = np.maximum(1 - distance, 0).astype(np.float32)
    return tents


def _window(low: float, high: float, size: int) -> tuple[int, int]:
    """The pixels from one before ``low`` to one after ``high`` that lie in the image; may be empty."""
    start = math.floor(min(max(low - 1, 0), size))
    return start, max(start, math.ceil(max(min(high + 1, size), 0)))


def _relative_centres(start: int, stop: int, low: Tensor, high: Tensor) -> Tensor:
    """Pixel centres of ``start..stop`` for the sampler: -1 at ``low``, 1 at ``high``; 0 where these coincide."""
    centres = torch.arange(start, stop, dtype=torch.float32, device=low.device) + 0.5
    centres = (centres - low) / (high - low) * 2 - 1
    return centres.masked_fill(centres.isinf(), 0)
