"""How far apart the detections of two models on the same images lie, such as a model's and its optimised one's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pycocotools import mask as coco_mask

from cascadezoo.detections import Detections
from cascadezoo.errors import UsageError
from cascadezoo.ops.boxes import pairwise_iou

PAIRED = 0.9  # IoU of boxes from which on two detections are the same


@dataclass(frozen=True)
class Difference:
    """Two sets of detections, in pairs of one class whose boxes overlap by an IoU of ``PAIRED``.

    Attributes:
        images: how many.
        before, after: detections of each set, on all images.
        paired: detections that have a partner in the other set.
        score_p95, score_max: the difference of a pair's scores, 95th percentile and largest.
        box_p95, box_max: the difference of a pair's coordinates, pixels of the original image.
        mask_iou: the mean IoU of a pair's masks; None from models without masks, or without a pair.
    """

    images: int
    before: int
    after: int
    paired: int
    score_p95: float
    score_max: float
    box_p95: float
    box_max: float
    mask_iou: float | None

    def __str__(self) -> str:
        masks = "" if self.mask_iou is None else f"; masks overlap by an IoU of {self.mask_iou:.4f} in the mean"
        return (
            f"{self.before} and {self.after} detections on {self.images} images, {self.paired} of them in both: their "
            f"scores differ by at most {self.score_max:.2g} ({self.score_p95:.2g} in 95 %), their boxes by "
            f"{self.box_max:.2g} pixels ({self.box_p95:.2g} in 95 %){masks}"
        )


def difference(before: Sequence[Detections], after: Sequence[Detections]) -> Difference:
    """The difference of two models' detections on the same images, in the same order.

    Best first, a detection is paired with the one of its class that overlaps it most and has no partner yet.  Raises
    UsageError where the images are not the same.
    """
    if [each.image_size for each in before] != [each.image_size for each in after]:
        raise UsageError("the detections are not on the same images: give those of both models in one order")
    scores, boxes, masks = [np.zeros(0)], [np.zeros(0)], []
    for one, other in zip(before, after, strict=True):
        one, other = one.to("cpu"), other.to("cpu")
        pairs = torch.tensor(list(_pairs(one, other)), dtype=torch.int64).view(-1, 2)
        mine, theirs = one[pairs[:, 0]], other[pairs[:, 1]]
        scores.append((mine.scores - theirs.scores).abs().numpy())
        boxes.append((mine.boxes - theirs.boxes).abs().flatten().numpy())
        masks += _mask_ious(mine, theirs)
    (score_p95, score_max), (box_p95, box_max) = (_largest(np.concatenate(each)) for each in (scores, boxes))
    return Difference(
        images=len(before),
        before=sum(map(len, before)),
        after=sum(map(len, after)),
        paired=sum(map(len, scores)),
        score_p95=score_p95,
        score_max=score_max,
        box_p95=box_p95,
        box_max=box_max,
        mask_iou=float(np.mean(masks)) if masks else None,
    )


def _pairs(one: Detections, other: Detections) -> Iterator[tuple[int, int]]:
    iou = pairwise_iou(one.boxes, other.boxes, one.extent) * (one.labels[:, None] == other.labels)
    for row in range(len(one) if len(other) else 0):
        best = int(iou[row].argmax())
        if iou[row, best] >= PAIRED:
            iou[:, best] = 0
            yield row, best


def _mask_ious(one: Detections, other: Detections) -> list[float]:
    """The IoU of each two masks; 1 where both are empty."""
    rles = zip(one.rles() or [], other.rles() or [], strict=True)
    return [float(coco_mask.iou([a], [b], [0])[0, 0]) if coco_mask.area([a, b]).any() else 1.0 for a, b in rles]


def _largest(numbers: np.ndarray) -> tuple[float, float]:
    """The 95th percentile and the maximum."""
    return (float(np.percentile(numbers, 95)), float(numbers.max())) if len(numbers) else (0.0, 0.0)
