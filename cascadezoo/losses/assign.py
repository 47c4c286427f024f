"""Which box learns which object: matching by IoU, then sampling (https://arxiv.org/abs/1506.01497, section 3.1.2).

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
from cascadezoo.spec.objective import Matching, Sampling

# R boxes, T objects of one image

BACKGROUND = -1
NEITHER = -2


class Drawn(NamedTuple):
    """Indices of the boxes that learn."""

    positive: Tensor  # (P,) int64
    negative: Tensor  # (Q,) int64


def match(boxes: Tensor, objects: Tensor, rule: Matching, extent: int) -> Tensor:
    """The object (R,) int64 of each of boxes (R, 4) among objects (T, 4), or BACKGROUND, or NEITHER."""
    if len(objects) == 0:
        return torch.full((len(boxes),), BACKGROUND, device=boxes.device)
    iou = pairwise_iou(boxes, objects, extent)
    most, of = iou.max(1)
    matched = torch.where(most >= rule.positive, of, NEITHER).masked_fill(most < rule.negative, BACKGROUND)
    if rule.best is None or len(boxes) == 0:
        return matched
    best = iou.amax(0)
    is_best = (iou == best) & (best >= rule.best.least) & (best > 0)
    if rule.best.taken:  # where a box is the best of several objects, of the last
        order = torch.arange(1, len(objects) + 1, device=boxes.device)
        of = (is_best * order).amax(1) - 1
    return torch.where(is_best.any(1), of, matched)


def sample(matched: Tensor, rule: Sampling, generator: torch.Generator | None) -> Drawn:
    """At most ``rule.size`` of the matched boxes (R,), at random; ``generator`` lives on the CPU."""
    positive, negative = everything(matched)
    positive = _some(positive, int(rule.size * rule.positive_fraction), generator)
    wanted = rule.size - len(positive)
    if rule.replacement and len(negative) > wanted:
        rows = torch.randint(len(negative), (wanted,), generator=generator).unique()
        return Drawn(positive, negative[rows.to(negative.device)])
    return Drawn(positive, _some(negative, wanted, generator))


def everything(matched: Tensor) -> Drawn:
    """Every box that is matched to an object or to background."""
    return Drawn((matched >= 0).nonzero()[:, 0], (matched == BACKGROUND).nonzero()[:, 0])


def _some(rows: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    if len(rows) <= count:
        return rows
    return rows[torch.randperm(len(rows), generator=generator)[:count].to(rows.device)]
