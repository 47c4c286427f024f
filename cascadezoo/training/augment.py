"""Random changes of an image and its objects: mirrored, cropped, resized; the record says which, a generator decides.

Formulas ported from (licences in NOTICE):

- open-mmlab/mmdetection 3.3.0, Copyright (c) OpenMMLab, Apache-2.0: ``mmdet/datasets/transforms/transforms.py``
  (``RandomFlip``, ``RandomCrop`` with ``absolute_range``)
- open-mmlab/mmcv 2.1.0, Copyright (c) OpenMMLab, Apache-2.0: ``mmcv/transforms/processing.py`` (``RandomResize``,
  ``RandomChoiceResize``)
- OpenGVLab/InternImage 31c962d, Copyright (c) 2022 OpenGVLab, MIT: ``detection/configs/coco``, the 3x recipe, after
  DETR's
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from cascadezoo.coco.dataset import Bitmap, Polygons, Segmentation, bitmap
from cascadezoo.images import Pixels
from cascadezoo.modeling.preprocess import ResizedImage, resize, scales_of
from cascadezoo.spec.conventions import Resize
from cascadezoo.spec.model import ModelSpec, PreprocessSpec
from cascadezoo.spec.recipe import Augmentation, Crop, Scales

Points = npt.NDArray[np.float64]  # (K, 2) x and y
Outlines = list[Polygons | Bitmap]


class Objects(NamedTuple):
    """T objects of one image, all in pixels of that image."""

    boxes: npt.NDArray[np.float32]  # (T, 4) x1 y1 x2 y2, edges
    outlines: Outlines | None  # T polygons or masks (H, W); None where no masks are wanted


def objects(
    boxes: npt.NDArray[np.float32], segmentations: tuple[Segmentation | None, ...], size: tuple[int, int]
) -> Objects:
    """Objects with masks, from COCO's segmentations in an image of ``size`` (height, width); None is an empty mask."""
    return Objects(boxes, [_outline(segmentation, size) for segmentation in segmentations])


def augment(
    image: Pixels, found: Objects, augmentation: Augmentation, spec: ModelSpec, generator: np.random.Generator
) -> tuple[ResizedImage, Objects, npt.NDArray[np.bool_]]:
    """Change a uint8 (H, W, 3) RGB image and its objects at random, up to network scale.

    Returns the resized image, as inference would resize it; those of the objects that are still in it, boxes in the
    spec's coordinates (x2 and y2 of the last pixel inside where its ``extent`` is 1) and clipped, masks uint8 (h, w)
    of the resized image; and which of the T objects these are (T,).
    """
    rule, preprocess = spec.conventions.resize, spec.preprocess
    if generator.random() < augmentation.flip:
        image, found = np.ascontiguousarray(image[:, ::-1]), _mirrored(found, image.shape[1])
    kept = np.ones(len(found.boxes), dtype=np.bool_)
    crop = augmentation.crop
    if crop and generator.random() < crop.probability:
        first = _scale(preprocess, int(generator.choice(crop.min_sizes)), crop.max_size)
        resized, found = _resized(image, found, first, rule, extent=0)
        top, height = _part(resized.size[0], crop, generator)
        left, width = _part(resized.size[1], crop, generator)
        part = resized.pixels[top : top + height, left : left + width]
        image = part.round().clip(0, 255).astype(np.uint8)
        found = _cropped(found, top, left, height, width)
        kept = (found.boxes[:, 2] > found.boxes[:, 0]) & (found.boxes[:, 3] > found.boxes[:, 1])
        found = _chosen(found, kept)
    if augmentation.min_sizes and augmentation.max_size:
        preprocess = _scale(preprocess, _min_size(augmentation, generator), augmentation.max_size)
    resized, found = _resized(image, found, preprocess, rule, spec.stages[0].extent)
    if found.outlines is not None:
        found = found._replace(outlines=[_rasterised(outline, resized.size) for outline in found.outlines])
    return resized, found, kept


def _outline(segmentation: Segmentation | None, size: tuple[int, int]) -> Polygons | Bitmap:
    if segmentation is None:
        return np.zeros(size, dtype=np.uint8)
    return bitmap(segmentation, *size) if isinstance(segmentation, Mapping) else segmentation


def _rasterised(outline: Polygons | Bitmap, size: tuple[int, int]) -> Bitmap:
    return bitmap(outline, *size) if isinstance(outline, list) else outline


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


def _mirrored(found: Objects, width: int) -> Objects:
    boxes = found.boxes.copy()
    boxes[:, [0, 2]] = width - found.boxes[:, [2, 0]]
    return Objects(boxes, _moved(found.outlines, lambda xy: xy * (-1, 1) + (width, 0), lambda mask: mask[:, ::-1]))


def _cropped(found: Objects, top: int, left: int, height: int, width: int) -> Objects:
    boxes = (found.boxes - _float32(left, top, left, top)).clip(0, _float32(width, height, width, height))
    rows, columns = slice(top, top + height), slice(left, left + width)
    return Objects(boxes, _moved(found.outlines, lambda xy: xy - (left, top), lambda mask: mask[rows, columns]))


def _resized(
    image: Pixels, found: Objects, preprocess: PreprocessSpec, rule: Resize, extent: int
) -> tuple[ResizedImage, Objects]:
    """Image and objects at the scale of ``preprocess``; boxes go over to coordinates of ``extent`` before."""
    resized = resize(image, preprocess, rule)
    height, width = resized.size
    x, y = scales_of(resized, rule)
    boxes = (found.boxes - _float32(0, 0, extent, extent)) * _float32(x, y, x, y)
    boxes = boxes.clip(0, _float32(width, height, width, height))

    def nearest(mask: Bitmap) -> Bitmap:
        source = np.ascontiguousarray(mask)
        return np.asarray(cv2.resize(source, (width, height), interpolation=cv2.INTER_NEAREST), dtype=np.uint8)

    return resized, Objects(boxes, _moved(found.outlines, lambda xy: xy * (x, y), nearest))


def _moved(
    outlines: Outlines | None, points: Callable[[Points], Points], mask: Callable[[Bitmap], Bitmap]
) -> Outlines | None:
    """Every outline changed: polygons by what happens to their points, masks by what happens to their pixels."""
    if outlines is None:
        return None
    return [[points(polygon) for polygon in o] if isinstance(o, list) else mask(o) for o in outlines]


def _chosen(found: Objects, kept: npt.NDArray[np.bool_]) -> Objects:
    outlines = found.outlines and [o for o, keep in zip(found.outlines, kept, strict=True) if keep]
    return Objects(found.boxes[kept], outlines)


def _float32(*numbers: float) -> npt.NDArray[np.float32]:
    return np.array(numbers, dtype=np.float32)
