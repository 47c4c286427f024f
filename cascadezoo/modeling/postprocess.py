"""From scored boxes to at most D detections a picture, in tensors of a fixed size."""

from typing import NamedTuple

import torch
from torch import Tensor

from cascadezoo.conventions import NmsSpace, Selection
from cascadezoo.modeling.rpn import valid_rows
from cascadezoo.ops.nms import grouped_nms

# N pictures, R scored boxes, C classes, D detections


class Found(NamedTuple):
    """D rows a picture, best first; rows from ``counts`` on are zero."""

    boxes: Tensor  # (N, D, 4) float32 xyxy, pixels of the original picture
    scores: Tensor  # (N, D) float32
    labels: Tensor  # (N, D) int64, 0..C-1
    counts: Tensor  # (N,) int64
    rois: Tensor  # (N, D, 4) the same boxes in network pixels
    masks: Tensor | None = None  # (N, D, M, M) probabilities inside each box

    def trim(self) -> "Found":
        """Without the rows that no picture uses; waits for the device, so never inside the fixed-size graph."""
        rows = int(self.counts.max()) if len(self.counts) else 0
        boxes, scores, labels, rois = (x[:, :rows] for x in (self.boxes, self.scores, self.labels, self.rois))
        masks = None if self.masks is None else self.masks[:, :rows]
        return Found(boxes, scores, labels, self.counts, rois, masks)


def select(boxes: Tensor, probabilities: Tensor, valid: Tensor, scales: Tensor, rule: Selection) -> Found:
    """Threshold, NMS a class, best D (``conventions.Selection``).

    Args:
        boxes: (N, R, 4) network pixels, clipped; probabilities: (N, R, C + 1), background last.
        valid: (N, R) bool; scales: (N, 2) network pixels per original pixel in x and y.
    """
    scores = probabilities[..., :-1]
    classes = scores.shape[-1]
    original = boxes / scales.repeat(1, 2)[:, None]
    spaced = original if rule.nms_space is NmsSpace.ORIGINAL else boxes

    candidates = (scores > rule.score_thresh) & valid[..., None]
    labels = torch.arange(classes, device=boxes.device).expand_as(scores)
    keep, counts = grouped_nms(
        spaced[:, :, None].expand(-1, -1, classes, -1).flatten(1, 2),
        scores.flatten(1),
        labels.flatten(1),
        candidates.flatten(1),
        rule.nms,
        rule.detections_per_img,
    )
    kept = valid_rows(counts, keep.shape[1])
    row, label = (keep // classes)[..., None].expand(-1, -1, 4), keep % classes
    return Found(
        boxes=original.gather(1, row) * kept[..., None],
        scores=scores.flatten(1).gather(1, keep) * kept,
        labels=label * kept,
        counts=counts,
        rois=boxes.gather(1, row) * kept[..., None],
    )
