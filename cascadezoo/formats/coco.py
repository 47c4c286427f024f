"""Labels to a COCO instances file, held to the same rules as any that is read, and back."""

import json
from pathlib import Path
from typing import Any

from cascadezoo.coco import segmentations
from cascadezoo.coco.checking import categories_of, read
from cascadezoo.coco.records import Annotation, body_of, image_problems
from cascadezoo.errors import BadAnnotations, UsageError
from cascadezoo.files import whole_file
from cascadezoo.formats.labels import LabelledImage, LabelledObject, Labels, Mask, Notes

_DIGITS = 4  # of a pixel behind the point


def write_coco(labels: Labels, out: Path, notes: Notes) -> None:
    """Write ``out``, whole or not at all: images numbered from 1 by name, categories from 1 in their order, and
    annotations from 1.

    Boxes and polygons are clipped to their image, and an object of which less than a pixel is left is left out; the
    notes say so, but where a box reaches no more than a pixel beyond.

    Raises BadAnnotations, which names the labels' file, and UnwritableOutput.
    """
    ids = {name: number for number, name in enumerate(labels.categories, start=1)}
    images: list[bytes] = []
    annotations: list[bytes] = []  # as text: millions of objects would be too many
    for image_id, image in enumerate(labels.images, start=1):
        item = {"id": image_id, "file_name": image.name, "height": image.height, "width": image.width}
        for problem in image_problems(item):
            raise BadAnnotations(f"{labels.folder / image.name}: {problem.field}: {problem.text}")
        images.append(_line(item))
        for each in image.objects:
            fields = _fields(each, image, notes)
            if fields is not None:
                whose = {"id": len(annotations) + 1, "image_id": image_id, "category_id": ids[each.category]}
                annotations.append(_line({**whose, **fields}))
    if not images:
        raise BadAnnotations(f"{labels.folder}: there are no images to convert")
    categories = [_line({"id": number, "name": name}) for name, number in ids.items()]
    with whole_file(out) as file:
        parts = {"images": images, "annotations": annotations, "categories": categories}
        for number, (key, lines) in enumerate(parts.items()):
            file.write((b"{" if number == 0 else b",\n") + b'"%b": [\n' % key.encode())
            file.write(b",\n".join(lines))
            file.write(b"]")
        file.write(b"}\n")


def read_coco(path: Path, images: Path) -> Labels:
    """The labels in a COCO instances file of images in a folder.  Raises MissingResource and BadAnnotations."""
    found: dict[int, list[Annotation]] = {}
    contents, _ = read(path, lambda annotation: found.setdefault(annotation.image_id, []).append(annotation))
    categories = categories_of(contents)
    names = dict(zip(categories.ids, categories, strict=True))
    labelled = []
    for image_id, entry in sorted(contents.images.items(), key=lambda pair: pair[1].name):
        where = f"{path}: image {image_id}"
        objects = [
            LabelledObject(names[each.category_id], each.bbox, each.segmentation or None, each.is_crowd, where)
            for each in found.get(image_id, ())
        ]
        labelled.append(LabelledImage(entry.name, entry.height, entry.width, objects))
    _require_own_stems(path, labelled)
    return Labels(list(categories), labelled, images)


def _require_own_stems(path: Path, images: list[LabelledImage]) -> None:
    """One file of labels is one image: refuse two names that differ in their suffix, and what leads out of a folder."""
    seen: dict[str, str] = {}
    for image in images:
        name = Path(image.name)
        if name.is_absolute() or ".." in name.parts:
            raise UsageError(f"{path}: {image.name!r} lies outside the folder of images, so its labels have no place")
        stem = name.with_suffix("").as_posix()
        if stem in seen:
            raise UsageError(f"{path}: {seen[stem]!r} and {image.name!r} would have the same labels: rename one")
        seen[stem] = image.name


def _fields(each: LabelledObject, image: LabelledImage, notes: Notes) -> dict[str, Any] | None:
    """What an annotation says of its object; None where too little of it is in the image."""
    size = (image.height, image.width)
    problems = body_of({"bbox": each.bbox, "segmentation": each.mask, "area": 0, "iscrowd": 0}, size).problems
    for problem in problems:
        if problem.kind not in ("bbox-small", "bbox-outside", "bbox-beyond", "polygon-beyond"):
            raise BadAnnotations(f"{each.where}: {problem.text}")
        if problem.kind in ("bbox-beyond", "polygon-beyond"):
            notes.add("an object that reaches beyond its image was clipped", each.where)
    x, y, w, h = each.bbox
    x1, y1 = _clipped(x, image.width), _clipped(y, image.height)
    bbox = [x1, y1, _tidy(_clipped(x + w, image.width) - x1), _tidy(_clipped(y + h, image.height) - y1)]
    if min(bbox[2:]) < 1:
        notes.add("an object of which less than a pixel is in its image was left out", each.where)
        return None
    mask = _clipped_mask(each.mask, image)
    area = bbox[2] * bbox[3] if mask is None else segmentations.area(mask, *size)
    fields = {"bbox": bbox, "area": _tidy(area), "iscrowd": int(each.is_crowd)}
    return fields if mask is None else {**fields, "segmentation": mask}


def _clipped_mask(mask: Mask | None, image: LabelledImage) -> Mask | None:
    if not isinstance(mask, list):
        return mask
    sides = (image.width, image.height)
    return [[_clipped(value, sides[place % 2]) for place, value in enumerate(polygon)] for polygon in mask]


def _clipped(value: float, side: int) -> float:
    return _tidy(min(max(value, 0), side))


def _tidy(value: float) -> float:
    """Without the digits that a product of rounded numbers leaves."""
    rounded = round(value, _DIGITS)
    return int(rounded) if rounded == int(rounded) else rounded


def _line(item: dict[str, Any]) -> bytes:
    return json.dumps(item, ensure_ascii=False, allow_nan=False).encode()
