"""LabelMe's annotations: a JSON file for each image, a list of shapes in pixels of the image as it is shown."""

import base64
import binascii
import io
import math
import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from cascadezoo.coco.image_headers import shown_size
from cascadezoo.coco.segmentations import are_finite, as_arrays, bitmap
from cascadezoo.errors import BadAnnotations, CascadezooError, MissingResource, UsageError
from cascadezoo.files import whole_file, write_json
from cascadezoo.formats.labels import LabelledImage, LabelledObject, Labels, Mask, Notes, Polygon, extent, window
from cascadezoo.formats.reading import files_in, json_of, names_of
from cascadezoo.image_files import read_header

NAMES = "labels.txt"

_AREAS = ("polygon", "rectangle", "circle", "mask")
_CROWD = "iscrowd"  # a flag of ours
_UNNAMED = ("__ignore__", "_background_")  # LabelMe's own first lines of labels.txt


class _Shape(NamedTuple):
    """A shape with an area: its outline in polygons, or the window of its mask; ``is_box``: it is a rectangle."""

    label: str
    group: int | None
    is_box: bool
    is_crowd: bool
    polygon: Polygon
    window: tuple[int, int, npt.NDArray[np.bool_]] | None  # top, left, pixels


class _File(NamedTuple):
    path: Path
    image: Path
    name: str
    document: dict[str, Any]


def read_labelme(source: Path, images: Path | None, split: str | None, names: Path | None, notes: Notes) -> Labels:
    """The data set of the JSON files in the folder ``source``.

    A rectangle is a box without a mask where all shapes of the data set are rectangles; beside any other shape it is an
    outline of four points, as LabelMe's own converter has it.  Shapes of one ``group_id`` and label in a file are one
    object.  Shapes without an area (points, lines) are left out.

    Args:
        images: the folder of the images, where it is not ``source``.
        split: not of this format.
        names: a text file of the categories' names; by default ``labels.txt`` of the folder, or else all names that
            its JSON files have, in the alphabet's order.

    Raises UsageError, MissingResource and BadAnnotations; the iterator over the images does, too.
    """
    if split is not None:
        raise UsageError(f"{source}: LabelMe's data have no splits: give the folder of one")
    folder = images or source
    paths = [path for some in files_in(source, {".json"}).values() for path in some]
    found: set[str] = set()
    is_boxes = True
    places: list[tuple[str, Path]] = []
    for path in paths:
        file = _file(path, source, folder)
        if file is None:
            continue
        for _, shape in _areas(file, None):
            found.add(shape.label)
            is_boxes = is_boxes and shape.is_box
        places.append((file.name, path))
    if not places:
        raise MissingResource(f"there are no JSON files of LabelMe in {source}")
    listed = names or (source / NAMES if (source / NAMES).is_file() else None)
    categories = [name for name in names_of(listed) if name not in _UNNAMED] if listed else sorted(found)
    if strangers := sorted(found - set(categories)):
        raise BadAnnotations(
            f"{listed} has no class {strangers[0]!r}, which is in {source}: add it in a line of its own"
        )
    if not categories:
        raise BadAnnotations(f"{source}: its JSON files hold no objects: give the names of the classes (--names)")
    places.sort()
    for (one, first), (other, second) in pairwise(places):
        if one == other:
            raise BadAnnotations(f"{first} and {second} annotate the same image {one}: remove one")
    return Labels(categories, _images([path for _, path in places], source, folder, is_boxes, notes), folder)


def write_labelme(labels: Labels, out: Path, notes: Notes) -> None:
    """Write a JSON file for each image, and ``labels.txt``, into a folder.

    Polygons of one object share a ``group_id``; a run-length mask becomes a shape of the kind ``mask``; a crowd has the
    flag ``iscrowd``.
    """
    for image in labels.images:
        path = out / Path(image.name).with_suffix(".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, document(image, labels.folder / image.name, path.parent))
    out.mkdir(parents=True, exist_ok=True)
    write_names(out, labels.categories)


def document(image: LabelledImage, file: Path, folder: Path) -> dict[str, Any]:
    """What is written of an image: its pixels are in ``file``, and the document will lie in ``folder``."""
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": [shape for number, each in enumerate(image.objects) for shape in _shapes(each, number, image)],
        "imagePath": Path(os.path.relpath(file.absolute(), folder.absolute())).as_posix(),
        "imageData": None,
        "imageHeight": image.height,
        "imageWidth": image.width,
    }


def write_names(out: Path, names: Sequence[str]) -> Path:
    """Write ``labels.txt`` into a folder."""
    with whole_file(out / NAMES) as text:
        text.write("".join(f"{name}\n" for name in names).encode())
    return out / NAMES


def is_labelme(path: Path) -> bool:
    """Whether a JSON file is one of LabelMe's."""
    try:
        document = json_of(path)
    except CascadezooError:
        return False
    return isinstance(document, dict) and "shapes" in document and "imagePath" in document


def _file(path: Path, source: Path, folder: Path) -> _File | None:
    """A file of labels with its image; None where it is another JSON file."""
    document = json_of(path)
    if not isinstance(document, dict) or "shapes" not in document:
        return None
    document.pop("imageData", None)
    given = document.get("imagePath")
    if not isinstance(given, str) or not given or "\0" in given:
        raise BadAnnotations(f"{path}: imagePath: the path of an image is wanted")
    given = given.replace("\\", "/")  # LabelMe on Windows
    beside = Path(os.path.normpath(path.parent / given)).absolute()
    base = Path(os.path.normpath(folder.absolute()))
    if not (beside.is_relative_to(base) and os.path.isfile(beside)):  # of a name that no file can have, False
        beside = base / path.parent.relative_to(source) / Path(given).name
    if not os.path.isfile(beside):
        raise MissingResource(f"{path}: there is no image {beside}: give the folder of the images (--images)")
    return _File(path, beside, beside.relative_to(base).as_posix(), document)


def _images(paths: list[Path], source: Path, folder: Path, is_boxes: bool, notes: Notes) -> Iterator[LabelledImage]:
    for path in paths:
        file = _file(path, source, folder)
        assert file is not None  # it was one before
        height, width = shown_size(file.image)
        said = file.document.get("imageHeight"), file.document.get("imageWidth")
        if said not in ((height, width), (None, None)):
            raise BadAnnotations(
                f"{path}: the image is annotated as {said[1]} x {said[0]} pixels (width x height), but {file.image} is "
                f"{width} x {height} as it is shown"
            )
        yield LabelledImage(file.name, height, width, _objects(file, height, width, is_boxes, notes))


def _objects(file: _File, height: int, width: int, is_boxes: bool, notes: Notes) -> list[LabelledObject]:
    groups: dict[Any, list[tuple[str, _Shape]]] = {}
    for where, shape in _areas(file, notes):
        key = (shape.label, shape.group) if shape.group is not None else where
        groups.setdefault(key, []).append((where, shape))
    return [_joined(shapes, height, width, is_boxes) for shapes in groups.values()]


def _joined(shapes: list[tuple[str, _Shape]], height: int, width: int, is_boxes: bool) -> LabelledObject:
    """One object of the shapes of a group."""
    where, first = shapes[0]
    is_crowd = any(shape.is_crowd for _, shape in shapes)
    polygons = [shape.polygon for _, shape in shapes if shape.polygon]
    if len(polygons) == len(shapes):
        mask: Mask | None = None if is_boxes else polygons
        return LabelledObject(first.label, extent(polygons), mask, is_crowd, where)
    pixels = bitmap(as_arrays(polygons), height, width) > 0 if polygons else np.zeros((height, width), np.bool_)
    for its_place, shape in shapes:
        if shape.window is None:
            continue
        top, left, part = shape.window
        if top < 0 or left < 0 or top + part.shape[0] > height or left + part.shape[1] > width:
            raise BadAnnotations(f"{its_place}: its mask reaches beyond the image of {width} x {height} pixels")
        pixels[top : top + part.shape[0], left : left + part.shape[1]] |= part
    place = window(pixels)
    if place is None:
        raise BadAnnotations(f"{where}: its mask is empty")
    return LabelledObject(first.label, place.bbox, place.rle(pixels), is_crowd, where)


def _areas(file: _File, notes: Notes | None) -> Iterator[tuple[str, _Shape]]:
    """The shapes that have an area, each with its place for a message."""
    shapes = file.document["shapes"]
    if not isinstance(shapes, list):
        raise BadAnnotations(f"{file.path}: shapes: a list is wanted")
    for number, item in enumerate(shapes):
        where = f"{file.path}: shapes[{number}]"
        if not isinstance(item, dict):
            raise BadAnnotations(f"{where}: an object is wanted")
        kind = item.get("shape_type", "polygon")
        if kind in _AREAS:
            yield where, _shape(item, kind, where, whole=notes is not None)
        elif notes is not None:
            notes.add(f"a shape without an area ({str(kind)[:40]}) was left out", where)


def _shape(item: dict[str, Any], kind: str, where: str, *, whole: bool) -> _Shape:
    label, group = item.get("label"), item.get("group_id")
    if not isinstance(label, str) or not label.strip():
        raise BadAnnotations(f"{where}: label: the name of a class is wanted")
    if group is not None and type(group) is not int:
        raise BadAnnotations(f"{where}: group_id: a whole number or null is wanted")
    points = item.get("points")
    if not isinstance(points, list) or not all(
        isinstance(point, list) and len(point) == 2 and are_finite(point) for point in points
    ):
        raise BadAnnotations(f"{where}: points: a list of finite pairs x, y is wanted")
    flags = item.get("flags")
    is_crowd = isinstance(flags, dict) and flags.get(_CROWD) is True
    if kind == "mask":
        window = _window(item, points, where) if whole else None
        return _Shape(label, group, False, is_crowd, [], window)
    return _Shape(label, group, kind == "rectangle", is_crowd, _outline(kind, points, where), None)


def _outline(kind: str, points: list[list[float]], where: str) -> Polygon:
    wanted = {"rectangle": (2, 4), "circle": (2,)}.get(kind)
    if wanted is None and len(points) < 3:
        raise BadAnnotations(f"{where}: a polygon has three points or more, not {len(points)}")
    if wanted is not None and len(points) not in wanted:
        raise BadAnnotations(f"{where}: a {kind} has {wanted[0]} points, not {len(points)}")
    if kind == "rectangle":
        xs, ys = [x for x, _ in points], [y for _, y in points]
        x1, y1, x2, y2 = min(xs), min(ys), max(xs), max(ys)
        return [x1, y1, x2, y1, x2, y2, x1, y2]
    if kind == "circle":
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        count = 12 if radius < 2 else max(12, math.ceil(math.pi / math.acos(1 - 1 / radius)))  # within a pixel
        count = min(count, 10_000)
        turns = [2 * math.pi * k / count for k in range(count)]
        return [value for turn in turns for value in (x + radius * math.cos(turn), y + radius * math.sin(turn))]
    return [value for point in points for value in point]


def _window(item: dict[str, Any], points: list[list[float]], where: str) -> tuple[int, int, npt.NDArray[np.bool_]]:
    """The mask's first row and column, and its pixels."""
    data = item.get("mask")
    if len(points) != 2 or not isinstance(data, str):
        raise BadAnnotations(f"{where}: a mask has two points, and its picture as text")
    try:
        file = base64.b64decode(data, validate=True)
        read_header(f"{where}: mask", file)  # before memory is taken for it
        with Image.open(io.BytesIO(file)) as picture:
            pixels = np.array(picture.convert("L"), dtype=np.uint8) > 0
    except (binascii.Error, OSError, SyntaxError, ValueError) as error:
        raise BadAnnotations(f"{where}: mask: it is no picture") from error
    return int(min(y for _, y in points)), int(min(x for x, _ in points)), pixels


def _shapes(each: LabelledObject, number: int, image: LabelledImage) -> Iterator[dict[str, Any]]:
    flags = {_CROWD: True} if each.is_crowd else {}
    common = {"label": each.category, "group_id": None, "description": each.description, "flags": flags}
    x, y, w, h = each.bbox
    if each.mask is None:
        yield {**common, "points": [[x, y], [x + w, y + h]], "shape_type": "rectangle", "mask": None}
    elif isinstance(each.mask, list):
        group = number if len(each.mask) > 1 else None
        for polygon in each.mask:
            points = [list(point) for point in zip(polygon[::2], polygon[1::2], strict=True)]
            yield {**common, "group_id": group, "points": points, "shape_type": "polygon", "mask": None}
    else:
        pixels = bitmap(each.mask, image.height, image.width)
        place = window(pixels)
        if place is None:
            raise BadAnnotations(f"{each.where}: an object with an empty mask")
        picture = io.BytesIO()
        Image.fromarray(place.cut(pixels) * 255).convert("1").save(picture, "PNG")
        text = base64.b64encode(picture.getvalue()).decode()
        yield {
            **common,
            "points": [[place.left, place.top], [place.right - 1, place.bottom - 1]],
            "shape_type": "mask",
            "mask": text,
        }
