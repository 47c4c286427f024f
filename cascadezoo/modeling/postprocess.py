"""From scored boxes to at most D detections an image, in tensors of a fixed size."""

from typing import NamedTuple

import torch
from torch import Tensor

from cascadezoo.modeling.preprocess import Batch
from cascadezoo.modeling.rpn import valid_rows
from cascadezoo.ops.boxes import clip, decode, has_area
from cascadezoo.ops.nms import grouped_nms
from cascadezoo.spec.conventions import BoxCoder, Selection, Space

# N images, R scored boxes, C classes, B = C boxes a row where each class has its own, else 1, D detections


class Scored(NamedTuple):
    """What the heads say of each proposal."""

    boxes: Tensor  # (N, R, 4) float32 xyxy, network pixels: what the last stage pooled
    deltas: Tensor  # (N, R, B, 4) raw, the last stage's
    probabilities: Tensor  # (N, R, C + 1), background last
    valid: Tensor  # (N, R) bool


class Found(NamedTuple):
    """D rows an image, best first; rows from ``counts`` on are zero."""

    boxes: Tensor  # (N, D, 4) float32 xyxy, pixels of the original image
    scores: Tensor  # (N, D) float32
    labels: Tensor  # (N, D) int64, 0..C-1
    counts: Tensor  # (N,) int64
    rois: Tensor  # (N, D, 4) the same boxes in network pixels
    masks: Tensor | None = None  # (N, D, M, M) probabilities inside each box

    def trim(self) -> "Found":
        """Without the rows that no image uses; waits for the device, so never inside the fixed-size graph."""
        rows = int(self.counts.max()) if len(self.counts) else 0
        boxes, scores, labels, rois = (x[:, :rows] for x in (self.boxes, self.scores, self.labels, self.rois))
        masks = None if self.masks is None else self.masks[:, :rows]
        return Found(boxes, scores, labels, self.counts, rois, masks)


def select(scored: Scored, batch: Batch, coder: BoxCoder, rule: Selection) -> Found:
    """Apply the last deltas, threshold, NMS a class, best D (``conventions.Selection``)."""
    original, network = final_boxes(scored, batch, coder, rule)
    scores = scored.probabilities[..., :-1]
    classes = scores.shape[-1]
    keep, counts = best(original if rule.nms_space is Space.ORIGINAL else network, scores, scored.valid, rule)
    original, network = (b.expand(-1, -1, classes, -1).flatten(1, 2) for b in (original, network))
    boxes = _rows(original, keep)
    if rule.clip_original:
        boxes = clip(boxes, batch.original_sizes, coder.extent)
        keep, boxes, counts = _without_empty(keep, boxes, counts)
    kept = valid_rows(counts, keep.shape[1])
    return Found(
        boxes=boxes * kept[..., None],
        scores=scores.flatten(1).gather(1, keep) * kept,
        labels=keep % classes * kept,
        counts=counts,
        rois=_rows(network, keep) * kept[..., None],
    )


def best(boxes: Tensor, scores: Tensor, valid: Tensor, rule: Selection) -> tuple[Tensor, Tensor]:
    """Boxes (N, R, B, 4), scores (N, R, C), valid rows (N, R) to indices (N, D) into R * C and counts (N,)."""
    labels = torch.arange(scores.shape[-1], device=scores.device).expand_as(scores)
    candidates = (scores > rule.score_thresh) & valid[..., None]
    return grouped_nms(
        boxes.expand(-1, -1, scores.shape[-1], -1).flatten(1, 2),
        scores.flatten(1),
        labels.flatten(1),
        candidates.flatten(1),
        rule.nms,
        rule.detections_per_img,
    )


def final_boxes(scored: Scored, batch: Batch, coder: BoxCoder, rule: Selection) -> tuple[Tensor, Tensor]:
    """(N, R, B, 4) in original and in network pixels, clipped in the space where they are decoded."""
    scales = batch.scales.repeat(1, 2)[:, None, None]
    boxes = scored.boxes[:, :, None]
    if rule.decode_space is Space.ORIGINAL:
        original = clip(decode(scored.deltas, boxes / scales, coder), batch.original_sizes, coder.extent)
        return original, original * scales
    network = clip(decode(scored.deltas, boxes, coder), batch.sizes, coder.extent)
    return network / scales, network


def _without_empty(keep: Tensor, boxes: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The kept rows whose box has an area, moved to the front in their order, and their number."""
    there = has_area(boxes) & valid_rows(counts, keep.shape[1])
    order = (~there).to(torch.int8).argsort(dim=1, stable=True)
    return keep.gather(1, order), _rows(boxes, order), there.sum(1)


def _rows(boxes: Tensor, index: Tensor) -> Tensor:
    return boxes.gather(1, index[..., None].expand(-1, -1, 4))
