"""An augmentation of the user's own, before the recipe's: albumentations' Compose, torchvision's v2, any callable.

What it makes of an image depends on (seed, epoch, image id) alone, as everything else does.  T objects of one image of
H x W pixels; C classes.
"""

import multiprocessing
import pickle
import random
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from cascadezoo.coco.dataset import ImageRecord
from cascadezoo.coco.rle import encode_crop
from cascadezoo.coco.segmentations import Segmentation, bitmap
from cascadezoo.errors import UsageError
from cascadezoo.images import Pixels

Target = dict[str, Any]
Augment = Callable[..., Any]
"""``(image, target) -> (image, target)``: a uint8 (H, W, 3) RGB array, and arrays ``boxes`` (T, 4) float32 x1 y1 x2 y2
in pixels, x2 and y2 the edges behind the last ones, ``labels`` (T,) int64 of 0..C-1, ``crowd`` (T,) bool and, for a
network with masks, ``masks`` (T, H, W) uint8, 0 or 1.  Or an ``albumentations.Compose`` with ``bbox_params``, or a
transform of ``torchvision.transforms.v2``."""

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_LEAST = 1 - 1e-3  # pixels of a box that is learned from: one, as everywhere, except rounding


class Objects(NamedTuple):
    """T objects as arrays, with the fields that ``Augment`` describes; ``masks`` is None for a network without."""

    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    crowd: npt.NDArray[np.bool_]
    masks: npt.NDArray[np.uint8] | None


class Hook:
    """A user's augmentation, applied to one image after the other; it goes to worker processes as it is.

    Raises UsageError for a part of albumentations that cannot move boxes with the image.
    """

    def __init__(self, augment: Augment, classes: int) -> None:
        self._augment, self._classes = augment, classes
        if hasattr(augment, "processors") or _is_of(augment, "albumentations"):
            if "bboxes" not in getattr(augment, "processors", ()):
                raise UsageError(
                    "augment: this part of albumentations moves no boxes: put it into A.Compose with bbox_params, such "
                    "as A.BboxParams('pascal_voc', label_fields=['labels'])"
                )
            self._call: Callable[[Pixels, Objects], tuple[Any, Any]] = self._albumentations
        else:
            self._call = self._torchvision if _is_of(augment, "torchvision.transforms.v2") else self._own

    def __call__(
        self, image: Pixels, record: ImageRecord, seed: int, *, with_masks: bool
    ) -> tuple[Pixels, ImageRecord]:
        """The image (H, W, 3) as it becomes, and its record with its size and the objects that are still in it.

        ``seed`` decides all randomness of Python, NumPy, torch and albumentations in it, and nothing outside.  Masks
        that come back as they were stay as the data set has them; others are RLEs from then on, so that targets are
        cropped from them.

        Raises UsageError, which names the image, for what is not as ``Augment`` says.
        """
        given = self._objects(record, with_masks)
        with _seeded(self._augment, seed):
            changed, found = self._call(image.copy(), Objects(*(_copied(array) for array in given)))
        problem = f"augment, on image {record.image_id}, gives "
        pixels = _image(changed, problem)
        height, width = pixels.shape[:2]
        objects = self._checked(found, height, width, with_masks, problem)
        if (height, width) == image.shape[:2] and _are_equal(objects, given):
            return pixels, record
        objects = _remaining(objects, height, width)
        masks: tuple[Segmentation | None, ...] = (None,) * len(objects.boxes)
        if objects.masks is not None:
            masks = tuple(_rle(mask) for mask in objects.masks)
        return pixels, record._replace(
            height=height,
            width=width,
            boxes=objects.boxes,
            labels=objects.labels,
            segmentations=masks,
            crowd=objects.crowd,
        )

    def _objects(self, record: ImageRecord, with_masks: bool) -> Objects:
        size = (record.height, record.width)
        masks = None
        if with_masks:
            masks = np.zeros((len(record.boxes), *size), dtype=np.uint8)
            for mask, segmentation in zip(masks, record.segmentations, strict=True):
                if segmentation is not None:
                    mask[:] = bitmap(segmentation, *size)
        return Objects(record.boxes, record.labels, record.crowd, masks)

    def _own(self, image: Pixels, objects: Objects) -> tuple[Any, Any]:
        target = {name: array for name, array in objects._asdict().items() if array is not None}
        result = self._augment(image, target)
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], dict):
            raise UsageError(f"augment gives a {type(result).__name__}, not an image and a dict of its objects")
        return result

    def _albumentations(self, image: Pixels, objects: Objects) -> tuple[Any, Any]:
        params = self._augment.processors["bboxes"].params  # type: ignore[attr-defined]  # looked for before
        height, width = image.shape[:2]
        ids = np.arange(len(objects.boxes), dtype=np.float32)[:, None]  # a further column, which stays with its box
        boxes = _to_format(objects.boxes, params.format, height, width)
        data: dict[str, Any] = {"image": image, "bboxes": np.concatenate([boxes, ids], axis=1)}
        data |= {field: objects.labels.tolist() for field in params.label_fields or ()}
        if objects.masks is not None and len(objects.masks):
            data["masks"] = objects.masks
        result = self._augment(**data)
        rows = np.array([list(row)[:5] for row in result["bboxes"]], dtype=np.float32).reshape(-1, 5)
        kept = rows[:, 4].round().astype(np.int64)
        height, width = np.shape(result["image"])[:2]
        masks = None
        if objects.masks is not None:
            moved = np.asarray(result.get("masks", np.zeros((0, height, width))), dtype=np.uint8)
            masks = moved[kept] if len(kept) else np.zeros((0, height, width), np.uint8)
        of_format = _from_format(rows[:, :4], params.format, height, width)
        target = {"boxes": of_format, "labels": objects.labels[kept], "crowd": objects.crowd[kept], "masks": masks}
        return result["image"], target

    def _torchvision(self, image: Pixels, objects: Objects) -> tuple[Any, Any]:
        from torchvision import tv_tensors
        from torchvision.transforms.v2 import functional

        size = (image.shape[0], image.shape[1])
        labels = objects.labels + self._classes * objects.crowd  # so that crowds stay known whatever is left out
        target: Target = {
            "boxes": tv_tensors.BoundingBoxes(torch.from_numpy(objects.boxes), format="XYXY", canvas_size=size),
            "labels": torch.from_numpy(labels),
        }
        if objects.masks is not None:
            target["masks"] = tv_tensors.Mask(torch.from_numpy(objects.masks))
        given = tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1))
        result = self._augment(given, target)
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], dict):
            raise UsageError(f"augment gives a {type(result).__name__}, not an image and a dict of its objects")
        changed, target = result
        boxes = target["boxes"]
        if isinstance(boxes, tv_tensors.BoundingBoxes):
            boxes = functional.convert_bounding_box_format(boxes, new_format="XYXY")
        found: Target = {name: np.asarray(target[name]) for name in ("labels", "masks") if name in target}
        found |= {"boxes": np.asarray(boxes), "crowd": found["labels"] >= self._classes}
        found["labels"] = found["labels"] % self._classes
        return changed.permute(1, 2, 0).numpy() if isinstance(changed, torch.Tensor) else changed, found

    def _checked(self, target: Target, height: int, width: int, with_masks: bool, problem: str) -> Objects:
        try:
            boxes = np.asarray(target["boxes"], dtype=np.float32).reshape(-1, 4)
            labels = np.asarray(target["labels"])
            crowd = np.asarray(target["crowd"], dtype=np.bool_)
            masks = np.asarray(target["masks"], dtype=np.uint8) if with_masks else None
        except KeyError as error:
            raise UsageError(f"{problem}no {error.args[0]!r}") from error
        except (TypeError, ValueError) as error:
            raise UsageError(f"{problem}objects that are no arrays of the kinds wanted ({error})") from error
        count = len(boxes)
        if not np.isfinite(boxes).all():
            raise UsageError(f"{problem}boxes that are not finite")
        if labels.shape != (count,) or crowd.shape != (count,):
            raise UsageError(f"{problem}{count} boxes, but labels {labels.shape} and crowd {crowd.shape}")
        if count and (labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= self._classes):
            raise UsageError(f"{problem}labels that are no whole numbers from 0 to {self._classes - 1}")
        if masks is not None and masks.shape != (count, height, width):
            raise UsageError(f"{problem}masks {masks.shape} for {count} boxes in an image of {height} x {width}")
        return Objects(boxes, labels.astype(np.int64), crowd, None if masks is None else (masks > 0).astype(np.uint8))


def name_of(augment: Augment) -> str:
    """How an augmentation calls itself: a function by its module and name, anything else by its ``repr``.

    The same in every process, as far as that depends on us.
    """
    name = getattr(augment, "__qualname__", None)
    text = f"{augment.__module__}.{name}" if name else repr(augment)
    return _ADDRESS.sub("", text)


def require_portable(augment: Augment, workers: int) -> None:
    """Raise UsageError where worker processes are not forked, and the augmentation cannot be sent to them."""
    if workers == 0 or "fork" in multiprocessing.get_all_start_methods():
        return
    try:
        pickle.dumps(augment)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(
            f"augment: {name_of(augment)} cannot be sent to worker processes ({error}): define it at the top of a "
            "module, or prepare images without workers (workers=0)"
        ) from error


def _is_of(augment: Augment, package: str) -> bool:
    """Whether its class, or one that it inherits from, is of a package; nothing is imported for that."""
    if package not in sys.modules:
        return False
    return any(f"{kind.__module__}.".startswith(f"{package}.") for kind in type(augment).__mro__)


@contextmanager
def _seeded(augment: Augment, seed: int) -> Iterator[None]:
    """All randomness that an augmentation may use follows from ``seed``, and what others use goes on as before."""
    python, numpy, own = random.getstate(), np.random.get_state(), seed % 2**32  # noqa: NPY002  # users' may use it
    with torch.random.fork_rng(devices=()):
        try:
            random.seed(own)
            np.random.seed(own)  # noqa: NPY002
            torch.manual_seed(own)
            if hasattr(augment, "set_random_state"):  # albumentations: its transforms share these
                augment.set_random_state(np.random.default_rng(own), random.Random(own))
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def _copied(array: Any) -> Any:
    return None if array is None else array.copy()


def _image(image: Any, problem: str) -> Pixels:
    found = f"a {type(image).__name__}"
    if isinstance(image, np.ndarray):
        found = f"an image of {image.dtype} {image.shape}"
        if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
            return np.ascontiguousarray(image)
    raise UsageError(f"{problem}{found}, where uint8 (height, width, 3) is wanted: the model normalises by itself")


def _are_equal(some: Objects, others: Objects) -> bool:
    pairs: list[tuple[Any, Any]] = list(zip(some, others, strict=True))
    return all(np.array_equal(one, other) for one, other in pairs if one is not None)


def _remaining(objects: Objects, height: int, width: int) -> Objects:
    """The objects clipped to the image, without those of less than a pixel or, except crowds, with an empty mask."""
    boxes = objects.boxes.clip(0, np.array([width, height, width, height], dtype=np.float32))
    kept = (boxes[:, 2] - boxes[:, 0] >= _LEAST) & (boxes[:, 3] - boxes[:, 1] >= _LEAST)
    if objects.masks is not None:
        kept &= objects.crowd | objects.masks.any(axis=(1, 2))
    masks = None if objects.masks is None else objects.masks[kept]
    return Objects(boxes[kept], objects.labels[kept], objects.crowd[kept], masks)


def _rle(mask: npt.NDArray[np.uint8]) -> Segmentation:
    return {**encode_crop(mask > 0, 0, 0, *mask.shape)}


def _to_format(boxes: npt.NDArray[np.float32], form: str, height: int, width: int) -> npt.NDArray[np.float32]:
    """From x1 y1 x2 y2 in pixels to one of albumentations' four formats."""
    boxes = boxes.copy()
    if form in ("albumentations", "yolo"):
        boxes /= np.array([width, height, width, height], dtype=np.float32)
    if form in ("coco", "yolo"):
        boxes[:, 2:] -= boxes[:, :2]
    if form == "yolo":
        boxes[:, :2] += boxes[:, 2:] / 2
    return boxes


def _from_format(boxes: npt.NDArray[np.float32], form: str, height: int, width: int) -> npt.NDArray[np.float32]:
    """The other way."""
    boxes = boxes.copy()
    if form == "yolo":
        boxes[:, :2] -= boxes[:, 2:] / 2
    if form in ("coco", "yolo"):
        boxes[:, 2:] += boxes[:, :2]
    if form in ("albumentations", "yolo"):
        boxes *= np.array([width, height, width, height], dtype=np.float32)
    return boxes
