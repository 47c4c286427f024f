"""A labelled data set between two formats, and what was changed on the way."""

from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cascadezoo.coco.rle import encode_crop

Polygon = list[float]  # x1, y1, x2, y2, …; pixels of the image as it is shown, edges
Mask = list[Polygon] | dict[str, Any]  # polygons, or an RLE with compressed counts


class LabelledObject(NamedTuple):
    """One object.

    Attributes:
        category: its name.
        bbox: x, y, width, height in pixels, edges.
        mask: None where it has only a box.
        is_crowd: COCO's ``iscrowd``.
        where: the file and the line, or the like, for a message.
        description: a remark, where the format has a place for one.
    """

    category: str
    bbox: list[float]
    mask: Mask | None
    is_crowd: bool
    where: str
    description: str = ""


class LabelledImage(NamedTuple):
    """One image; ``name`` is its path in the folder of images, with ``/`` between its parts; sizes in pixels."""

    name: str
    height: int
    width: int
    objects: list[LabelledObject]


class Labels(NamedTuple):
    """A data set.

    Attributes:
        categories: names in their order.
        images: by name; an iterator that reads the files as it goes, or a list.
        folder: of the images.
    """

    categories: list[str]
    images: Iterable[LabelledImage]
    folder: Path


class Notes:
    """What was left out or clipped: a sentence for each kind, with its first place and how often it happened.

    Threads may share it.
    """

    def __init__(self) -> None:
        self._of: dict[str, tuple[str, int]] = {}
        self._lock = Lock()

    def add(self, what: str, where: str) -> None:
        """Count one; ``where`` as in ``LabelledObject``."""
        with self._lock:
            first, number = self._of.get(what, (where, 0))
            self._of[what] = first, number + 1

    def lines(self) -> list[str]:
        """One line for each kind."""
        return [
            f"{where}: {what}" + f" (the first of {number})" * (number > 1)
            for what, (where, number) in self._of.items()
        ]


def extent(polygons: list[Polygon]) -> list[float]:
    """The box of polygons: x, y, width, height."""
    xs, ys = [x for p in polygons for x in p[::2]], [y for p in polygons for y in p[1::2]]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


class Window(NamedTuple):
    """Where the pixels of a mask lie: rows and columns, the last ones outside."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def bbox(self) -> list[float]:
        """x, y, width, height."""
        return [self.left, self.top, self.right - self.left, self.bottom - self.top]

    def cut(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What of an image lies inside."""
        return pixels[self.top : self.bottom, self.left : self.right]

    def rle(self, pixels: npt.NDArray[np.bool_]) -> dict[str, Any]:
        """The RLE of the mask (height, width)."""
        height, width = pixels.shape
        return {**encode_crop(self.cut(pixels), self.top, self.left, height, width)}


def window(pixels: npt.NDArray[Any]) -> Window | None:
    """Where a mask (height, width) is not 0; None where it is 0 everywhere."""
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    if not len(rows):
        return None
    return Window(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
