"""Boxes (x1, y1, x2, y2) in pixels, last dimension 4."""

import torch
from torch import Tensor

from cascadezoo.conventions import BoxCoder


def decode(deltas: Tensor, boxes: Tensor, coder: BoxCoder) -> Tensor:
    """Apply (dx, dy, dw, dh) deltas to boxes of the same shape (..., 4) (R-CNN, Girshick et al. 2014, appendix C)."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    w, h = x2 - x1, y2 - y1
    dx, dy, dw, dh = (d * std for d, std in zip(deltas.unbind(-1), coder.stds, strict=True))
    centre_x, centre_y = (x1 + x2) * 0.5 + w * dx, (y1 + y2) * 0.5 + h * dy
    low, high = coder.log_scale
    half_w, half_h = w * dw.clamp(low, high).exp() * 0.5, h * dh.clamp(low, high).exp() * 0.5
    return torch.stack((centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h), -1)


def clip(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Clip boxes (N, R, 4) to their pictures: ``sizes`` (N, 2) height and width, coordinates in [0, width]."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    height, width = sizes[:, None].to(boxes.dtype).unbind(-1)
    zero = torch.zeros_like(width)
    return torch.stack(
        (x1.clamp(zero, width), y1.clamp(zero, height), x2.clamp(zero, width), y2.clamp(zero, height)), -1
    )
