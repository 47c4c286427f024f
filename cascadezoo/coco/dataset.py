"""A data set in COCO's format, validated when it is opened, so that later code need not check its records.

N images; T objects of one image; C classes.
"""

import json
import logging
import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cascadezoo.coco.checking import categories_of, read, require_mask_truth
from cascadezoo.coco.image_headers import require_images
from cascadezoo.coco.records import Annotation
from cascadezoo.coco.segmentations import Segmentation, as_arrays
from cascadezoo.errors import BadAnnotations, MissingResource
from cascadezoo.images import Pixels, read_image

_log = logging.getLogger("cascadezoo")


class ImageRecord(NamedTuple):
    """One image and its T objects, in pixels of the image as it is in its file.

    Attributes:
        image_id: the data set's own id.
        path: the image file.
        height, width: of the image.
        boxes: (T, 4) float32 x1 y1 x2 y2, x2 and y2 the edges behind the last pixels; clipped to the image.
        labels: (T,) int64, 0..C-1.
        segmentations: T polygons or RLEs, None for an object without a mask.
        crowd: (T,) bool, a group of objects in one box.
    """

    image_id: int
    path: Path
    height: int
    width: int
    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    segmentations: tuple[Segmentation | None, ...]
    crowd: npt.NDArray[np.bool_]


class CocoDataset:
    """The images of ``annotations``, a COCO instances file, that lie in the folder ``images``.

    Annotations that cannot be learned from are left out: boxes outside their image or less than a pixel wide or high,
    and those with ``ignore`` 1.  What the file lacks is filled in.  The kinds of what was met are logged with their
    numbers (docs/data.md).

    Raises MissingResource when the file, the folder or an image is missing, and BadAnnotations, which names the file
    and the image's or the annotation's id, when the JSON or the size of an image is not what it should be.

    Attributes:
        annotations: the file.
        digest: its SHA-256 in hexadecimal.
        categories: by label, with the data set's own ids; without an unannotated root above all others.
        image_ids: in the file's order.
        heights, widths: (N,) of the images.
        objects: (N,) how many objects each image has, without crowds.
        class_counts: (C,) how many objects each class has, without crowds.
        held: (P, 2) an image's index and a label, for each class of which an image has objects, without crowds.
        met: kind of fault (``cascadezoo.coco.faults``) -> how many the file has.
    """

    def __init__(self, annotations: str | os.PathLike[str], images: str | os.PathLike[str]) -> None:
        self.annotations, self.images = Path(annotations), Path(images)
        if not self.images.is_dir():
            raise MissingResource(f"no folder of images: {self.images}")
        # text rather than millions of objects: worker processes share one buffer of it without copying
        texts: dict[int, list[bytes]] = {}
        objects: Counter[tuple[int, int]] = Counter()  # by image and category id
        without_outline: Counter[int] = Counter()  # by image id
        maskless: list[int] = []  # the first image id

        def keep(annotation: Annotation) -> None:
            if not annotation.is_object:
                return
            fields = (annotation.category_id, annotation.bbox, annotation.segmentation, annotation.is_crowd)
            texts.setdefault(annotation.image_id, []).append(json.dumps(fields, separators=(",", ":")).encode())
            if not annotation.is_crowd:
                objects[annotation.image_id, annotation.category_id] += 1
                without_outline[annotation.image_id] += annotation.segmentation == []
                if annotation.segmentation is None and not maskless:
                    maskless.append(annotation.image_id)

        contents, faults = read(self.annotations, keep)
        self.met, self._unscorable = faults.counts, contents.unscorable
        require_images(self.annotations, self.images, contents.images)
        self.digest, self.categories = contents.digest, categories_of(contents)
        self._labels = {category_id: label for label, category_id in enumerate(self.categories.ids)}
        self._maskless, self._has_masks = maskless, False
        self.image_ids: tuple[int, ...] = tuple(contents.images)
        self._names = [entry.name for entry in contents.images.values()]
        self.heights = np.array([entry.height for entry in contents.images.values()], dtype=np.int64)
        self.widths = np.array([entry.width for entry in contents.images.values()], dtype=np.int64)
        place = {image_id: index for index, image_id in enumerate(self.image_ids)}
        self.objects = np.zeros(len(self), dtype=np.int64)
        self.class_counts = np.zeros(len(self.categories), dtype=np.int64)
        pairs = [(place[image_id], self._labels[category_id]) for image_id, category_id in objects]
        self.held = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        for (index, label), number in zip(pairs, objects.values(), strict=True):
            self.objects[index] += number
            self.class_counts[label] += number
        self._without_outline = np.array([without_outline[image_id] for image_id in self.image_ids], dtype=np.int64)
        joined = [b",".join(texts.pop(image_id, ())) for image_id in self.image_ids]
        self._ends = np.cumsum([len(text) for text in joined], dtype=np.int64)
        self._text = b"".join(joined)
        if self.met:
            _log.warning("%s: %s", self.annotations, faults)

    def __len__(self) -> int:
        return len(self.image_ids)

    def record(self, index: int) -> ImageRecord:
        """Image ``index`` of 0..len-1, in the file's order."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        text = self._text[self._ends[index - 1] if index else 0 : self._ends[index]]
        objects = json.loads(b"[%b]" % text)
        height, width = int(self.heights[index]), int(self.widths[index])
        boxes = np.array([bbox for _, bbox, _, _ in objects], dtype=np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        boxes = np.clip(boxes, 0, [width, height, width, height])
        return ImageRecord(
            image_id=self.image_ids[index],
            path=self.images / self._names[index],
            height=height,
            width=width,
            boxes=boxes.astype(np.float32),
            labels=np.array([self._labels[category] for category, _, _, _ in objects], dtype=np.int64),
            segmentations=tuple(as_arrays(segmentation) or None for _, _, segmentation, _ in objects),
            crowd=np.array(
                [is_crowd or (self._has_masks and outline == []) for _, _, outline, is_crowd in objects], dtype=np.bool_
            ),
        )

    def require_masks(self) -> None:
        """Raise BadAnnotations when an object that is no crowd has no segmentation.

        From now on an object of which every polygon has less than three points is, as in mmdetection
        (``LoadAnnotations._process_masks``), like a crowd: neither learned nor taken for background.
        """
        if self._maskless:
            raise BadAnnotations(
                f"{self.annotations}: an object of image {self._maskless[0]} has no segmentation, which an entry with "
                "masks needs: complete the annotations, or train an entry without masks"
            )
        if not self._has_masks:
            self._has_masks = True
            self.objects = self.objects - self._without_outline

    def require_mask_truth(self) -> None:
        """Raise BadAnnotations where masks cannot be evaluated on this data: an annotation, be it a crowd, has none."""
        require_mask_truth(self.annotations, self._unscorable)


def read_annotated(path: Path, height: int, width: int) -> Pixels:
    """An image of a data set, uint8 (H, W, 3) RGB.

    Raises UnreadableImage, MissingResource, or BadAnnotations where it is not of its annotated size.
    """
    pixels = read_image(path)
    if pixels.shape[:2] != (height, width):
        raise BadAnnotations(
            f"{path} is {pixels.shape[0]}x{pixels.shape[1]} pixels (height x width), annotated as {height}x{width}: "
            "images and annotations are not of the same data set, get both again"
        )
    return pixels
