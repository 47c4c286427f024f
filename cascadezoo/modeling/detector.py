"""The whole detector: picture in, detections out.

``infer`` is the network of the paper from prepared pixels to detections of a fixed size, and what compile, export
and CUDA graphs see.  ``predict`` and ``forward`` wrap it for people: decoding and resizing before, ``Detections`` or
torchvision's dicts after.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import torch
from torch import Tensor, nn

from cascadezoo.coco import Categories
from cascadezoo.detections import Detections
from cascadezoo.images import read_image
from cascadezoo.modeling.mask_head import class_probabilities
from cascadezoo.modeling.postprocess import Found, select
from cascadezoo.modeling.preprocess import Batch, ResizedImage, collate, padded_size, resize
from cascadezoo.modeling.rpn import RPN, Proposals
from cascadezoo.ops.boxes import clip, decode
from cascadezoo.ops.roi_align import pyramid_roi_align
from cascadezoo.spec import ModelSpec

# N pictures, R proposals a picture, C classes, D detections a picture, M the side of a mask


class Detector(nn.Module):
    """A cascade of box heads on a feature pyramid, with mask heads or without.

    Attributes:
        spec: every number of this network.
        categories: class names by label, with the data set's ids.
    """

    def __init__(
        self,
        spec: ModelSpec,
        categories: Categories,
        *,
        backbone: nn.Module,
        neck: nn.Module,
        rpn: RPN,
        box_heads: Sequence[nn.Module],
        mask_heads: Sequence[nn.Module],
    ) -> None:
        super().__init__()
        self.spec, self.categories = spec, categories
        self.backbone, self.neck, self.rpn = backbone, neck, rpn
        self.box_heads = nn.ModuleList(box_heads)
        self.mask_heads = nn.ModuleList(mask_heads)

    def infer(self, batch: Batch) -> Found:
        """Prepared pixels to detections; every shape follows from the batch's."""
        features = self.extract(batch.pixels)
        return self.segment(features, self.find(features, batch))

    def extract(self, pixels: Tensor) -> list[Tensor]:
        """(N, 3, H, W) to pyramid levels (N, 256, H / s, W / s), finest first."""
        levels: list[Tensor] = self.neck(self.backbone(pixels))
        return levels

    def find(self, features: list[Tensor], batch: Batch) -> Found:
        """Detections without masks."""
        proposals = self.rpn(features, batch.sizes)
        boxes, probabilities = self.refine(features, proposals, batch.sizes)
        return select(boxes, probabilities, proposals.valid, batch.scales, self.spec.conventions.selection)

    def refine(self, features: list[Tensor], proposals: Proposals, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """The cascade: each stage pools and moves the boxes of the one before.

        Returns boxes (N, R, 4) of the last stage, clipped to their picture, and probabilities (N, R, C + 1) of the
        stages' mean logits.
        """
        features = [level.contiguous() for level in features]  # as RoIAlign reads them: once for all stages
        boxes, logits = proposals.boxes, []
        for head, coder in zip(self.box_heads, self.spec.stages, strict=True):
            scores, deltas = head(self._pool(features, boxes, self.spec.box_head.resolution))
            logits.append(scores)
            boxes = clip(decode(deltas.view_as(boxes), boxes, coder), sizes)
        mean = torch.stack(logits).mean(0)
        return boxes, mean.softmax(-1).view(*boxes.shape[:2], -1)

    def segment(self, features: list[Tensor], found: Found) -> Found:
        """Add masks (N, D, M, M): the mean of the heads' probabilities for each detection's class."""
        if self.spec.mask is None:
            return found
        pooled = self._pool(features, found.rois, self.spec.mask.resolution)
        pooled = pooled.contiguous(memory_format=torch.channels_last)
        labels = found.labels.flatten()
        masks = torch.stack([class_probabilities(head(pooled), labels) for head in self.mask_heads]).mean(0)
        return found._replace(masks=masks.unflatten(0, found.labels.shape))

    def _pool(self, features: list[Tensor], boxes: Tensor, resolution: int) -> Tensor:
        """(N, R, 4) to (N * R, C, P, P), from the backbone's own levels."""
        rules = self.spec.conventions
        levels = len(self.spec.backbone.channels)
        strides = list(rules.anchors.strides[:levels])
        return pyramid_roi_align(features[:levels], boxes, strides, rules.levels, rules.roi_align, resolution)

    @overload
    def predict(self, image: list[Any], batch_size: int = 1) -> list[Detections]: ...
    @overload
    def predict(self, image: Any, batch_size: int = 1) -> Detections: ...
    def predict(self, image: Any, batch_size: int = 1) -> Detections | list[Detections]:
        """Detect on a picture, or on each of a list.

        Args:
            image: a path (EXIF orientation applied), a PIL image, a uint8 (H, W, 3) RGB array, a (3, H, W) tensor,
                uint8 or float in 0..1; or a list of these.
            batch_size: pictures of a list that go through the network together.  Only pictures of equal padded size
                share a batch, so a picture's detections never depend on its neighbours.

        Raises:
            UnreadableImage: not a picture.
            MissingResource: no such file.
        """
        if isinstance(image, list):
            return self._predict_all(image, batch_size)
        return self._predict_all([image], 1)[0]

    def forward(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """torchvision's interface.

        Args:
            images: (3, H, W) tensors as ``predict`` takes them, of any sizes.

        Returns:
            A dict a picture: ``boxes`` (D, 4) xyxy original pixels, ``scores`` (D,), best first, ``labels`` (D,) in
            0..C-1, and from a model with masks ``masks`` (D, H, W) bool.
        """
        return [_as_dict(found) for found in self._predict_all(list(images), batch_size=max(1, len(images)))]

    def prepare(self, images: Sequence[ResizedImage]) -> Batch:
        """Normalised, padded pixels on the model's device."""
        weight = next(self.parameters())
        return collate(images, self.spec.preprocess, weight.device, weight.dtype)

    @torch.inference_mode()
    def _predict_all(self, images: list[Any], batch_size: int) -> list[Detections]:
        results: list[Detections | None] = [None] * len(images)
        resized = ((i, resize(read_image(image), self.spec.preprocess)) for i, image in enumerate(images))
        for group in _equal_sizes(resized, self._padded, batch_size):
            batch = self.prepare([image for _, image in group])
            features = self.extract(batch.pixels)
            found = self.segment(features, self.find(features, batch).trim())
            for row, (i, image) in enumerate(group):
                results[i] = self.detections(found, row, image.original_size)
        return [r for r in results if r is not None]

    def _padded(self, image: ResizedImage) -> tuple[int, int]:
        return padded_size(image.size, self.spec.preprocess)

    def detections(self, found: Found, row: int, image_size: tuple[int, int]) -> Detections:
        """What was found on one picture of a batch, without the unused rows; (height, width) as given."""
        n = int(found.counts[row])
        return Detections(
            boxes=found.boxes[row, :n],
            scores=found.scores[row, :n],
            labels=found.labels[row, :n],
            image_size=image_size,
            categories=self.categories,
            mask_probs=None if found.masks is None else found.masks[row, :n],
        )


def _equal_sizes(
    images: Iterable[tuple[int, ResizedImage]], key: Any, batch_size: int
) -> Iterator[list[tuple[int, ResizedImage]]]:
    """Groups of at most ``batch_size`` pictures with equal key, each given out as soon as it is full."""
    waiting: dict[Any, list[tuple[int, ResizedImage]]] = {}
    for item in images:
        group = waiting.setdefault(key(item[1]), [])
        group.append(item)
        if len(group) == batch_size:
            yield waiting.pop(key(item[1]))
    yield from waiting.values()


def _as_dict(found: Detections) -> dict[str, Tensor]:
    output = {"boxes": found.boxes, "scores": found.scores, "labels": found.labels}
    masks = found.masks
    return output if masks is None else {**output, "masks": masks}
