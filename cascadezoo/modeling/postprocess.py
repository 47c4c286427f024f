"""From predicted boxes to at most D detections per image, in tensors of a fixed size.

Shapes: N images, R proposals per image, C classes, B = C where each class has box deltas of its own, else 1,
D detections per image, M side of a mask.

Formulas ported from (licences in NOTICE):

- open-mmlab/mmdetection 3.3.0, Copyright (c) OpenMMLab, Apache-2.0: ``mmdet/models/layers/bbox_nms.py``
- facebookresearch/Detectron e8942c8, Copyright (c) 2017-present, Facebook, Inc., Apache-2.0:
  ``detectron/core/test.py`` (``box_results_with_nms_and_limit``)
- PaddlePaddle/PaddleDetection 2.6.0 (93e2d433), Copyright (c) PaddlePaddle Authors, Apache-2.0:
  ``ppdet/modeling/post_process.py``
"""

from typing import NamedTuple

import torch
from torch import Tensor

from cascadezoo.modeling.preprocess import Batch
from cascadezoo.modeling.rpn import valid_rows
from cascadezoo.modeling.transfer import to_host
from cascadezoo.ops.boxes import clip, decode, has_area
from cascadezoo.ops.nms import class_nms
from cascadezoo.spec.conventions import BoxCoder, Selection, Space


class BoxPredictions(NamedTuple):
    """The box heads' outputs for each proposal."""

    boxes: Tensor  # (N, R, 4) float32 xyxy, network pixels: what the last stage pooled
    deltas: Tensor  # (N, R, B, 4) raw, the last stage's
    probabilities: Tensor  # (N, R, C + 1), background last
    valid: Tensor  # (N, R) bool


class DetectionBatch(NamedTuple):
    """The detections of N images, best first; rows from ``counts`` on are zero.

    Attributes:
        boxes: (N, D, 4) float32 xyxy, original pixels.
        scores: (N, D) float32 in 0..1.
        labels: (N, D) int64 in 0..C-1.
        counts: (N,) int64, the detections of each image.
        rois: (N, D, 4) the same boxes in network pixels.
        masks: (N, D, M, M) mask probabilities inside each box, or None from a network without masks.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    counts: Tensor
    rois: Tensor
    masks: Tensor | None = None

    @property
    def rows(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What of it goes to the host: boxes, scores, labels and counts."""
        return self.boxes, self.scores, self.labels, self.counts

    def on_host(self) -> "HostRows":
        """The rows in the host's memory: one copy, the only wait for the device between an image and its detections."""
        return HostRows(*to_host(self.rows))

    def trim(self, rows: int) -> "DetectionBatch":
        """The first ``rows`` of each image, such as ``HostRows.rows``."""
        boxes, scores, labels, rois = (x[:, :rows] for x in (self.boxes, self.scores, self.labels, self.rois))
        masks = None if self.masks is None else self.masks[:, :rows]
        return DetectionBatch(boxes, scores, labels, self.counts, rois, masks)


class HostRows(NamedTuple):
    """``DetectionBatch.boxes``, ``scores``, ``labels`` and ``counts``, in the host's memory."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    counts: Tensor

    @property
    def rows(self) -> int:
        """The detections of the image that has the most."""
        return max(self.counts.tolist(), default=0)


def select(predictions: BoxPredictions, batch: Batch, coder: BoxCoder, rule: Selection) -> DetectionBatch:
    """The detections of each image, chosen as ``rule`` has it.

    1. Decode: apply the last stage's deltas and clip the boxes, in network or in original pixels.
    2. Threshold: keep the valid rows' scores strictly above ``rule.score_thresh``; background is no class.
    3. NMS per class, in network or in original pixels; of all classes together the best D remain.
    4. Where the rule says so, clip to the original image and drop the boxes left without area.  They have taken
       their places among the D, so fewer detections remain.
    5. Set the rows that hold no detection to zero.
    """
    # 1. decode and clip
    original, network = final_boxes(predictions, batch, coder, rule)
    # 2. and 3. threshold, NMS per class, best D
    scores = predictions.probabilities[..., :-1]
    keep, counts = best(original if rule.nms_space is Space.ORIGINAL else network, scores, predictions.valid, rule)
    classes = scores.shape[-1]
    row = keep // (classes // original.shape[2])  # the classes of a proposal have a box each, or share one
    original, network = original.flatten(1, 2), network.flatten(1, 2)
    boxes = _rows(original, row)
    # 4. clip to the original image, drop boxes without area
    if rule.clip_original:
        boxes = clip(boxes, batch.original_sizes, coder.extent)
        keep, row, boxes, counts = _without_empty(keep, row, boxes, counts)
    # 5. zero the rows without a detection
    kept = valid_rows(counts, keep.shape[1])
    return DetectionBatch(
        boxes=boxes * kept[..., None],
        scores=scores.flatten(1).gather(1, keep) * kept,
        labels=keep % classes * kept,
        counts=counts,
        rois=_rows(network, row) * kept[..., None],
    )


def best(boxes: Tensor, scores: Tensor, valid: Tensor, rule: Selection) -> tuple[Tensor, Tensor]:
    """Threshold and NMS per class: indices (N, D) of the best candidates into R * C, and counts (N,).

    Takes boxes (N, R, B, 4), class scores (N, R, C) without background, and valid rows (N, R) bool.
    """
    return class_nms(boxes, scores, valid, rule.score_thresh, rule.nms, rule.detections_per_img)


def final_boxes(predictions: BoxPredictions, batch: Batch, coder: BoxCoder, rule: Selection) -> tuple[Tensor, Tensor]:
    """The decoded boxes (N, R, B, 4) in original and in network pixels, clipped in the space of decoding."""
    scales = batch.scales.repeat(1, 2)[:, None, None]
    boxes = predictions.boxes[:, :, None]
    if rule.decode_space is Space.ORIGINAL:
        original = clip(decode(predictions.deltas, boxes / scales, coder), batch.original_sizes, coder.extent)
        return original, original * scales
    network = clip(decode(predictions.deltas, boxes, coder), batch.sizes, coder.extent)
    return network / scales, network


def _without_empty(keep: Tensor, row: Tensor, boxes: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``keep``, ``row``, ``boxes`` and ``counts`` of what has a box with an area, moved to the front in its order."""
    solid = has_area(boxes) & valid_rows(counts, keep.shape[1])
    order = (~solid).to(torch.int8).argsort(dim=1, stable=True)
    return keep.gather(1, order), row.gather(1, order), _rows(boxes, order), solid.sum(1)


def _rows(boxes: Tensor, index: Tensor) -> Tensor:
    """Of boxes (N, K, 4) those at ``index`` (N, D): (N, D, 4)."""
    return boxes.gather(1, index[..., None].expand(-1, -1, 4))
