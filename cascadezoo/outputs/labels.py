"""Kinds for programs that label or train: YOLO's lines and LabelMe's shapes, a file for each image."""

from collections.abc import Sequence
from pathlib import Path

from cascadezoo.coco.categories import Categories
from cascadezoo.files import write_json
from cascadezoo.formats.labelme import document
from cascadezoo.formats.labels import LabelledImage, LabelledObject, Mask, Notes
from cascadezoo.formats.outlines import one_outline
from cascadezoo.formats.yolo import write_lines
from cascadezoo.outputs.found import Found, Shown
from cascadezoo.outputs.outlines import outlines_of, rings_of
from cascadezoo.outputs.pictures import made, write_png


def write_yolo(folder: Path, image: Shown, found: Sequence[Found], categories: Categories, notes: Notes) -> list[Path]:
    """``labels/STEM.txt``: a line for each detection, of its outline, or of its box from a model without masks.

    A detection has one outline: several parts and holes are joined by ways that are gone twice and have no area.
    """
    made(folder / "labels")
    objects = []
    joined = "a mask of several parts or with holes became one outline, joined by lines"
    for one in _kept(image, found, "YOLO", notes):
        mask: Mask | None = None
        if window := one.window():
            rings = rings_of(outlines_of(window))
            if len(rings) > 1:
                notes.add(joined, _where(image, one))
            mask = [one_outline(rings).ravel().tolist()]
        objects.append(LabelledObject(one.category, _inside(one, image), mask, False, _where(image, one)))
    numbers = {name: number for number, name in enumerate(categories)}
    return [write_lines(folder, _labelled(image, objects), numbers)]


def write_labelme(folder: Path, image: Shown, found: Sequence[Found], notes: Notes) -> list[Path]:
    """``STEM.json``: a polygon for each part of a mask, those of one detection with the same ``group_id``; the mask
    itself, as a shape of the kind ``mask``, where it has holes, which no polygon has; rectangles without masks.

    The score is in the description.  An image that is no file of its own is written beside, as PNG.
    """
    made(folder)
    objects = []
    for one in _kept(image, found, "LabelMe", notes):
        mask: Mask | None = None
        if window := one.window():
            polygons = outlines_of(window)
            has_holes = any(polygon.holes for polygon in polygons)
            mask = {**one.rle} if has_holes and one.rle else [p.outer.ravel().tolist() for p in polygons]
        said = f"score {one.score:.3f}"
        objects.append(LabelledObject(one.category, _inside(one, image), mask, False, _where(image, one), said))
    beside = [] if image.path else [write_png(folder / f"{image.stem}.png", image.pixels)]
    path = image.path or beside[0]
    return [write_json(folder / f"{image.stem}.json", document(_labelled(image, objects), path, folder)), *beside]


def _kept(image: Shown, found: Sequence[Found], program: str, notes: Notes) -> list[Found]:
    """Those that the program has a shape for."""
    kept = []
    for one in found:
        if one.rle is None:
            rows, columns = one.place(image.pixels.shape[:2])
            is_there = rows.start < rows.stop and columns.start < columns.stop
        else:
            is_there = one.window() is not None
        if is_there:
            kept.append(one)
        else:
            notes.add(f"a detection without a pixel was left out for {program}", _where(image, one))
    return kept


def _inside(one: Found, image: Shown) -> list[float]:
    """Its box, clipped to the image."""
    height, width = image.pixels.shape[:2]
    x, y, w, h = one.bbox
    x1, x2 = (min(max(value, 0), width) for value in (x, x + w))
    y1, y2 = (min(max(value, 0), height) for value in (y, y + h))
    return [x1, y1, x2 - x1, y2 - y1]


def _labelled(image: Shown, objects: list[LabelledObject]) -> LabelledImage:
    height, width = image.pixels.shape[:2]
    return LabelledImage(f"{image.stem}.png", height, width, objects)


def _where(image: Shown, one: Found) -> str:
    return f"{image.name}: detection {one.number}"
