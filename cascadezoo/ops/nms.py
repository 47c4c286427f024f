"""Non-maximum suppression with results of a fixed size."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms as _greedy_nms

from cascadezoo.ops.library import define
from cascadezoo.spec.conventions import Nms

# N images, K candidates an image, D results an image


def grouped_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, rule: Nms, max_keep: int
) -> tuple[Tensor, Tensor]:
    """Greedy NMS among the valid candidates of each group (``conventions.Nms``), best score first.

    Args:
        boxes: (N, K, 4) float32 xyxy pixels, no coordinate of a valid box below zero.
        scores: (N, K); groups: (N, K) integers from 0; valid: (N, K) bool.
        max_keep: D.

    Returns:
        ``keep`` (N, D) int64 indices into K, zero beyond each image's count, and ``count`` (N,) int64.
    """
    keep, count = torch.ops.cascadezoo.grouped_nms(
        boxes, scores, groups, valid, _threshold(rule), rule.extent, rule.rounded_shift, max_keep
    )
    return keep, count


def _threshold(rule: Nms) -> float:
    """The number that an IoU must exceed; IoU and threshold are float32 where equality counts."""
    return math.nextafter(float(np.float32(rule.iou)), 0) if rule.inclusive else rule.iou


def _reference(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    valid: Tensor,
    iou: float,
    extent: int,
    rounded_shift: bool,
    max_keep: int,
) -> tuple[Tensor, Tensor]:
    keep = torch.zeros(len(boxes), max_keep, dtype=torch.int64, device=boxes.device)
    count = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    for i in range(len(boxes)):
        candidates = valid[i].nonzero()[:, 0]
        if len(candidates) == 0:
            continue
        found = boxes[i, candidates].to(boxes.dtype if rounded_shift else torch.float64)
        shift = groups[i, candidates].to(found.dtype) * (found.max() + 1 + extent)
        found = found + shift[:, None]
        found[:, 2:] += extent
        # not torchvision's batched_nms: beyond some size it leaves out the shift, and with it the rounding
        kept = candidates[_greedy_nms(found, scores[i, candidates].to(found.dtype), iou)[:max_keep]]
        keep[i, : len(kept)] = kept
        count[i] = len(kept)
    return keep, count


def _fake(boxes: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    images, max_keep = boxes.shape[0], arguments[-1]
    return boxes.new_empty(images, max_keep, dtype=torch.int64), boxes.new_empty(images, dtype=torch.int64)


define(
    "grouped_nms(Tensor boxes, Tensor scores, Tensor groups, Tensor valid, float iou, int extent, bool rounded_shift,"
    " SymInt max_keep) -> (Tensor, Tensor)",
    _reference,
    _fake,
)
