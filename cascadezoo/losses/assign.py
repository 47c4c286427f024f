"""Which box learns which object: matching by IoU, then sampling (https://arxiv.org/abs/1506.01497, section 3.1.2).

R boxes (anchors or RoIs) and T ground-truth objects, both of one image.

Formulas ported from (licences in NOTICE):

- open-mmlab/mmdetection 3.3.0, Copyright (c) OpenMMLab, Apache-2.0: ``max_iou_assigner.py`` and ``random_sampler.py``
  under ``mmdet/models/task_modules``
- facebookresearch/Detectron e8942c8, Copyright (c) 2017-present, Facebook, Inc., Apache-2.0:
  ``detectron/roi_data/rpn.py``, ``detectron/roi_data/fast_rcnn.py``
- PaddlePaddle/PaddleDetection 2.6.0 (93e2d433), Copyright (c) PaddlePaddle Authors, Apache-2.0:
  ``ppdet/modeling/proposal_generator/target.py``
"""

from typing import NamedTuple

import torch
from torch import Tensor

from cascadezoo.ops.boxes import pairwise_iou
from cascadezoo.spec.objective import BestBoxes, Matching, Sampling

BACKGROUND = -1
NEITHER = -2

_PAIRS = 1_000_000  # box-object pairs that are compared at once; each takes about 40 bytes


class Sampled(NamedTuple):
    """Rows of the boxes that take part in the losses."""

    positive: Tensor  # (F,) int64, matched to an object
    negative: Tensor  # (S - F,) int64, background


def match(boxes: Tensor, objects: Tensor, rule: Matching, extent: int) -> Tensor:
    """The object (R,) int64 of each of boxes (R, 4) among objects (T, 4), or BACKGROUND, or NEITHER.

    Boxes are compared with all objects a chunk at a time, so that the memory needed does not grow with R * T.
    """
    if len(objects) == 0:
        return torch.full((len(boxes),), BACKGROUND, device=boxes.device)
    rows = max(1, _PAIRS // len(objects))
    most, best = boxes.new_empty(len(boxes)), boxes.new_zeros(len(objects))  # the highest IoU of each
    of = torch.empty_like(most, dtype=torch.int64)  # the object that each box has it with
    for start in range(0, len(boxes), rows):
        chunk = slice(start, start + rows)
        iou = pairwise_iou(boxes[chunk], objects, extent)
        most[chunk], of[chunk] = iou.max(1)
        best = torch.maximum(best, iou.amax(0))
    matched = torch.where(most >= rule.positive, of, NEITHER).masked_fill(most < rule.negative, BACKGROUND)
    if rule.best is None:
        return matched
    # no other box can be the best of an object, for it overlaps every object less than the box that is
    for some in (most >= best.min()).nonzero().flatten().split(rows):
        iou = pairwise_iou(boxes[some], objects, extent)
        matched[some] = _match_best(iou, best, of[some], matched[some], rule.best)
    return matched


def sample(matched: Tensor, rule: Sampling, generator: torch.Generator | None) -> Sampled:
    """At most ``rule.size`` of the matched boxes (R,), at random; ``generator`` lives on the CPU."""
    positive, negative = everything(matched)
    positive = _some(positive, int(rule.size * rule.positive_fraction), generator)
    wanted = rule.size - len(positive)
    if rule.replacement and len(negative) > wanted:
        rows = torch.randint(len(negative), (wanted,), generator=generator).unique()
        return Sampled(positive, negative[rows.to(negative.device)])
    return Sampled(positive, _some(negative, wanted, generator))


def everything(matched: Tensor) -> Sampled:
    """Every box that is matched to an object or to background."""
    return Sampled((matched >= 0).nonzero().flatten(), (matched == BACKGROUND).nonzero().flatten())


def _match_best(iou: Tensor, best: Tensor, of: Tensor, matched: Tensor, rule: BestBoxes) -> Tensor:
    """``matched`` (R,), but boxes that have an object's highest IoU, ``best`` (T,), are positive.

    ``iou`` (R, T); ``of`` (R,): the object that each box overlaps most.
    """
    is_best = (iou == best) & (best >= rule.least) & (best > 0)
    if rule.taken:  # where a box is the best of several objects, of the last
        order = torch.arange(1, len(best) + 1, device=iou.device)
        of = (is_best * order).amax(1) - 1
    return torch.where(is_best.any(1), of, matched)


def _some(rows: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    if len(rows) <= count:
        return rows
    return rows[torch.randperm(len(rows), generator=generator)[:count].to(rows.device)]
