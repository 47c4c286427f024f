"""The losses of the heads, stage by stage: classes, boxes and masks (https://arxiv.org/abs/1906.09756).

N images; R boxes (RoIs) of one image; S of all images, F of them positive; T objects of one image; C classes;
B = C where each class has box deltas of its own, else 1; P the side of a pooled feature map; M the side of a mask.

Formulas ported from (licences in NOTICE):

- open-mmlab/mmdetection 3.3.0, Copyright (c) OpenMMLab, Apache-2.0: ``mmdet/models/roi_heads/cascade_roi_head.py``,
  ``mmdet/models/roi_heads/bbox_heads/bbox_head.py``, ``mmdet/structures/mask/structures.py`` (``BitmapMasks``)
- zhaoweicai/Detectron-Cascade-RCNN 8cec009, on Detectron e8942c8, Apache-2.0:
  ``detectron/modeling/cascade_rcnn_heads.py``, ``detectron/roi_data/cascade_rcnn.py``
- PaddlePaddle/PaddleDetection 2.6.0 (93e2d433), Copyright (c) PaddlePaddle Authors, Apache-2.0:
  ``ppdet/modeling/heads/cascade_head.py``
- facebookresearch/detectron2 02b5c4e, Copyright (c) Facebook, Inc. and its affiliates, Apache-2.0:
  ``detectron2/modeling/roi_heads/cascade_rcnn.py``
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import generalized_box_iou_loss

from cascadezoo.losses.assign import everything, match, sample
from cascadezoo.losses.rpn_loss import Generators, mean_count
from cascadezoo.losses.targets import Targets
from cascadezoo.modeling.network import Network
from cascadezoo.ops.boxes import at_least, clip, decode, encode
from cascadezoo.spec.conventions import BoxCoder
from cascadezoo.spec.objective import BoxObjective, Drawing, GIoU, MaskObjective, Matching, SmoothL1, StageObjective

_SMALLEST = 1.17549435e-38  # the smallest normal number of float32: a side above zero


class RoIs(NamedTuple):
    """The boxes of one image that take part in one stage's losses, the positive ones first."""

    boxes: Tensor  # (R, 4) float32 xyxy, network pixels
    labels: Tensor  # (R,) int64, C for background
    objects: Tensor  # (positive,) int64: the object that each positive box is matched to
    truth: Tensor  # (R,) bool: ground-truth boxes, which were added to the proposals

    @property
    def positive(self) -> int:
        """How many boxes are positive."""
        return len(self.objects)


def cascade_losses(
    model: Network,
    features: list[Tensor],
    proposals: Sequence[Tensor],
    sizes: Tensor,
    targets: Sequence[Targets],
    generators: Generators,
) -> dict[str, Tensor]:
    """``loss_classifier_1``, ``loss_box_reg_1``, ``loss_mask_1`` and so on, times their weights; without numbers where
    the network has one stage.

    Args:
        proposals: (R, 4) per image, network pixels.
        sizes: (N, 2) height and width, which bound the boxes that move on to the next stage.
        generators: for the sampler, one per image.
    """
    rule, spec = model.spec.objective, model.spec
    losses: dict[str, Tensor] = {}
    boxes = list(proposals)
    for i, (head, coder, stage) in enumerate(zip(model.box_heads, spec.stages, rule.box.stages, strict=True)):
        suffix = f"_{i + 1}" if len(spec.stages) > 1 else ""
        sampled = [
            _sample_rois(b, target, i, rule.box, coder.extent, spec.num_classes, generator)
            for b, target, generator in zip(boxes, targets, generators, strict=True)
        ]
        pooled = _pool(model, features, [rois.boxes for rois in sampled], spec.box_head.resolution)
        below = rule.box.feature_gradients * (stage.weight if rule.box.full_head_gradients else 1)
        if below != 1:
            pooled = _slow_gradient(pooled, below)
        scores, deltas = head(pooled)
        classes, moves = _box_losses(scores, deltas, sampled, targets, coder, rule.box)
        losses[f"loss_classifier{suffix}"] = _weigh(classes, stage, rule.box)
        losses[f"loss_box_reg{suffix}"] = _weigh(moves, stage, rule.box)
        for k, mask in enumerate(rule.masks):
            if mask.stage == i:
                losses[f"loss_mask{suffix}"] = _mask_loss(model, k, mask, features, sampled, targets)
        if i + 1 < len(spec.stages):
            boxes = _move(scores, deltas, sampled, coder, model, sizes)
    return losses


def _sample_rois(
    boxes: Tensor,
    target: Targets,
    index: int,
    rule: BoxObjective,
    extent: int,
    num_classes: int,
    generator: torch.Generator | None,
) -> RoIs:
    added = len(target.boxes) if index == 0 or rule.truth_everywhere else 0
    stage = rule.stages[index]
    matched = match(boxes, target.boxes, Matching(positive=stage.iou, negative=stage.iou, best=stage.best), extent)
    matched = torch.cat((torch.arange(added, device=boxes.device), matched))
    boxes = torch.cat((target.boxes[:added], boxes))
    sampled = index == 0 or rule.resample
    positive, negative = sample(matched, rule.sampling, generator) if sampled else everything(matched)
    rows, objects = torch.cat((positive, negative)), matched[positive]
    background = torch.full_like(negative, num_classes)
    return RoIs(boxes[rows], torch.cat((target.labels[objects], background)), objects, rows < added)


def _box_losses(
    scores: Tensor,
    deltas: Tensor,
    sampled: Sequence[RoIs],
    targets: Sequence[Targets],
    coder: BoxCoder,
    rule: BoxObjective,
) -> tuple[Tensor, Tensor]:
    """Cross entropy of scores (S, C + 1) and the box loss of deltas (S, B, 4), not yet weighted."""
    labels = torch.cat([rois.labels for rois in sampled])
    count = mean_count(len(labels), scores)
    classes = F.cross_entropy(scores, labels, reduction="sum") / count

    positive = (labels < scores.shape[1] - 1).nonzero().flatten()
    own = deltas[positive, 0 if deltas.shape[1] == 1 else labels[positive]]
    boxes = torch.cat([rois.boxes for rois in sampled])[positive]
    goals = torch.cat([t.boxes[rois.objects] for rois, t in zip(sampled, targets, strict=True)])
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
    sampled: Sequence[RoIs],
    targets: Sequence[Targets],
) -> Tensor:
    """Binary cross entropy of the true class's mask inside each positive box, mean over boxes and pixels."""
    mask = model.spec.mask
    if mask is None:
        raise ValueError("a network without mask heads has no mask loss")
    boxes = [rois.boxes[: rois.positive] for rois in sampled]
    pooled = model.mask_features(_pool(model, features, boxes, mask.resolution), mask)
    labels = torch.cat([rois.labels[: rois.positive] for rois in sampled])
    logits = model.mask_heads[head](pooled)[torch.arange(len(labels), device=labels.device), labels].float()
    side = logits.shape[-1]
    drawing, extent = model.spec.objective.drawing, model.spec.stages[rule.stage].extent
    truth = torch.cat([_mask_targets(t, rois, side, drawing, extent) for rois, t in zip(sampled, targets, strict=True)])
    loss = F.binary_cross_entropy_with_logits(logits, truth, reduction="sum")
    weighted: Tensor = rule.weight * loss / (mean_count(len(labels), logits) * side**2)
    return weighted


def _mask_targets(target: Targets, rois: RoIs, side: int, drawing: Drawing | None, extent: int) -> Tensor:
    """The object's mask inside each positive box, (F, M, M) zeros and ones."""
    if target.masks is None:
        raise ValueError("targets without masks for a network with mask heads")
    return target.masks.targets(rois.boxes[: rois.positive], rois.objects, side, drawing, extent)


@torch.no_grad()
def _move(
    scores: Tensor, deltas: Tensor, sampled: Sequence[RoIs], coder: BoxCoder, model: Network, sizes: Tensor
) -> list[Tensor]:
    """The boxes (R, 4) of each image that go to the next stage, moved by the deltas of one class: of positive boxes
    the true label's, of background the best foreground class's."""
    rule, sections = model.spec.objective.box, [len(rois.boxes) for rois in sampled]
    moved = []
    for n, (rois, score, delta) in enumerate(zip(sampled, scores.split(sections), deltas.split(sections), strict=True)):
        best = torch.where(rois.labels == score.shape[1] - 1, score[:, :-1].argmax(1), rois.labels)
        own = delta[torch.arange(len(best), device=best.device), 0 if delta.shape[1] == 1 else best]
        boxes = decode(own, rois.boxes, coder)
        if model.spec.conventions.cascade.clip_stages:
            boxes = clip(boxes, sizes[n].expand(len(boxes), 2), coder.extent)
        keep = torch.ones_like(rois.truth)
        if rule.forget_truth:
            keep &= ~rois.truth
        if rule.forget_empty:
            keep &= at_least(boxes, _SMALLEST, coder.extent)
        moved.append(boxes[keep])
    return moved


def _pool(model: Network, features: list[Tensor], boxes: Sequence[Tensor], resolution: int) -> Tensor:
    """Boxes (R, 4) per image, R of each its own, to pooled features (S, channels, P, P)."""
    is_box = pad_sequence([torch.ones(len(b), dtype=torch.bool, device=b.device) for b in boxes], batch_first=True)
    return model.pool(features, pad_sequence(list(boxes), batch_first=True), resolution)[is_box.flatten()]


def _slow_gradient(x: Tensor, weight: float) -> Tensor:
    """``x`` itself, whose gradient is multiplied by ``weight``."""
    return x.detach() + (x - x.detach()) * weight


def _weigh(loss: Tensor, stage: StageObjective, rule: BoxObjective) -> Tensor:
    """The loss times its weight; with ``full_head_gradients`` only its value, its gradient is the whole loss's."""
    return loss - loss.detach() * (1 - stage.weight) if rule.full_head_gradients else loss * stage.weight
