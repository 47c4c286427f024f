"""The "shapes" data set: images of coloured shapes with exact masks, in COCO's format, drawn rather than stored.

An image is a pure function of its split and index, the same pixels on every machine.  Eight categories overlap on
textured grounds; masks are what remains visible.  Some objects are tiny, now and then a swarm of one category is
annotated as a crowd, and a few images are empty.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from cascadezoo.coco.categories import Categories
from cascadezoo.coco.rle import encode_crop, run_ends
from cascadezoo.errors import OutputExists, UnwritableOutput, UsageError
from cascadezoo.files import whole_file, write_json
from cascadezoo.paths import made
from cascadezoo.shapes import drawing as draw
from cascadezoo.shapes.drawing import Dice, Grid, Mask

VERSION = 1  # of the images: raised with every change to a pixel
SIZES = {"train": 4000, "val": 500}  # images in the splits
_SHAPES = {
    "ellipse": draw.ellipse,
    "rectangle": draw.rectangle,
    "triangle": draw.triangle,
    "star": draw.star,
    "ring": draw.ring,
    "cross": draw.cross,
    "heart": draw.heart,
    "crescent": draw.crescent,
}
CATEGORIES = Categories(_SHAPES)

_LEAST_VISIBLE = 40  # percent of an object that must stay visible, inside the image and not hidden
_LEAST_AREA = 16  # pixels
_ATTEMPTS = 6  # to place an object before it is left out


class Scene(NamedTuple):
    """One image and its annotations."""

    image: npt.NDArray[np.uint8]  # (H, W, 3) RGB, in the data set 192x256 or 256x192
    annotations: list[dict[str, Any]]  # COCO's, without the ids that number them in a file


def scene(split: str, index: int) -> Scene:
    """Image ``index`` (0..) of ``split`` ("train" or "val"), the same on every machine.

    Segmentations are compressed RLE, those of crowds uncompressed.  Raises UsageError for another split or index.
    """
    _known(split)
    if index < 0:
        raise UsageError(f"an image's index starts at 0, {index} is below")
    dice = Dice(VERSION << 32 | list(SIZES).index(split), index)
    canvas = _Canvas(dice, *((256, 192) if dice.one_in(3) else (192, 256)))
    if not dice.one_in(50):
        if dice.one_in(14):
            canvas.add_crowd()
        for _ in range(dice.between(2, 8)):
            canvas.add_object()
    return Scene(draw.soften(canvas.image), canvas.annotations())


def planted(height: int, width: int, sizes: Sequence[int], index: int = 0) -> Scene:
    """An image of any size with one object of each of these sizes, pixels across, on top of the larger ones; image
    ``index`` (0..) of them, the same on every machine.

    An object that finds no place, where enough of it and of those below stays visible, is left out.
    """
    dice = Dice(VERSION << 32 | len(SIZES), index)
    canvas = _Canvas(dice, height, width)
    for size in sorted(sizes, reverse=True):
        canvas.add_object(size)
    return Scene(draw.soften(canvas.image), canvas.annotations())


def generate(
    split: str,
    out: str | os.PathLike[str],
    images: int | None = None,
    *,
    force: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Write the first ``images`` (default: all) images of ``split`` and return the path of their annotations.

    ``out/<split>/000001.png`` … and ``out/annotations/instances_<split>.json``, which is written last: where it
    already exists for the same images, nothing is done.  ``progress`` is called with the number of new images.
    Raises UsageError, OutputExists (other annotations exist and ``force`` is not given) and UnwritableOutput.
    """
    whole = _known(split)
    count = whole if images is None else images
    if count < 1:
        raise UsageError(f"{count} images to draw: give a number of 1 or more")
    annotations, folder = Path(out) / "annotations" / f"instances_{split}.json", Path(out) / split
    info = {"description": "cascadezoo shapes", "version": VERSION, "split": split, "images": count}
    if not force and annotations.exists():
        if _info_of(annotations) != info:
            raise OutputExists(
                f"{annotations} holds other images: choose another folder, or --force (force=True) to replace them"
            )
        if all((folder / _file_name(index)).exists() for index in range(count)):
            return annotations
    try:
        made(folder)
        annotations.parent.mkdir(exist_ok=True)
        annotations.unlink(missing_ok=True)
        write_json(annotations, _document(split, count, info, folder, progress))
    except OSError as error:
        raise UnwritableOutput(f"{error.filename or out} cannot be written: {error.strerror or error}") from error
    return annotations


class _Canvas:
    """An image in the making, and who owns each of its pixels: 0 the ground, 1.. the objects in their order."""

    def __init__(self, dice: Dice, height: int, width: int) -> None:
        self.dice = dice
        self.owner = np.zeros((height, width), dtype=np.int32)
        self.visible = np.array([height * width])  # pixels of each owner
        self.windows = [(slice(0, height), slice(0, width))]  # rows and columns outside which it owns none
        self.labels = [0]  # of the objects; the ground's is never read
        self.crowds = [False]
        self.areas = np.zeros(1, dtype=np.int64)  # of the whole objects, cut and hidden parts included
        self.ground = draw.colour(dice, dice.between(20, 90))
        self.image = self._ground(height, width)

    def add_object(self, size: int | None = None) -> None:
        """One shape, unless there is no place for it; ``size``: pixels across, else a random one."""
        dice = self.dice
        label = dice.below(len(CATEGORIES))
        if size is None:
            size = dice.between(10, 16) if dice.one_in(25) else 24 + min(dice.below(87), dice.below(87))
        for _ in range(_ATTEMPTS):
            shape = _Shape(dice, label, size, dice.below(self.owner.shape[0]), dice.below(self.owner.shape[1]))
            if self._place([shape], crowd=False):
                return

    def add_crowd(self) -> None:
        """A swarm of one category, on the bare ground."""
        dice = self.dice
        label, (height, width) = dice.below(len(CATEGORIES)), self.owner.shape
        y, x = dice.between(50, height - 50), dice.between(50, width - 50)
        shapes = [
            _Shape(dice, label, dice.between(16, 24), y + dice.between(-36, 36), x + dice.between(-36, 36))
            for _ in range(dice.between(10, 16))
        ]
        self._place(shapes, crowd=True)

    def annotations(self) -> list[dict[str, Any]]:
        """One for every object, of what is visible."""
        return [
            _annotation(
                self.owner[rows, columns] == number,
                (rows.start, columns.start, *self.owner.shape),
                CATEGORIES.ids[self.labels[number]],
                self.crowds[number],
            )
            for number, (rows, columns) in enumerate(self.windows)
            if number
        ]

    def _ground(self, height: int, width: int) -> npt.NDArray[np.uint8]:
        dice = self.dice
        other = np.clip(self.ground + [dice.between(-44, 44) for _ in range(3)], 0, 255).astype(np.int32)
        y, x = np.ogrid[-height:height:2, -width:width:2]
        u, v = draw.turned(y.astype(np.int32), x.astype(np.int32), dice.below(draw.TURN), max(height, width))
        mix = draw.clouds(dice, height, width, dice.between(12, 48))
        texture, period = draw.TEXTURES[dice.below(len(draw.TEXTURES))], dice.between(160, 480)
        return draw.blend(self.ground, other, (mix + texture(u, v, period)) // 2)

    def _place(self, shapes: list["_Shape"], *, crowd: bool) -> bool:
        """Draw ``shapes`` as one object if enough stays visible, of it and of every object below."""
        number = len(self.labels)
        met = [shape.window(self.owner.shape) for shape in shapes]
        window = _hull([rows for rows, _, _ in met]), _hull([columns for _, columns, _ in met])
        owner = self.owner[window].copy()
        top, left = window[0].start, window[1].start
        for rows, columns, inside in met:
            owner[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left][inside] = number
        visible = np.append(self.visible, 0) - np.bincount(self.owner[window].ravel(), minlength=number + 1)
        visible += np.bincount(owner.ravel(), minlength=number + 1)
        whole = sum(shape.area for shape in shapes) if not crowd else int(visible[number])
        areas = np.append(self.areas, whole)
        if (visible * 100 < areas * _LEAST_VISIBLE)[1:].any() or visible[number] < _LEAST_AREA:
            return False
        self.owner[window] = owner
        self.visible, self.areas = visible, areas
        self.windows.append(window)
        self.labels.append(shapes[0].label)
        self.crowds.append(crowd)
        for shape in shapes:
            shape.paint(self.image, self.ground)
        return True


class _Shape:
    """One shape at one place: ``size`` pixels across, its centre the corner above and left of pixel (y, x)."""

    def __init__(self, dice: Dice, label: int, size: int, y: int, x: int) -> None:
        self.dice, self.label, self.size = dice, label, size
        reach = size // 2 + 1
        self.top, self.left = y - reach, x - reach
        steps = np.arange(-2 * reach + 1, 2 * reach, 2, dtype=np.int32)  # pixel centres, in half pixels
        self.u, self.v = draw.turned(steps[:, None], steps[None], dice.below(draw.TURN), size)
        self.mask: Mask = _SHAPES[CATEGORIES[label]](self.u, self.v, dice.below(256))
        self.area = int(self.mask.sum())

    def window(self, canvas: tuple[int, ...]) -> tuple[slice, slice, Mask]:
        """The rows and columns of the canvas that the shape meets, and its mask there."""
        rows = slice(max(self.top, 0), min(self.top + len(self.mask), canvas[0]))
        columns = slice(max(self.left, 0), min(self.left + len(self.mask), canvas[1]))
        return rows, columns, self._cut(self.mask, rows, columns)

    def paint(self, image: npt.NDArray[np.uint8], ground: Grid) -> None:
        """Draw it with colours and a texture of its own, most often with a dark rim."""
        dice = self.dice
        one = _contrasting(dice, ground)
        other = np.clip(one + dice.between(40, 90) * (1 if one.sum() < 384 else -1), 0, 255)
        texture = draw.TEXTURES[dice.below(len(draw.TEXTURES))]
        period = max(2 * draw.UNIT * dice.between(5, 10) // self.size, draw.UNIT // 4)  # at least 5 pixels
        mix = texture(self.u, self.v, period)
        if dice.one_in(2):
            mix = (3 * mix + draw.clouds(dice, len(mix), len(mix), dice.between(4, 12))) // 4
        painted = draw.blend(one, other, mix)
        if self.size > 20 and not dice.one_in(3):
            painted[draw.rim(self.mask)] = one // 3
        rows, columns, inside = self.window(image.shape[:2])
        image[rows, columns][inside] = self._cut(painted, rows, columns)[inside]

    def _cut(self, array: npt.NDArray[Any], rows: slice, columns: slice) -> npt.NDArray[Any]:
        return array[rows.start - self.top : rows.stop - self.top, columns.start - self.left : columns.stop - self.left]


def _known(split: str) -> int:
    """The number of images in a split."""
    if split not in SIZES:
        raise UsageError(f"the shapes have the splits {' and '.join(SIZES)}, not {split!r}")
    return SIZES[split]


def _contrasting(dice: Dice, ground: Grid) -> Grid:
    """A vivid colour that stands out from the ground."""
    while True:
        chosen = draw.colour(dice, dice.between(130, 255))
        if int(np.abs(chosen - ground).sum()) > 160:
            return chosen


def _annotation(mask: Mask, place: tuple[int, ...], category_id: int, crowd: bool) -> dict[str, Any]:
    """Of the object that owns ``mask``; ``place``: its top row, left column, and the image's height and width."""
    top, left, height, width = place
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    counts: Any = encode_crop(mask, top, left, height, width)["counts"]
    if crowd:
        counts = np.diff(run_ends(mask, top, left, height, width), prepend=0).tolist()
    return {
        "category_id": category_id,
        "bbox": [
            left + int(columns[0]),
            top + int(rows[0]),
            int(columns[-1]) + 1 - int(columns[0]),
            int(rows[-1]) + 1 - int(rows[0]),
        ],
        "area": int(mask.sum()),
        "iscrowd": int(crowd),
        "segmentation": {"size": [height, width], "counts": counts},
    }


def _hull(spans: Sequence[slice]) -> slice:
    return slice(min(span.start for span in spans), max(span.stop for span in spans))


def _document(
    split: str, count: int, info: dict[str, Any], folder: Path, progress: Callable[[int], None] | None
) -> dict[str, Any]:
    """Draw and write the images; returns the annotation file's content."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count):
        image, objects = scene(split, index)
        _write_image(folder / _file_name(index), image)
        height, width = image.shape[:2]
        images.append({"id": index + 1, "file_name": _file_name(index), "width": width, "height": height})
        annotations += [
            {"id": number, "image_id": index + 1, **annotation}
            for number, annotation in enumerate(objects, start=len(annotations) + 1)
        ]
        if progress:
            progress(1)
    return {"info": info, "images": images, "categories": CATEGORIES.to_coco(), "annotations": annotations}


def _file_name(index: int) -> str:
    return f"{index + 1:06d}.png"


def _write_image(path: Path, image: npt.NDArray[np.uint8]) -> None:
    _, data = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    with whole_file(path) as file:
        file.write(data.data)


def _info_of(annotations: Path) -> Any:
    """The description in the annotation file; None for a file of another kind."""
    try:
        return json.loads(annotations.read_text(encoding="utf-8"))["info"]
    except (ValueError, KeyError, TypeError):
        return None
