"""The losses of the region proposal network: objectness of anchors, and deltas of the positive ones.

N images; A_l anchors of one level, A of all levels; S anchors sampled, of all images.

Formulas ported from (licences in NOTICE):

- open-mmlab/mmdetection 3.3.0, Copyright (c) OpenMMLab, Apache-2.0: ``mmdet/models/dense_heads/anchor_head.py``
- facebookresearch/Detectron e8942c8, Copyright (c) 2017-present, Facebook, Inc., Apache-2.0:
  ``detectron/roi_data/rpn.py``, ``detectron/modeling/rpn_heads.py``
- PaddlePaddle/PaddleDetection 2.6.0 (93e2d433), Copyright (c) PaddlePaddle Authors, Apache-2.0:
  ``ppdet/modeling/proposal_generator/rpn_head.py``
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cascadezoo.distributed import processes, sum_of_processes
from cascadezoo.losses.assign import NEITHER, match, sample
from cascadezoo.losses.targets import Targets
from cascadezoo.ops.boxes import encode
from cascadezoo.spec.conventions import BoxCoder
from cascadezoo.spec.objective import Normaliser, RpnObjective

Generators = Sequence[torch.Generator | None]
Head = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Images (S,) and rows (S,) in the anchors of all levels to logits (S,) and raw deltas (S, 4)."""


def rpn_losses(
    head: Head,
    anchors: Sequence[Tensor],
    sizes: Tensor,
    targets: Sequence[Targets],
    coder: BoxCoder,
    rule: RpnObjective,
    generators: Generators,
) -> dict[str, Tensor]:
    """``loss_objectness`` and ``loss_rpn_box_reg``.

    Args:
        head: asked about the sampled anchors alone.
        anchors: per level (A_l, 4), network pixels.
        sizes: (N, 2) height and width of the images without their padding.
        generators: for the sampler, one per image.
    """
    boxes = torch.cat(list(anchors))
    sampled, goals = [], []
    for size, target, generator in zip(sizes, targets, generators, strict=True):
        if rule.inside:
            matched = _match_inside(boxes, size, target, rule, coder.extent)
        else:
            matched = match(boxes, target.boxes, rule.matching, coder.extent)
        rows = sample(matched, rule.sampling, generator)
        sampled.append(rows)
        goals.append(encode(target.boxes[matched[rows.positive]], boxes[rows.positive], coder))
    counts = [len(rows.positive) + len(rows.negative) for rows in sampled]
    images = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(boxes.device)
    logits, deltas = head(images, torch.cat([torch.cat(rows) for rows in sampled]))
    scores, moves = [], []
    for rows, goal, logit, delta in zip(sampled, goals, logits.split(counts), deltas.split(counts), strict=True):
        positive = len(rows.positive)
        truth = (torch.arange(len(logit), device=logit.device) < positive).to(logit.dtype)
        found = delta[:positive].to(logit.dtype)  # of a half type where the network is
        scores.append(F.binary_cross_entropy_with_logits(logit, truth, reduction="sum"))
        moves.append(F.smooth_l1_loss(found, goal, reduction="sum", beta=rule.box_loss.beta))
    number = boxes.new_tensor(counts)
    return {
        "loss_objectness": _normalise(torch.stack(scores), number, rule.objectness_normaliser, rule),
        "loss_rpn_box_reg": _normalise(torch.stack(moves), number, rule.box_normaliser, rule),
    }


def mean_count(count: Tensor | float, like: Tensor) -> Tensor:
    """``count`` per process: the mean over all processes, whose sum is taken as at least 1; on the device of ``like``.

    Where every process divides its own loss by this number, the gradients' mean over the processes is the gradient of
    one process that has all the images.
    """
    total = sum_of_processes(torch.as_tensor(count, dtype=torch.float32, device=like.device).detach())
    return total.clamp(min=1) / processes()


def _match_inside(boxes: Tensor, size: Tensor, target: Targets, rule: RpnObjective, extent: int) -> Tensor:
    """``match`` for the boxes that lie inside an image of ``size`` (height, width); all others are NEITHER."""
    height, width = size
    inside = (boxes[:, :2] >= 0).all(1) & (boxes[:, 2] < width) & (boxes[:, 3] < height)
    matched = torch.full((len(boxes),), NEITHER, device=boxes.device)
    matched[inside] = match(boxes[inside], target.boxes, rule.matching, extent)
    return matched


def _normalise(sums: Tensor, sampled: Tensor, normaliser: Normaliser, rule: RpnObjective) -> Tensor:
    """A loss from its sums (N,) and the numbers of sampled anchors (N,), both per image."""
    match normaliser:
        case Normaliser.SAMPLED:
            return sums.sum() / mean_count(sampled.sum(), sums)
        case Normaliser.NOMINAL:
            return sums.sum() / mean_count(rule.sampling.size * len(sums), sums)
        case Normaliser.IMAGE:
            return (sums / sampled.clamp(min=1)).sum() / mean_count(len(sums), sums)
