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
    x1, y1, x2, y2 = boxes.unbind(-1)
    w, h = x2 - x1 + coder.extent, y2 - y1 + coder.extent
    dx, dy, dw, dh = (d * std for d, std in zip(deltas.unbind(-1), coder.stds, strict=True))
    centre_x, centre_y = (x1 + x2 + coder.extent) * 0.5 + w * dx, (y1 + y2 + coder.extent) * 0.5 + h * dy
    low, high = coder.log_scale
    half_w, half_h = w * dw.clamp(low, high).exp() * 0.5, h * dh.clamp(low, high).exp() * 0.5
    return torch.stack(
        (
            centre_x - half_w,
            centre_y - half_h,
            centre_x + half_w - coder.extent,
            centre_y + half_h - coder.extent,
        ),
        -1,
    )


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
    x1, y1, x2, y2 = boxes.unbind(-1)
    sides = sizes.to(boxes.dtype).view(-1, *[1] * (boxes.ndim - 2), 2) - extent
    height, width = sides.unbind(-1)
    zero = torch.zeros_like(width)
    return torch.stack(
        (x1.clamp(zero, width), y1.clamp(zero, height), x2.clamp(zero, width), y2.clamp(zero, height)), -1
    )


def at_least(boxes: Tensor, side: float, extent: int) -> Tensor:
    """(...,) bool: the boxes (..., 4) whose width and height are both at least ``side``."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x2 - x1 + extent >= side) & (y2 - y1 + extent >= side)


def has_area(boxes: Tensor) -> Tensor:
    """(...,) bool: the boxes (..., 4) whose width and height, without ``extent``, are above zero."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x2 > x1) & (y2 > y1)
