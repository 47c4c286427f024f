"""Arithmetic of boxes (x1, y1, x2, y2) in pixels, the last dimension 4.

``extent`` is 1 where x2 is the last pixel inside a box, else 0 (``cascadezoo.spec.conventions``).

Formulas ported from (licences in NOTICE):

- open-mmlab/mmdetection 3.3.0, Copyright (c) OpenMMLab, Apache-2.0:
  ``mmdet/models/task_modules/coders/delta_xywh_bbox_coder.py``
- facebookresearch/Detectron e8942c8, Copyright (c) 2017-present, Facebook, Inc., Apache-2.0:
  ``detectron/utils/boxes.py``
"""

import torch
from torch import Tensor
from torchvision.ops import box_iou

from cascadezoo.spec.conventions import BoxCoder


def decode(deltas: Tensor, boxes: Tensor, coder: BoxCoder) -> Tensor:
    """Apply (dx, dy, dw, dh) deltas (..., 4) to boxes that broadcast with them (R-CNN, Girshick et al. 2014,
    appendix C)."""
    shift, growth = _times(deltas[..., :2], coder.stds[:2]), _times(deltas[..., 2:], coder.stds[2:])
    sides = sides_of(boxes, coder.extent)
    centre = _plus(boxes[..., :2] + boxes[..., 2:], coder.extent) * 0.5 + sides * shift
    half = sides * growth.clamp(*coder.log_scale).exp() * 0.5
    return torch.cat((centre - half, _plus(centre + half, -coder.extent)), -1)


def sides_of(boxes: Tensor, extent: int) -> Tensor:
    """Width and height (..., 2) of boxes (..., 4)."""
    return _plus(boxes[..., 2:] - boxes[..., :2], extent)


def _plus(x: Tensor, extent: int) -> Tensor:
    """``x + extent``; none is not worth an operator of its own."""
    return x + extent if extent else x


def _times(pairs: Tensor, factors: tuple[float, float]) -> Tensor:
    """Pairs (..., 2) times two factors, which almost always are one and the same."""
    first, second = factors
    return pairs * first if first == second else torch.stack((pairs[..., 0] * first, pairs[..., 1] * second), -1)


def encode(targets: Tensor, boxes: Tensor, coder: BoxCoder) -> Tensor:
    """The raw deltas (..., 4) with which ``decode`` moves boxes (..., 4) to targets (..., 4)."""
    size, goal = (b[..., 2:] - b[..., :2] + coder.extent for b in (boxes, targets))
    centre, wanted = (b[..., :2] + s * 0.5 for b, s in ((boxes, size), (targets, goal)))
    deltas = torch.cat(((wanted - centre) / size, (goal / size).log()), -1)
    return deltas / deltas.new_tensor(coder.stds)


def pairwise_iou(boxes: Tensor, others: Tensor, extent: int) -> Tensor:
    """Intersection over union (N, M) of boxes (N, 4) with others (M, 4)."""
    reach = boxes.new_tensor((0, 0, extent, extent))
    iou: Tensor = box_iou(boxes + reach, others + reach)
    return iou.nan_to_num(0)  # two boxes without area


def clip(boxes: Tensor, sizes: Tensor, extent: int) -> Tensor:
    """Clip boxes (N, ..., 4) to their images: ``sizes`` (N, 2) height and width, coordinates in 0..side - extent."""
    highest = _plus(sizes.to(boxes.dtype).flip(1), -extent).view(-1, *[1] * (boxes.ndim - 1), 2)
    pairs: Tensor = boxes.unflatten(-1, (2, 2))
    return pairs.clamp(torch.zeros_like(highest), highest).flatten(-2)


def at_least(boxes: Tensor, side: float, extent: int) -> Tensor:
    """(...,) bool: the boxes (..., 4) whose width and height are both at least ``side``."""
    return (sides_of(boxes, extent) >= side).all(-1)


def has_area(boxes: Tensor) -> Tensor:
    """(...,) bool: the boxes (..., 4) whose width and height, without ``extent``, are above zero."""
    return (boxes[..., 2:] > boxes[..., :2]).all(-1)
