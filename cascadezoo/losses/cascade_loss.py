"""What the heads learn, stage by stage: classes, boxes and masks (https://arxiv.org/abs/1906.09756).

Formulas ported from (licences in NOTICE):

- open-mmlab/mmdetection 3.3.0, Copyright (c) OpenMMLab, Apache-2.0: ``mmdet/models/roi_heads/cascade_roi_head.py``,
  ``mmdet/models/roi_heads/bbox_heads/bbox_head.py``, ``mmdet/structures/mask/structures.py`` (``BitmapMasks``)
- zhaoweicai/Detectron-Cascade-RCNN 8cec009, on Detectron e8942c8, Apache-2.0:
  ``detectron/modeling/cascade_rcnn_heads.py``, ``detectron/roi_data/cascade_rcnn.py``
- PaddlePaddle/PaddleDetection 2.6.0 (93e2d433), Copyright (c) PaddlePaddle Authors, Apache-2.0:
  ``ppdet/modeling/heads/cascade_head.py``
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import generalized_box_iou_loss, roi_align

from cascadezoo.losses.assign import everything, match, sample
from cascadezoo.losses.rpn_loss import Generators, mean_count
from cascadezoo.losses.targets import Targets
from cascadezoo.modeling.network import Network
from cascadezoo.ops.boxes import at_least, clip, decode, encode
from cascadezoo.spec.conventions import BoxCoder
from cascadezoo.spec.objective import BoxObjective, GIoU, MaskObjective, Matching, SmoothL1, StageObjective

# N images, R boxes of one, K of all, P positive ones; C classes, B = C boxes a row or 1; M the side of a mask

_SMALLEST = 1.17549435e-38  # float32


class RoIs(NamedTuple):
    """The boxes of one image that learn at one stage, the positive ones first."""

    boxes: Tensor  # (R, 4) float32 xyxy, network pixels
    labels: Tensor  # (R,) int64, C for background
    objects: Tensor  # (P,) int64: which object the positive ones are matched to
    truth: Tensor  # (R,) bool: true boxes, added to the proposals

    @property
    def positive(self) -> int:
        """P."""
        return len(self.objects)


def cascade_losses(
    model: Network,
    features: list[Tensor],
    proposals: Sequence[Tensor],
    sizes: Tensor,
    targets: Sequence[Targets],
    generators: Generators,
) -> dict[str, Tensor]:
    """``loss_classifier_1``, ``loss_box_reg_1``, ``loss_mask_1`` and so on, times their weights; one stage: no number.

    ``proposals``: (R, 4) an image; ``sizes`` (N, 2): what bounds moved boxes, (height, width).
    """
    rule, spec = model.spec.objective, model.spec
    losses: dict[str, Tensor] = {}
    boxes = list(proposals)
    for i, (head, coder, stage) in enumerate(zip(model.box_heads, spec.stages, rule.box.stages, strict=True)):
        suffix = f"_{i + 1}" if len(spec.stages) > 1 else ""
        drawn = [
            _draw(b, target, i, rule.box, coder.extent, spec.num_classes, generator)
            for b, target, generator in zip(boxes, targets, generators, strict=True)
        ]
        pooled = _pool(model, features, [rois.boxes for rois in drawn], spec.box_head.resolution)
        if rule.box.full_head_gradients:
            pooled = _slow_gradient(pooled, stage.weight)
        scores, deltas = head(pooled)
        classes, moves = _box_losses(scores, deltas, drawn, targets, coder, rule.box)
        losses[f"loss_classifier{suffix}"] = _weigh(classes, stage, rule.box)
        losses[f"loss_box_reg{suffix}"] = _weigh(moves, stage, rule.box)
        for k, mask in enumerate(rule.masks):
            if mask.stage == i:
                losses[f"loss_mask{suffix}"] = _mask_loss(model, k, mask, features, drawn, targets)
        if i + 1 < len(spec.stages):
            boxes = _move(scores.detach(), deltas.detach(), drawn, coder, model, sizes)
    return losses


def _draw(
    boxes: Tensor,
    target: Targets,
    index: int,
    rule: BoxObjective,
    extent: int,
    num_classes: int,
    generator: torch.Generator | None,
) -> RoIs:
    added = len(target.boxes) if index == 0 or rule.truth_everywhere else 0
    boxes = torch.cat((target.boxes[:added], boxes))
    iou = rule.stages[index].iou
    matched = match(boxes, target.boxes, Matching(positive=iou, negative=iou), extent)
    matched[:added] = torch.arange(added, device=boxes.device)
    sampled = index == 0 or rule.resample
    positive, negative = sample(matched, rule.sampling, generator) if sampled else everything(matched)
    rows, objects = torch.cat((positive, negative)), matched[positive]
    background = torch.full_like(negative, num_classes)
    return RoIs(boxes[rows], torch.cat((target.labels[objects], background)), objects, rows < added)


def _box_losses(
    scores: Tensor,
    deltas: Tensor,
    drawn: Sequence[RoIs],
    targets: Sequence[Targets],
    coder: BoxCoder,
    rule: BoxObjective,
) -> tuple[Tensor, Tensor]:
    """Cross entropy of scores (K, C + 1) and the box loss of deltas (K, B, 4), not yet weighted."""
    labels = torch.cat([rois.labels for rois in drawn])
    count = mean_count(len(labels), scores)
    classes = F.cross_entropy(scores, labels, reduction="sum") / count

    positive = (labels < scores.shape[1] - 1).nonzero()[:, 0]
    own = deltas[positive, 0 if deltas.shape[1] == 1 else labels[positive]]
    boxes = torch.cat([rois.boxes for rois in drawn])[positive]
    goals = torch.cat([t.boxes[rois.objects] for rois, t in zip(drawn, targets, strict=True)])
    match rule.loss:
        case SmoothL1(beta=beta):
            moves = F.smooth_l1_loss(own, encode(goals, boxes, coder), reduction="sum", beta=beta)
        case GIoU(weight=weight):
            moves = weight * generalized_box_iou_loss(decode(own, boxes, coder), goals, reduction="sum", eps=1e-6)
    return classes, moves / count


def _mask_loss(
    model: Network,
    head: int,
    rule: MaskObjective,
    features: list[Tensor],
    drawn: Sequence[RoIs],
    targets: Sequence[Targets],
) -> Tensor:
    """Binary cross entropy of the true class's mask inside each positive box, mean over boxes and pixels."""
    mask = model.spec.mask
    if mask is None:
        raise ValueError("a network without mask heads has no mask loss")
    boxes = [rois.boxes[: rois.positive] for rois in drawn]
    pooled = model.mask_features(_pool(model, features, boxes, mask.resolution), mask)
    labels = torch.cat([rois.labels[: rois.positive] for rois in drawn])
    logits = model.mask_heads[head](pooled)[torch.arange(len(labels), device=labels.device), labels].float()
    side = logits.shape[-1]
    truth = torch.cat([_crop(t, rois, side) for rois, t in zip(drawn, targets, strict=True)])
    loss = F.binary_cross_entropy_with_logits(logits, truth, reduction="sum")
    weighed: Tensor = rule.weight * loss / (mean_count(len(labels), logits) * side**2)
    return weighed


def _crop(target: Targets, rois: RoIs, side: int) -> Tensor:
    """The object's mask inside each positive box, (P, M, M) zeros and ones (mmdetection ``BitmapMasks``)."""
    if target.masks is None:
        raise ValueError("targets without masks for a network with mask heads")
    needed, rows = rois.objects.unique(return_inverse=True)
    boxes = torch.cat((rows[:, None].to(rois.boxes.dtype), rois.boxes[: rois.positive]), 1)
    masks = target.masks[needed, None].float()
    cropped: Tensor = roi_align(masks, boxes, side, 1.0, 0, True)[:, 0]
    return (cropped >= 0.5).float()


@torch.no_grad()
def _move(
    scores: Tensor, deltas: Tensor, drawn: Sequence[RoIs], coder: BoxCoder, model: Network, sizes: Tensor
) -> list[Tensor]:
    """The boxes (R, 4) that each image hands to the next stage."""
    rule, sections = model.spec.objective.box, [len(rois.boxes) for rois in drawn]
    moved = []
    for n, (rois, score, delta) in enumerate(zip(drawn, scores.split(sections), deltas.split(sections), strict=True)):
        best = torch.where(rois.labels == score.shape[1] - 1, score[:, :-1].argmax(1), rois.labels)
        own = delta[torch.arange(len(best), device=best.device), 0 if delta.shape[1] == 1 else best]
        boxes = decode(own, rois.boxes, coder)
        if model.spec.conventions.cascade.clip_stages:
            boxes = clip(boxes[None], sizes[n : n + 1], coder.extent)[0]
        keep = torch.ones_like(rois.truth)
        if rule.forget_truth:
            keep &= ~rois.truth
        if rule.forget_empty:
            keep &= at_least(boxes, _SMALLEST, coder.extent)
        moved.append(boxes[keep])
    return moved


def _pool(model: Network, features: list[Tensor], boxes: Sequence[Tensor], resolution: int) -> Tensor:
    """Each image's (R, 4), however many, to (K, C, P, P)."""
    there = pad_sequence([torch.ones_like(b[:, 0], dtype=torch.bool) for b in boxes], batch_first=True)
    return model.pool(features, pad_sequence(list(boxes), batch_first=True), resolution)[there.flatten()]


def _slow_gradient(x: Tensor, weight: float) -> Tensor:
    """``x`` itself, whose gradient is multiplied by ``weight``."""
    return x.detach() + (x - x.detach()) * weight


def _weigh(loss: Tensor, stage: StageObjective, rule: BoxObjective) -> Tensor:
    """The loss times its weight; where heads learn at full speed, only its value."""
    return loss - loss.detach() * (1 - stage.weight) if rule.full_head_gradients else loss * stage.weight
