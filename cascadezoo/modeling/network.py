"""The network of the paper (Cascade R-CNN, https://arxiv.org/abs/1906.09756): prepared pixels to detections of a fixed
size.

Shapes: N images, H x W pixels of the padded input, R proposals per image, C classes, D detections per image, P side of
pooled features, M side of a mask.  ``infer`` is what compile, export and CUDA graphs see; ``cascadezoo.detector`` takes
images and returns ``Detections``.

Formulas ported from (licences in NOTICE):

- open-mmlab/mmdetection 3.3.0, Copyright (c) OpenMMLab, Apache-2.0: ``mmdet/models/roi_heads/cascade_roi_head.py``
- zhaoweicai/Detectron-Cascade-RCNN 8cec009, on Detectron e8942c8, Apache-2.0:
  ``detectron/modeling/cascade_rcnn_heads.py``, ``detectron/core/test.py``
- PaddlePaddle/PaddleDetection 2.6.0 (93e2d433), Copyright (c) PaddlePaddle Authors, Apache-2.0:
  ``ppdet/modeling/heads/cascade_head.py``
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cascadezoo.images import read_image
from cascadezoo.modeling.postprocess import BoxPredictions, DetectionBatch, select
from cascadezoo.modeling.preprocess import Batch, ResizedImage, collate, on_device, plan, resize
from cascadezoo.modeling.rpn import RPN, Proposals
from cascadezoo.ops.boxes import clip, decode, has_area
from cascadezoo.ops.roi_align import as_pooled, pyramid_roi_align
from cascadezoo.spec.conventions import ScoreFusion
from cascadezoo.spec.model import MaskHeadSpec, ModelSpec, PreprocessSpec


class Network(nn.Module):
    """A cascade of box heads on a feature pyramid, with mask heads or without.

    Attributes:
        spec: every number of this network.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        backbone: nn.Module,
        neck: nn.Module,
        rpn: RPN,
        box_heads: Sequence[nn.Module],
        mask_heads: Sequence[nn.Module],
    ) -> None:
        super().__init__()
        self.spec = spec
        self.backbone, self.neck, self.rpn = backbone, neck, rpn
        self.box_heads = nn.ModuleList(box_heads)
        self.mask_heads = nn.ModuleList(mask_heads)
        self._fuse = _FUSIONS[spec.conventions.cascade.fusion]

    def infer(self, batch: Batch) -> DetectionBatch:
        """Prepared pixels to detections; every shape follows from the batch's."""
        features = self.extract(batch.pixels)
        return self.segment(features, self.find(features, batch))

    def extract(self, pixels: Tensor) -> list[Tensor]:
        """(N, 3, H, W) to pyramid levels (N, 256, H / s, W / s), finest first."""
        levels: list[Tensor] = self.neck(self.backbone(pixels))
        return levels

    def find(self, features: list[Tensor], batch: Batch) -> DetectionBatch:
        """Detections without masks."""
        proposals = self.rpn(features, batch.sizes)
        predictions = self.refine(features, proposals, batch.sizes)
        return select(predictions, batch, self.spec.stages[-1], self.spec.conventions.selection)

    def refine(self, features: list[Tensor], proposals: Proposals, sizes: Tensor) -> BoxPredictions:
        """The cascade: each stage pools the boxes that the one before has moved; then their scores are fused."""
        rules, resolution = self.spec.conventions, self.spec.box_head.resolution
        features = [as_pooled(level) for level in features[: len(self.spec.roi_strides)]]
        boxes, valid, logits = proposals.boxes, proposals.valid, []
        for head, coder in zip(self.box_heads[:-1], self.spec.stages[:-1], strict=True):
            scores, deltas = head(self.pool(features, boxes, resolution))
            logits.append(scores)
            boxes = decode(_of_best_class(scores, deltas).view_as(boxes), boxes, coder)
            if rules.cascade.clip_stages:
                boxes = clip(boxes, sizes, coder.extent)
            if rules.roi_align.skip_empty:
                valid = valid & has_area(boxes)
        pooled = self.pool(features, boxes, resolution)
        scores, deltas = self.box_heads[-1](pooled)
        if rules.cascade.fusion is ScoreFusion.LAST_FEATURES:
            logits = [head(pooled)[0] for head in self.box_heads[:-1]]
        logits.append(scores)
        rows = boxes.shape[:2]
        return BoxPredictions(boxes, deltas.unflatten(0, rows), self._fuse(logits).unflatten(0, rows), valid)

    def segment(self, features: list[Tensor], detections: DetectionBatch) -> DetectionBatch:
        """Detections with masks, from a model that has mask heads."""
        if self.spec.mask is None:
            return detections
        masks = self.mask_probabilities(features, detections.rois, detections.labels, self.spec.mask)
        boxes, scores, labels, counts, rois, _ = detections
        return DetectionBatch(boxes, scores, labels, counts, rois, masks)

    def mask_probabilities(self, features: list[Tensor], rois: Tensor, labels: Tensor, mask: MaskHeadSpec) -> Tensor:
        """Masks (N, D, M, M) of boxes (N, D, 4), network pixels, and classes (N, D): the mean of the mask heads."""
        pooled = self.mask_features(self.pool(features, rois, mask.resolution), mask)
        classes = labels.flatten()
        logits = [head.of_classes(pooled, classes) for head in self.mask_heads]  # type: ignore[operator]
        masks = torch.stack(logits).float().sigmoid().mean(0)
        return masks.view(*labels.shape, *masks.shape[1:])

    def mask_features(self, pooled: Tensor, mask: MaskHeadSpec) -> Tensor:
        """Pooled features (N * D, C, P, P) to the mask heads' input."""
        pooled = pooled.contiguous(memory_format=torch.channels_last)
        if not mask.shares_box_features:
            return pooled
        shared: Tensor = self.box_heads[0].get_submodule("layer4")(pooled)
        return shared

    def pool(self, features: list[Tensor], boxes: Tensor, resolution: int) -> Tensor:
        """Boxes (N, R, 4) to pooled features (N * R, C, P, P), each box from the level of its size."""
        rules, strides = self.spec.conventions, list(self.spec.roi_strides)
        return pyramid_roi_align(features[: len(strides)], boxes, strides, rules.levels, rules.roi_align, resolution)

    def prepare(self, images: Sequence[ResizedImage], preprocess: PreprocessSpec | None = None) -> Batch:
        """Normalised, padded pixels on the model's device; ``preprocess``: of images at another scale than the
        model's own."""
        weight = next(self.parameters())
        spec = self.spec
        rule = spec.conventions.resize
        return collate(images, preprocess or spec.preprocess, rule, weight.device, weight.dtype)

    def resize(self, image: Any) -> ResizedImage:
        """An image, as ``predict`` takes it, at network scale, or planned where the model's device is to resize it; a
        tensor that requires gradients gets them."""
        pixels, spec, rule = read_image(image), self.spec.preprocess, self.spec.conventions.resize
        if isinstance(image, Tensor) and image.requires_grad and torch.is_grad_enabled():
            return resize(pixels, spec, rule)._replace(source=image)
        device = next(self.parameters()).device
        return (plan if on_device(pixels, rule, device) else resize)(pixels, spec, rule)


def _of_best_class(logits: Tensor, deltas: Tensor) -> Tensor:
    """The deltas (R, 4) of the best foreground class in logits (R, C + 1), of deltas (R, B, 4) with B = C or 1."""
    if deltas.shape[1] == 1:
        return deltas[:, 0]
    best = logits[:, :-1].argmax(1)
    return deltas.gather(1, best[:, None, None].expand(-1, 1, 4))[:, 0]


def _mean_logits(logits: list[Tensor]) -> Tensor:
    return torch.stack(logits).mean(0).softmax(-1)


def _mean_probabilities(logits: list[Tensor]) -> Tensor:
    return torch.stack(logits).softmax(-1).mean(0)


_FUSIONS = {
    ScoreFusion.MEAN_LOGITS: _mean_logits,
    ScoreFusion.MEAN_PROBABILITIES: _mean_probabilities,
    ScoreFusion.LAST_FEATURES: _mean_probabilities,
}
