"""What all kinds are written from: an image, and COCO's results on it.

Numbers count from 1, the best first.  Boxes are x, y, width, height in pixels of the image, edges.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cascadezoo.coco.categories import Categories
from cascadezoo.coco.rle import Rle, decode_crop
from cascadezoo.images import Pixels

_LONGEST = 40  # characters of a category in a file's name
_UNFIT = re.compile(r"[\W_]+")


class Shown(NamedTuple):
    """An image that was detected on.

    Attributes:
        id: of the image, unique.
        name: as it was given.
        stem: of the files that are its own; unique, and fit for a file's name.
        pixels: (H, W, 3) uint8 RGB, as it is shown.
        path: the file that holds this image and nothing else; None of an address, a frame of a film and the like.
    """

    id: int
    name: str
    stem: str
    pixels: Pixels
    path: Path | None = None


class Window(NamedTuple):
    """The part of an image in which a mask has pixels: its first row and column, and the mask (h, w) there."""

    top: int
    left: int
    mask: npt.NDArray[np.bool_]


class Found(NamedTuple):
    """One detection.

    Attributes:
        number: of the image's detections, from 1.
        label: 0..C-1.
        category: its name.
        score: 0..1.
        bbox: x, y, width, height.
        rle: its mask; None of a model without masks.
    """

    number: int
    label: int
    category: str
    score: float
    bbox: list[float]
    rle: Rle | None

    @property
    def stem(self) -> str:
        """The name of a file of its own: its number, and of its category what fits in there."""
        return f"{self.number:04d}-{_UNFIT.sub('-', self.category)[:_LONGEST].strip('-') or self.label}"

    def window(self) -> Window | None:
        """Where its mask has pixels, decoded anew each time; None of an empty mask, or none."""
        if self.rle is None:
            return None
        mask, top, left = decode_crop(self.rle)
        return Window(top, left, mask) if mask.size else None

    def place(self, size: tuple[int, int]) -> tuple[slice, slice]:
        """The rows and columns that its box touches, of an image of ``size`` (height, width)."""
        x, y, w, h = self.bbox
        (top, bottom), (left, right) = (
            (int(np.clip(np.floor(low), 0, side)), int(np.clip(np.ceil(high), 0, side)))
            for low, high, side in ((y, y + h, size[0]), (x, x + w, size[1]))
        )
        return slice(top, bottom), slice(left, right)


def found_in(results: Sequence[Mapping[str, Any]], categories: Categories) -> list[Found]:
    """The detections in COCO's results on one image."""
    labels = {number: label for label, number in enumerate(categories.ids)}
    return [
        Found(number, label, categories[label], each["score"], each["bbox"], each.get("segmentation"))
        for number, each in enumerate(results, start=1)
        for label in (labels[each["category_id"]],)
    ]
