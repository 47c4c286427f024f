"""The losses of the region proposal network: objectness of anchors, and deltas of the positive ones.

N images; A_l anchors of one level, A of all levels.

Formulas ported from (licences in NOTICE):

- open-mmlab/mmdetection 3.3.0, Copyright (c) OpenMMLab, Apache-2.0: ``mmdet/models/dense_heads/anchor_head.py``
- facebookresearch/Detectron e8942c8, Copyright (c) 2017-present, Facebook, Inc., Apache-2.0:
  ``detectron/roi_data/rpn.py``, ``detectron/modeling/rpn_heads.py``
- PaddlePaddle/PaddleDetection 2.6.0 (93e2d433), Copyright (c) PaddlePaddle Authors, Apache-2.0:
  ``ppdet/modeling/proposal_generator/rpn_head.py``
"""

from collections.abc import Sequence

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


def rpn_losses(
    outputs: Sequence[tuple[Tensor, Tensor]],
    anchors: Sequence[Tensor],
    sizes: Tensor,
    targets: Sequence[Targets],
    coder: BoxCoder,
    rule: RpnObjective,
    generators: Generators,
) -> dict[str, Tensor]:
    """``loss_objectness`` and ``loss_rpn_box_reg``.

    Args:
        outputs: per level the head's logits (N, A_l) and raw deltas (N, A_l, 4).
        anchors: per level (A_l, 4), network pixels.
        sizes: (N, 2) height and width of the images without their padding.
        generators: for the sampler, one per image.
    """
    logits, deltas = (torch.cat(parts, 1) for parts in zip(*outputs, strict=True))
    boxes = torch.cat(list(anchors))
    scores, moves, counts = [], [], []
    for n, (target, generator) in enumerate(zip(targets, generators, strict=True)):
        if rule.inside:
            matched = _match_inside(boxes, sizes[n], target, rule, coder.extent)
        else:
            matched = match(boxes, target.boxes, rule.matching, coder.extent)
        positive, negative = sample(matched, rule.sampling, generator)
        rows = torch.cat((positive, negative))
        truth = (torch.arange(len(rows), device=rows.device) < len(positive)).to(logits.dtype)
        goals = encode(target.boxes[matched[positive]], boxes[positive], coder)
        found = deltas[n, positive].to(logits.dtype)  # of a half type where the network is
        scores.append(F.binary_cross_entropy_with_logits(logits[n, rows], truth, reduction="sum"))
        moves.append(F.smooth_l1_loss(found, goals, reduction="sum", beta=rule.box_loss.beta))
        counts.append(len(rows))
    sampled = boxes.new_tensor(counts)
    return {
        "loss_objectness": _normalise(torch.stack(scores), sampled, rule.objectness_normaliser, rule),
        "loss_rpn_box_reg": _normalise(torch.stack(moves), sampled, rule.box_normaliser, rule),
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
