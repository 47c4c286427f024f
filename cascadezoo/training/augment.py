"""Random changes of an image and its objects: mirrored, cropped, resized, jittered; the record says which, a generator
decides.

T objects of one image; (h, w) its size at network scale.

Formulas ported from (licences in NOTICE):

- open-mmlab/mmdetection 3.3.0, Copyright (c) OpenMMLab, Apache-2.0: ``mmdet/datasets/transforms/transforms.py``
  (``RandomFlip``, ``RandomCrop`` with ``absolute_range``)
- open-mmlab/mmcv 2.1.0, Copyright (c) OpenMMLab, Apache-2.0: ``mmcv/transforms/processing.py`` (``RandomResize``,
  ``RandomChoiceResize``)
- OpenGVLab/InternImage 31c962d, Copyright (c) 2022 OpenGVLab, MIT: ``detection/configs/coco``, the 3x recipe, after
  DETR's
- facebookresearch/detectron2 02b5c4e, Copyright (c) Facebook, Inc. and its affiliates, Apache-2.0:
  ``detectron2/data/transforms/augmentation_impl.py`` (``ResizeScale``, ``FixedSizeCrop``),
  ``detectron2/data/dataset_mapper.py`` (``recompute_boxes``), ``detectron2/data/detection_utils.py``
  (``filter_empty_instances``)
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch

from cascadezoo.coco.segmentations import Bitmap, Segmentation, bitmap
from cascadezoo.images import Pixels
from cascadezoo.losses.masks import Masks
from cascadezoo.losses.polygons import Points
from cascadezoo.modeling.preprocess import ResizedImage, resize, resize_by, scales_of
from cascadezoo.spec.conventions import Resize
from cascadezoo.spec.model import ModelSpec, PreprocessSpec
from cascadezoo.spec.objective import Drawing
from cascadezoo.spec.recipe import Augmentation, Crop, ScaleJitter, Scales
from cascadezoo.training.bounds import bounds

Boxes = npt.NDArray[np.float32]  # (T, 4) x1 y1 x2 y2, edges
_LEAST_SIDE = 1e-5  # pixels of a box, below which a jittered object is gone


class Change(NamedTuple):
    """What one change of the image does to a mask: to the points of its polygons, or to its bitmap (H, W)."""

    points: Callable[[Points], Points]
    bitmap: Callable[[Bitmap], Bitmap]


class Objects(NamedTuple):
    """T objects of one image.

    Masks stay as the data set has them, with what is to be done to them: only one at a time becomes a bitmap, and none
    that has polygons where the network's targets are drawn from these.

    Attributes:
        boxes: in pixels of the image as it has become.
        segmentations: in pixels of the image as it was, T of them, an empty mask where one is None; None where the
            network needs no masks.
        size: (height, width) of the image as it was.
        changes: of the image since, in order.
    """

    boxes: Boxes
    segmentations: tuple[Segmentation | None, ...] | None
    size: tuple[int, int]
    changes: tuple[Change, ...] = ()

    def shapes(self, size: tuple[int, int], drawing: Drawing | None) -> Iterator[torch.Tensor | list[Points]]:
        """The mask of each object in the image as it has become: its polygons if targets are drawn and it has some,
        else uint8 (height, width) of ``size``."""
        for segmentation in self.segmentations or ():
            if isinstance(segmentation, list):
                polygons = [self._moved(polygon) for polygon in segmentation]
                yield polygons if drawing else torch.from_numpy(bitmap(polygons, *size))
            else:
                mask = np.zeros(self.size, np.uint8) if segmentation is None else bitmap(segmentation, *self.size)
                for change in self.changes:
                    mask = change.bitmap(mask)
                yield torch.from_numpy(mask)

    def _moved(self, points: Points) -> Points:
        for change in self.changes:
            points = change.points(points)
        return points


class Augmented(NamedTuple):
    """An image at network scale, and those of its T objects that are still in it."""

    image: ResizedImage  # resized as for inference; a jittered one is as if it had been given at network scale
    boxes: Boxes  # in the spec's coordinates: x2 and y2 of the last pixel inside where its ``extent`` is 1; clipped
    masks: Masks | None
    kept: npt.NDArray[np.bool_]  # (T,)


def augment(
    image: Pixels, objects: Objects, augmentation: Augmentation, spec: ModelSpec, generator: np.random.Generator
) -> Augmented:
    """Change a uint8 (H, W, 3) RGB image and its objects at random, up to network scale."""
    rule, preprocess, drawing = spec.conventions.resize, spec.preprocess, spec.objective.drawing
    extent = spec.stages[0].extent
    if generator.random() < augmentation.flip:
        objects = _mirrored(objects, image.shape[1], extent if drawing else 0)
        image = np.ascontiguousarray(image[:, ::-1])
    if augmentation.jitter:
        resized, objects, kept = _jittered(image, objects, augmentation.jitter, spec, generator)
        return Augmented(resized, objects.boxes, _masks(objects, resized.size, drawing), kept)
    kept = np.ones(len(objects.boxes), dtype=np.bool_)
    crop = augmentation.crop
    if crop and generator.random() < crop.probability:
        first = _scale(preprocess, int(generator.choice(crop.min_sizes)), crop.max_size)
        resized = resize(image, first, rule)
        objects = _resized(objects, resized, rule, extent=0)
        top, height = _part(resized.size[0], crop, generator)
        left, width = _part(resized.size[1], crop, generator)
        part = resized.pixels[top : top + height, left : left + width]
        image = part.round().clip(0, 255).astype(np.uint8)
        objects = _cropped(objects, top, left, height, width)
        kept = (objects.boxes[:, 2] > objects.boxes[:, 0]) & (objects.boxes[:, 3] > objects.boxes[:, 1])
        objects = _chosen(objects, kept)
    if augmentation.min_sizes and augmentation.max_size:
        preprocess = _scale(preprocess, _min_size(augmentation, generator), augmentation.max_size)
    resized = resize(image, preprocess, rule)
    objects = _resized(objects, resized, rule, extent)
    return Augmented(resized, objects.boxes, _masks(objects, resized.size, drawing), kept)


def _jittered(
    image: Pixels, objects: Objects, jitter: ScaleJitter, spec: ModelSpec, generator: np.random.Generator
) -> tuple[ResizedImage, Objects, npt.NDArray[np.bool_]]:
    """The image, the objects that are still in it, and which (T,) they are.

    Boxes become the bounds of what is left of their masks, for the part of an object that a cut leaves may be smaller
    than the part of its box.  An object without a mask keeps the part of its box.
    """
    rule, drawing = spec.conventions.resize, spec.objective.drawing
    scale = jitter.size * generator.uniform(jitter.smallest, jitter.largest) / max(image.shape[:2])
    resized = resize_by(image, scale, rule)
    objects = _resized(objects, resized, rule, extent=0)
    fraction = generator.uniform()
    top, left = (round(max(0, side - jitter.size) * fraction) for side in resized.size)
    part = np.ascontiguousarray(resized.pixels[top : top + jitter.size, left : left + jitter.size])
    height, width = part.shape[:2]
    objects = _cropped(objects, top, left, height, width)
    boxes = objects.boxes.copy()
    if objects.segmentations is not None:
        shapes = objects.shapes((height, width), drawing)
        for box, segmentation, shape in zip(boxes, objects.segmentations, shapes, strict=True):
            if segmentation is not None:
                box[:] = bounds(shape, height, width)
    kept: npt.NDArray[np.bool_] = np.all(boxes[:, 2:] - boxes[:, :2] > _LEAST_SIDE, axis=1)
    boxes[:, 2:] = (boxes[:, 2:] - spec.stages[0].extent).clip(0)
    return ResizedImage(part, (height, width), 1.0), _chosen(objects._replace(boxes=boxes), kept), kept


def _masks(objects: Objects, size: tuple[int, int], drawing: Drawing | None) -> Masks | None:
    return None if objects.segmentations is None else Masks.of(objects.shapes(size, drawing), size)


def _min_size(augmentation: Augmentation, generator: np.random.Generator) -> int:
    sizes = augmentation.min_sizes
    if augmentation.scales is Scales.RANGE:
        return int(generator.integers(min(sizes), max(sizes), endpoint=True))
    return int(generator.choice(sizes))


def _scale(preprocess: PreprocessSpec, min_size: int, max_size: int) -> PreprocessSpec:
    return preprocess.model_copy(update={"min_size": min_size, "max_size": max_size})


def _part(side: int, crop: Crop, generator: np.random.Generator) -> tuple[int, int]:
    """Where a random part of a side begins, and its length."""
    length = int(generator.integers(min(side, crop.smallest), min(side, crop.largest), endpoint=True))
    return int(generator.integers(0, side - length, endpoint=True)), length


def _mirrored(objects: Objects, width: int, extent: int) -> Objects:
    """``extent``: polygons that are drawn lie to their box as they did, x2 being the last pixel inside if it is 1."""
    boxes = objects.boxes.copy()
    boxes[:, [0, 2]] = width - objects.boxes[:, [2, 0]]
    return _changed(objects, boxes, Change(lambda xy: xy * (-1, 1) + (width - extent, 0), lambda mask: mask[:, ::-1]))


def _cropped(objects: Objects, top: int, left: int, height: int, width: int) -> Objects:
    boxes = (objects.boxes - _float32(left, top, left, top)).clip(0, _float32(width, height, width, height))
    rows, columns = slice(top, top + height), slice(left, left + width)
    return _changed(objects, boxes, Change(lambda xy: xy - (left, top), lambda mask: mask[rows, columns]))


def _resized(objects: Objects, resized: ResizedImage, rule: Resize, extent: int) -> Objects:
    """The objects at the scale of their image; boxes go over to coordinates of ``extent`` before."""
    height, width = resized.size
    x, y = scales_of(resized, rule)
    boxes = (objects.boxes - _float32(0, 0, extent, extent)) * _float32(x, y, x, y)
    boxes = boxes.clip(0, _float32(width, height, width, height))

    def nearest(mask: Bitmap) -> Bitmap:
        source = np.ascontiguousarray(mask)
        return np.asarray(cv2.resize(source, (width, height), interpolation=cv2.INTER_NEAREST), dtype=np.uint8)

    return _changed(objects, boxes, Change(lambda xy: xy * (x, y), nearest))


def _changed(objects: Objects, boxes: Boxes, change: Change) -> Objects:
    return objects._replace(boxes=boxes, changes=(*objects.changes, change))


def _chosen(objects: Objects, kept: npt.NDArray[np.bool_]) -> Objects:
    masks = objects.segmentations
    if masks is not None:
        masks = tuple(segmentation for segmentation, keep in zip(masks, kept, strict=True) if keep)
    return objects._replace(boxes=objects.boxes[kept], segmentations=masks)


def _float32(*numbers: float) -> npt.NDArray[np.float32]:
    return np.array(numbers, dtype=np.float32)
