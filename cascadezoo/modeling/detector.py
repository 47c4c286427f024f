"""The whole detector: picture in, detections out.

``infer`` is the network of the paper from prepared pixels to detections of a fixed size, and what compile, export
and CUDA graphs see.  ``predict`` and ``forward`` wrap it for people: decoding and resizing before, ``Detections`` or
torchvision's dicts after.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import torch
from torch import Tensor, nn

from cascadezoo.coco.categories import Categories
from cascadezoo.detections import Detections
from cascadezoo.errors import UsageError
from cascadezoo.images import read_image
from cascadezoo.modeling.mask_head import class_probabilities
from cascadezoo.modeling.postprocess import Found, Scored, select
from cascadezoo.modeling.preprocess import Batch, ResizedImage, collate, padded_size, resize
from cascadezoo.modeling.rpn import RPN, Proposals
from cascadezoo.modeling.tta import TTASettings, detect
from cascadezoo.ops.boxes import clip, decode, has_area
from cascadezoo.ops.mask_paste import PASTE
from cascadezoo.ops.roi_align import as_pooled, pyramid_roi_align
from cascadezoo.spec.conventions import ScoreFusion
from cascadezoo.spec.model import MaskHeadSpec, ModelSpec

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
        self._fuse = _FUSIONS[spec.conventions.cascade.fusion]

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
        scored = self.refine(features, proposals, batch.sizes)
        return select(scored, batch, self.spec.stages[-1], self.spec.conventions.selection)

    def refine(self, features: list[Tensor], proposals: Proposals, sizes: Tensor) -> Scored:
        """The cascade: each stage pools the boxes that the one before has moved; then their scores are fused."""
        rules, resolution = self.spec.conventions, self.spec.box_head.resolution
        features = [as_pooled(level) for level in features]
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
            logits = [head(pooled)[0] for head in self.box_heads]
        else:
            logits.append(scores)
        rows = boxes.shape[:2]
        return Scored(boxes, deltas.unflatten(0, rows), self._fuse(logits).unflatten(0, rows), valid)

    def segment(self, features: list[Tensor], found: Found) -> Found:
        """Detections with masks, from a model that has mask heads."""
        if self.spec.mask is None:
            return found
        masks = self.mask_probabilities(features, found.rois, found.labels, self.spec.mask)
        return Found(found.boxes, found.scores, found.labels, found.counts, found.rois, masks)

    def mask_probabilities(self, features: list[Tensor], rois: Tensor, labels: Tensor, mask: MaskHeadSpec) -> Tensor:
        """Masks (N, D, M, M) of boxes (N, D, 4), network pixels, and classes (N, D): the mean of the mask heads."""
        pooled = self.mask_features(self.pool(features, rois, mask.resolution), mask)
        flat = labels.flatten()
        masks = torch.stack([class_probabilities(head(pooled), flat) for head in self.mask_heads]).mean(0)
        return masks.view(*labels.shape, *masks.shape[1:])

    def mask_features(self, pooled: Tensor, mask: MaskHeadSpec) -> Tensor:
        """Pooled boxes (R, C, P, P) to what a mask head reads."""
        pooled = pooled.contiguous(memory_format=torch.channels_last)
        if not mask.shares_box_features:
            return pooled
        shared: Tensor = self.box_heads[0].get_submodule("layer4")(pooled)
        return shared

    def pool(self, features: list[Tensor], boxes: Tensor, resolution: int) -> Tensor:
        """(N, R, 4) to (N * R, C, P, P), each from the level of its size."""
        rules, strides = self.spec.conventions, list(self.spec.roi_strides)
        return pyramid_roi_align(features[: len(strides)], boxes, strides, rules.levels, rules.roi_align, resolution)

    @overload
    def predict(self, image: list[Any], tta: bool | TTASettings = False, batch_size: int = 1) -> list[Detections]: ...
    @overload
    def predict(self, image: Any, tta: bool | TTASettings = False, batch_size: int = 1) -> Detections: ...
    def predict(
        self, image: Any, tta: bool | TTASettings = False, batch_size: int = 1
    ) -> Detections | list[Detections]:
        """Detect on a picture, or on each of a list.

        Args:
            image: a path (EXIF orientation applied), a PIL image, a uint8 (H, W, 3) RGB array, a (3, H, W) tensor,
                uint8 or float in 0..1; or a list of these.
            tta: test-time augmentation, with its default settings or others; one picture at a time.
            batch_size: pictures of a list that go through the network together.  Only pictures of equal padded size
                share a batch, so a picture's detections never depend on its neighbours.

        Raises:
            UnreadableImage: not a picture.
            MissingResource: no such file.
            UsageError: the model is in training mode.
        """
        if self.training:
            raise UsageError("the model is in training mode: call model.eval() before predict")
        images = image if isinstance(image, list) else [image]
        if tta:
            settings = TTASettings() if tta is True else tta
            found = [self._predict_augmented(one, settings) for one in images]
        else:
            found = self._predict_all(images, batch_size)
        return found if isinstance(image, list) else found[0]

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]] | None = None
    ) -> list[dict[str, Tensor]] | dict[str, Tensor]:
        """torchvision's interface.

        Args:
            images: (3, H, W) tensors as ``predict`` takes them, of any sizes.
            targets: for training mode, a dict a picture: ``boxes`` (T, 4) xyxy and, for a model with masks, ``masks``
                (T, H, W), in the picture's pixels; ``labels`` (T,) in 0..C-1; ``iscrowd`` (T,), if there are any.

        Returns:
            In evaluation mode a dict a picture: ``boxes`` (D, 4) xyxy original pixels, ``scores`` (D,), best first,
            ``labels`` (D,) in 0..C-1, and from a model with masks ``masks`` (D, H, W) bool.  In training mode the
            losses by name (``cascadezoo.training.objective``).

        Raises:
            BadTarget: a box outside its picture or without area, a label out of range, a mask of another size.
        """
        if self.training:
            from cascadezoo.training.objective import losses_of_pictures  # the one step up, from network to training

            if targets is None:
                raise UsageError("a model in training mode needs targets: model(images, targets), or model.eval()")
            return losses_of_pictures(self, images, targets)
        return [_as_dict(found) for found in self._predict_all(list(images), batch_size=max(1, len(images)))]

    def prepare(self, images: Sequence[ResizedImage]) -> Batch:
        """Normalised, padded pixels on the model's device."""
        weight = next(self.parameters())
        spec = self.spec
        return collate(images, spec.preprocess, spec.conventions.resize, weight.device, weight.dtype)

    def resize(self, image: Any) -> ResizedImage:
        """A picture, as ``predict`` takes it, at network scale."""
        return resize(read_image(image), self.spec.preprocess, self.spec.conventions.resize)

    @torch.inference_mode()
    def _predict_all(self, images: list[Any], batch_size: int) -> list[Detections]:
        results: list[Detections | None] = [None] * len(images)
        resized = ((i, self.resize(image)) for i, image in enumerate(images))
        for group in _equal_sizes(resized, self._padded, batch_size):
            batch = self.prepare([image for _, image in group])
            features = self.extract(batch.pixels)
            found = self.segment(features, self.find(features, batch).trim())
            for row, (i, image) in enumerate(group):
                results[i] = self.detections(found, row, image.original_size)
        return [r for r in results if r is not None]

    @torch.inference_mode()
    def _predict_augmented(self, image: Any, settings: TTASettings) -> Detections:
        pixels = read_image(image)
        return self.detections(detect(self, pixels, settings), 0, (pixels.shape[0], pixels.shape[1]))

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
            paste_method=PASTE[self.spec.conventions.paste],
            extent=self.spec.stages[-1].extent,
        )


def _of_best_class(logits: Tensor, deltas: Tensor) -> Tensor:
    """Of deltas (R, B, 4) those of the best foreground class in logits (R, C + 1), or the only ones: (R, 4)."""
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
