"""The ground truth of an image: as callers give it, checked, and as the losses take it.

T objects of one image; (h, w) its size at network scale, without padding.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from cascadezoo.coco.segmentations import bitmap, shown
from cascadezoo.errors import BadTarget
from cascadezoo.losses.masks import Masks
from cascadezoo.losses.polygons import Points
from cascadezoo.modeling.preprocess import ResizedImage, scales_of
from cascadezoo.spec.model import ModelSpec

GivenTargets = Mapping[str, Tensor | Sequence[Sequence[Sequence[float]]]]  # see ``checked_targets``

_ROUNDING = 0.01  # pixels by which a box may lie outside its image


class Targets(NamedTuple):
    """The ground-truth objects of one image at network scale."""

    boxes: Tensor  # (T, 4) float32 xyxy, network pixels
    labels: Tensor  # (T,) int64, 0..C-1
    masks: Masks | None
    crowd: Tensor  # (T,) bool: a group of objects in one box, which no box is matched to

    def to(self, device: torch.device) -> "Targets":
        """The same objects on another device."""
        boxes, labels, crowd = (x.to(device, non_blocking=True) for x in (self.boxes, self.labels, self.crowd))
        return Targets(boxes, labels, None if self.masks is None else self.masks.to(device), crowd)

    def single(self) -> "Targets":
        """The objects that are no crowds."""
        keep = ~self.crowd
        masks = None if self.masks is None else self.masks.where(keep)
        return Targets(self.boxes[keep], self.labels[keep], masks, self.crowd[keep])


def checked_targets(given: GivenTargets, image: ResizedImage, index: int, spec: ModelSpec) -> Targets:
    """One image's targets as torchvision takes them, in the coordinates of a network at the resized image's scale.

    Args:
        given: ``boxes`` (T, 4) xyxy in pixels of the image as given, x2 and y2 the edges behind the last ones;
            ``labels`` (T,) integers in 0..C-1; where the network has mask heads, ``masks`` in the same pixels: either
            (T, H, W), bool, integers (an object's where above 0, so that 0 and 255 do) or floating 0 and 1, or, as in
            COCO, T lists of polygons, each x1, y1, x2, y2 and so on of three points or more (a crowd's are not read);
            optionally ``iscrowd`` (T,), of the types and values of bitmaps.
        image: the resized image.
        index: its place in the batch, for messages.
        spec: the network, which has C classes.

    Raises:
        BadTarget: a field is missing, has another shape or holds a value out of range; no or bad polygons.
    """
    height, width = image.original_size
    if not isinstance(given, Mapping):
        raise BadTarget(f"image {index}: a target is a dict with boxes and labels, not {shown(given)}")

    def need(key: str, shape: tuple[int, ...]) -> Tensor:
        value = given.get(key)
        if not isinstance(value, Tensor) or tuple(value.shape) != shape:
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else shown(value)
            got = "nothing" if value is None else got
            raise BadTarget(f"image {index}: {key} must be a tensor of shape {shape}, not {got}")
        if value.is_complex() or value.layout != torch.strided:
            raise BadTarget(f"image {index}: {key} must be a dense tensor of real numbers")
        return value

    count = len(value) if isinstance(value := given.get("boxes"), Tensor) else 0
    boxes = need("boxes", (count, 4)).float()
    labels = need("labels", (count,))
    crowd = torch.zeros(count, dtype=torch.bool)
    if "iscrowd" in given:
        crowd = _as_bool(need("iscrowd", (count,)), f"image {index}: floating iscrowd holds 0 and 1")
    _check_boxes(boxes, index, height, width)
    if labels.is_floating_point():
        raise BadTarget(f"image {index}: labels must be integers, not {labels.dtype}")
    labels = labels.long()
    if rows := _rows((labels < 0) | (labels >= spec.num_classes)):
        raise BadTarget(
            f"image {index}, object {rows[0]}: label {int(labels[rows[0]])} is not in 0..{spec.num_classes - 1} "
            "(labels count from 0, without background)"
        )
    masks, shapes = None, given.get("masks")
    if spec.mask and isinstance(shapes, list | tuple):
        masks = _of_polygons(_checked_polygons(shapes, crowd, index, height, width), image, spec)
    elif spec.mask:
        bitmaps = _as_bool(need("masks", (count, height, width)), f"image {index}: floating masks hold 0 and 1")
        masks = Masks.of(_resized(bitmaps, image.size), image.size, bitmaps.device)
    return Targets(_scaled(boxes, image, spec), labels, masks, crowd.to(boxes.device))


def _as_bool(values: Tensor, rule: str) -> Tensor:
    """Numbers of any real type as truth values; ``rule``: what holds for floating ones, for a message."""
    if not values.is_floating_point():
        return values > 0 if values.dtype.is_signed else values.bool()  # torch compares no uint16, uint32 and uint64
    if values.dtype.itemsize == 1:
        values = values.float()  # nor numbers of 8 bits
    if rows := _rows(((values != 0) & (values != 1)).flatten()):
        value = float(values.flatten()[rows[0]])
        raise BadTarget(f"{rule}, not {value:g}: threshold them, as in masks > 0.5")
    return values > 0


def _of_polygons(objects: list[list[Points]], image: ResizedImage, spec: ModelSpec) -> Masks:
    """Polygons in the image's pixels at network scale, or where the network's targets are cropped, their bitmaps."""
    if spec.objective.drawing:
        scales = np.array(scales_of(image, spec.conventions.resize))
        return Masks.of(([points * scales for points in polygons] for polygons in objects), image.size)
    height, width = image.original_size
    bitmaps = (
        torch.from_numpy(bitmap(polygons, height, width)) if polygons else torch.zeros(height, width)
        for polygons in objects
    )
    return Masks.of(_resized(bitmaps, image.size), image.size)


def _checked_polygons(given: Sequence[Any], crowd: Tensor, index: int, height: int, width: int) -> list[list[Points]]:
    """The polygons of each object, none of a crowd's."""
    if len(given) != len(crowd):
        raise BadTarget(f"image {index}: masks must hold a list of polygons per box, {len(crowd)}, not {len(given)}")
    size, objects = np.array((width, height)), []
    for row, (polygons, is_crowd) in enumerate(zip(given, crowd.tolist(), strict=True)):
        where = f"image {index}, object {row}: masks"
        if not is_crowd and not isinstance(polygons, list | tuple):
            raise BadTarget(f"{where} must be a list of polygons, not a {type(polygons).__name__}")
        if not is_crowd and not polygons:
            raise BadTarget(f"{where} have no polygon: give at least one, or leave the object out")
        objects.append([] if is_crowd else [_points(polygon, where) for polygon in polygons])
        for points in objects[-1]:
            far = ((points < -size) | (points > 2 * size)).any(1)
            if far.any():
                x, y = points[far.argmax()]
                raise BadTarget(f"{where}: the point ({x:g}, {y:g}) lies far outside its image of {width} x {height}")
    return objects


def _points(polygon: Any, where: str) -> Points:
    """(K, 2) of x1, y1, x2, y2 and so on."""
    try:
        numbers = np.asarray(polygon.tolist() if isinstance(polygon, Tensor) else polygon)
    except ValueError:  # lists of different lengths
        numbers = np.array(None)
    flat = numbers.ndim == 1 and numbers.dtype.kind in "iuf" and len(numbers) >= 6 and len(numbers) % 2 == 0
    if not flat or not np.isfinite(numbers).all():
        raise BadTarget(f"{where}: a polygon is x1, y1, x2, y2, …: at least three pairs of finite numbers")
    return numbers.astype(np.float64).reshape(-1, 2)


def _scaled(boxes: Tensor, image: ResizedImage, spec: ModelSpec) -> Tensor:
    """Boxes (T, 4) at network scale, x2 and y2 moved to the last pixels inside where the spec's ``extent`` is 1."""
    x, y = scales_of(image, spec.conventions.resize)
    extent = spec.stages[0].extent
    return (boxes - boxes.new_tensor((0, 0, extent, extent))) * boxes.new_tensor((x, y, x, y))


def _check_boxes(boxes: Tensor, index: int, height: int, width: int) -> None:
    low, high = boxes[:, :2], boxes[:, 2:]
    limit = boxes.new_tensor([width, height]) + _ROUNDING
    wrong = {
        "is not finite": ~boxes.isfinite().all(1),
        "has no area (boxes are x1, y1, x2, y2)": (high <= low).any(1),
        f"lies outside its image of {width} x {height} pixels": (low < -_ROUNDING).any(1) | (high > limit).any(1),
    }
    for what, marks in wrong.items():
        if rows := _rows(marks):
            values = ", ".join(f"{value:g}" for value in boxes[rows[0]].tolist())
            raise BadTarget(f"image {index}, object {rows[0]}: box ({values}) {what}")


def _rows(marks: Tensor) -> list[int]:
    rows: list[int] = marks.nonzero().flatten().tolist()
    return rows


def _resized(bitmaps: Iterable[Tensor], size: tuple[int, int]) -> Iterator[Tensor]:
    """Each of T bitmaps (H, W), uint8 (h, w): every pixel that of its nearest in the original."""
    height, width = size
    for mask in bitmaps:
        if tuple(mask.shape) == size:
            yield mask.to(torch.uint8)
        else:
            pixels = mask.to("cpu", torch.uint8).numpy()
            resized = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_NEAREST)
            yield torch.from_numpy(resized).to(mask.device)
