"""Non-maximum suppression with results of a fixed size.

Shapes: N images, K candidates per image, R rows of C classes, D results per image.

Formulas ported from (licences in NOTICE):

- open-mmlab/mmcv 2.1.0, Copyright (c) OpenMMLab, Apache-2.0: ``mmcv/ops/nms.py`` (``batched_nms``)
- facebookresearch/Detectron e8942c8, Copyright (c) 2017-present, Facebook, Inc., Apache-2.0:
  ``detectron/utils/cython_nms.pyx``
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou
from torchvision.ops import nms as _greedy_nms

from cascadezoo.errors import UsageError
from cascadezoo.ops.library import define
from cascadezoo.spec.conventions import Nms

_COMPARED = 2**30  # overlaps that a compiled call on a CPU may compute, whose end Ctrl-C waits for: some seconds
_PIECE = 2**14  # candidates of one call of torchvision's operator on a CPU
_PAIRS = 2**17  # overlaps computed at once
_PASS = 512  # candidates of one pass on a CPU, unless one group has more: its time grows with their square

Found = tuple[Tensor, Tensor]  # keep and count, as below


def grouped_nms(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    valid: Tensor,
    rule: Nms,
    max_keep: int,
    *,
    group_count: int | None = None,
    group_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Greedy NMS among the valid candidates of each group (``conventions.Nms``), best score first.

    Args:
        boxes: (N, K, 4) float32 xyxy pixels, no coordinate of a valid box below zero.
        scores: (N, K); groups: (N, K) integers from 0; valid: (N, K) bool.
        max_keep: D.
        group_count: the groups lie below it; None asks the data, for which a GPU has to be waited for.
        group_size: no group of an image has more valid candidates; None: any could hold all K.

    Returns:
        ``keep`` (N, D) int64 indices into K, zero beyond each image's count, and ``count`` (N,) int64.

    Raises:
        UsageError: ``group_count`` or ``group_size`` is too low; a RuntimeError where the operator is compiled.  A
            GPU's tensors are not looked at for this: the candidates beyond are left out there.
    """
    if group_count is None:
        group_count = int(groups.max()) + 1 if groups.numel() else 0
    group_size = scores.shape[1] if group_size is None else group_size
    compared = scores.numel() * min(group_size, max_keep)
    pieces = not torch.compiler.is_compiling() and boxes.device.type == "cpu" and compared > _COMPARED
    operator = _reference if pieces else torch.ops.cascadezoo.grouped_nms

    def run(some: Tensor, rounded_shift: bool) -> Found:
        how, sizes = (_threshold(rule), rule.extent, rounded_shift), (group_count, group_size, max_keep)
        found: Found = operator(boxes, scores, groups, some, *how, *sizes)
        return found

    return _by_number(run, valid, lambda: valid.sum(1), scores.shape[1], rule)


def class_nms(
    boxes: Tensor, scores: Tensor, valid: Tensor, score_thresh: float, rule: Nms, max_keep: int
) -> tuple[Tensor, Tensor]:
    """Greedy NMS per class among the valid rows' scores strictly above a threshold, best score first.

    Args:
        boxes: (N, R, B, 4) float32 xyxy pixels, B = C where each class has a box of its own, else 1.
        scores: (N, R, C) without background; valid: (N, R) bool.
        score_thresh: what a candidate's score exceeds.
        max_keep: D.

    Returns:
        ``keep`` (N, D) int64 indices into R * C, zero beyond each image's count, and ``count`` (N,) int64.
    """

    def run(some: Tensor, rounded_shift: bool) -> Found:
        how = score_thresh, _threshold(rule), rule.extent, rounded_shift
        found: Found = torch.ops.cascadezoo.class_nms(boxes, scores, some, *how, max_keep)
        return found

    def numbers() -> Tensor:
        return ((scores > score_thresh) & valid[..., None]).sum((1, 2))

    return _by_number(run, valid, numbers, scores[0].numel(), rule)


def _by_number(
    run: Callable[[Tensor, bool], Found], valid: Tensor, numbers: Callable[[], Tensor], most: int, rule: Nms
) -> Found:
    """``run`` with the images whose boxes are shifted, and with those that have too many for it, an image in one alone.

    ``numbers``: gives the candidates (N,) of each image, of which none has more than ``most``.
    """
    limit = rule.shift_limit
    if not rule.rounded_shift or limit is None or most <= limit:
        return run(valid, rule.rounded_shift)
    few = (numbers() <= limit)[:, None]
    (keep, count), (rest, number) = run(valid & few, True), run(valid & ~few, False)
    return keep + rest, count + number


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
    group_count: int,
    group_size: int,
    max_keep: int,
) -> tuple[Tensor, Tensor]:
    if boxes.device.type == "cpu":
        _check_groups(groups, valid, group_count, group_size)
    keep = torch.zeros(len(boxes), max_keep, dtype=torch.int64, device=boxes.device)
    count = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    for i in range(len(boxes)):
        candidates = valid[i].nonzero()[:, 0]
        if len(candidates) == 0:
            continue
        shifted = boxes[i, candidates].to(boxes.dtype if rounded_shift else torch.float64)
        # not torchvision's batched_nms: beyond some size it leaves out the shift, and with it the rounding
        largest = shifted.where(shifted.isfinite(), 0).max()  # a box that is no number parts no others
        shifted += (groups[i, candidates] * (largest + 1 + extent))[:, None]
        shifted[:, 2:] += extent
        kept = candidates[_best_first(shifted, scores[i, candidates], groups[i, candidates], iou)[:max_keep]]
        keep[i, : len(kept)] = kept
        count[i] = len(kept)
    return keep, count


def _check_groups(groups: Tensor, valid: Tensor, count: int, size: int) -> None:
    for i in range(len(groups)):
        of_image = groups[i, valid[i]]
        if of_image.numel() and int(of_image.max()) >= count:
            raise UsageError(f"nms: a candidate of group {int(of_image.max())}, where there are {count} groups")
        if len(of_image) > size and int(of_image.unique(return_counts=True)[1].max()) > size:
            raise UsageError(f"nms: a group of more than {size} candidates, which was to be the largest")


def _best_first(shifted: Tensor, scores: Tensor, groups: Tensor, iou: float) -> Tensor:
    """Rows of the boxes (K, 4) kept by NMS, by falling score and, where scores are equal, in their order.

    Boxes of different groups lie apart, so a pass over some groups keeps what a pass over all of them would.
    """
    scores = scores.to(shifted.dtype)
    passes = [rows[_greedy(shifted[rows], scores[rows], iou)] for rows in _passes(groups)]
    kept = torch.cat(passes).sort().values
    return kept[scores[kept].argsort(descending=True, stable=True)]


def _greedy(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    """What torchvision's ``nms`` keeps of boxes (K, 4), best score first, in calls of bounded length on a CPU."""
    if boxes.device.type != "cpu" or len(boxes) <= _PIECE:
        kept: Tensor = _greedy_nms(boxes, scores, iou)
        return kept
    left, best = scores.argsort(descending=True, stable=True), []
    while len(left):
        piece, left = left[:_PIECE], left[_PIECE:]
        falling = torch.arange(len(piece), 0, -1, dtype=boxes.dtype)
        best.append(piece[_greedy_nms(boxes[piece], falling, iou)])
        for some in best[-1].split(max(1, _PAIRS // max(1, len(left)))):
            # compared in float64, as torchvision's operator does
            left = left[~(box_iou(boxes[some], boxes[left]).double() > iou).any(0)]
    return torch.cat(best)


def _passes(groups: Tensor) -> tuple[Tensor, ...]:
    """The rows of ``groups`` (K,), each group whole in one part; on a GPU, which is quicker so, in a single part."""
    by_group = groups.argsort(stable=True)
    if groups.device.type != "cpu":
        return (by_group,)
    ordered = groups[by_group]
    part = torch.searchsorted(ordered, ordered) // _PASS  # a group goes where its first row falls
    _, sizes = part.unique_consecutive(return_counts=True)
    parts: tuple[Tensor, ...] = by_group.split(sizes.tolist())
    return parts


def _fake(boxes: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    images, max_keep = boxes.shape[0], arguments[-1]
    return boxes.new_empty(images, max_keep, dtype=torch.int64), boxes.new_empty(images, dtype=torch.int64)


def _class_reference(
    boxes: Tensor,
    scores: Tensor,
    valid: Tensor,
    score_thresh: float,
    iou: float,
    extent: int,
    rounded_shift: bool,
    max_keep: int,
) -> tuple[Tensor, Tensor]:
    rows, classes = scores.shape[1:]
    labels = torch.arange(classes, device=scores.device).expand_as(scores)
    candidates = (scores > score_thresh) & valid[..., None]
    keep, count = torch.ops.cascadezoo.grouped_nms(
        boxes.expand(-1, -1, classes, -1).flatten(1, 2),
        scores.flatten(1),
        labels.flatten(1),
        candidates.flatten(1),
        iou,
        extent,
        rounded_shift,
        classes,
        rows,
        max_keep,
    )
    return keep, count


define(
    "grouped_nms(Tensor boxes, Tensor scores, Tensor groups, Tensor valid, float iou, int extent, bool rounded_shift,"
    " SymInt group_count, SymInt group_size, SymInt max_keep) -> (Tensor, Tensor)",
    _reference,
    _fake,
    compiled=("cpu", "cuda"),
)
define(
    "class_nms(Tensor boxes, Tensor scores, Tensor valid, float score_thresh, float iou, int extent,"
    " bool rounded_shift, SymInt max_keep) -> (Tensor, Tensor)",
    _class_reference,
    _fake,
    compiled=("cpu", "cuda"),
)
