"""YOLO's labels: a text file for each image, a line for each object, numbers in parts of the image's sides.

``class x y width height``, x and y the box's centre, or ``class x1 y1 x2 y2 …``, an outline.  The data set is described
by a YAML file (``names``, ``path``, and the images of each split), as Ultralytics reads it, or by Darknet's
``classes.txt`` beside the folders ``images`` and ``labels``, or beside images and labels in one folder.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cascadezoo.coco.image_headers import shown_size
from cascadezoo.coco.segmentations import as_arrays
from cascadezoo.errors import BadAnnotations, CascadezooError, MissingResource, UsageError
from cascadezoo.files import whole_file
from cascadezoo.formats.labels import LabelledImage, LabelledObject, Labels, Notes, extent
from cascadezoo.formats.outlines import one_outline
from cascadezoo.formats.reading import files_in, images_in, lines_of, names_of, require_names, yaml_of

SPLITS = ("train", "val", "test", "minival")
CLASSES = ("classes.txt", "obj.names")

_OUTSIDE = 0.01  # of a side: what is rounded or a little beyond the image, as Ultralytics lets through
_NO_LABELS = {name.removesuffix(".txt") for name in CLASSES} | {*SPLITS, "labels", "README"}  # beside images


class _Pair(NamedTuple):
    """An image, its name, and where its labels are if it has any."""

    name: str
    image: Path
    label: Path


def described(folder: Path) -> Path | None:
    """The YAML file in a folder that describes a data set: ``data.yaml``, or else the one that has ``names``.

    Raises UsageError where there are several.
    """
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".yaml", ".yml"))
    named = [path for path in found if path.stem in ("data", "dataset")]
    fitting = named or [path for path in found if _has_names(path)]
    if len(fitting) > 1:
        raise UsageError(
            f"{fitting[0]} and {fitting[1].name} may both describe the data set: give one of them as SOURCE"
        )
    return fitting[0] if fitting else None


def _has_names(path: Path) -> bool:
    try:
        return "names" in yaml_of(path)
    except CascadezooError:
        return False


def read_yolo(source: Path, images: Path | None, split: str | None, names: Path | None, notes: Notes) -> Labels:
    """The data set described by the YAML file ``source``, or in the folder.

    Args:
        images: the folder of the images, where they are not in that of the data set.
        split: which of its parts; needed where it has several.
        names: a text file of the categories' names, instead of the data set's own.

    Raises UsageError, MissingResource and BadAnnotations; the iterator over the images does, too.
    """
    description = described(source) if source.is_dir() else source
    if description is not None:
        own, folder, pairs = _of_yaml(description, images, split)
        categories = names_of(names) if names else own
    else:
        listed = names or next((source / name for name in CLASSES if (source / name).is_file()), None)
        listed = listed or next(
            (source / "labels" / name for name in CLASSES if (source / "labels" / name).is_file()), None
        )
        if listed is None:
            raise MissingResource(
                f"{source} has neither data.yaml nor classes.txt: give the names of its classes (--names)"
            )
        categories = names_of(listed)
        folder = images or (source / "images" if (source / "images").is_dir() else source)
        labels = source / "labels" if (source / "labels").is_dir() else source
        if split is not None:
            folder, labels = (folder if images else folder / split), labels / split
        pairs = _pairs(folder, labels)
    return Labels(categories, _images(pairs, categories, notes), folder)


def write_yolo(labels: Labels, out: Path, notes: Notes) -> None:
    """Write ``data.yaml`` and ``labels/`` into a folder; ``images/`` is to be put, or linked, beside them.

    An object of several outlines becomes one that runs from each to the next and back.  Crowds, which YOLO does not
    know, are left out.  Raises UsageError for a run-length mask, which has no outline.
    """
    write_description(out, labels.categories)
    numbers = {name: number for number, name in enumerate(labels.categories)}
    for image in labels.images:
        for each in image.objects:
            if each.is_crowd:
                notes.add("a crowd was left out: YOLO knows none", each.where)
        kept = [each for each in image.objects if not each.is_crowd]
        write_lines(out, image._replace(objects=kept), numbers)


def write_description(out: Path, names: Sequence[str]) -> Path:
    """Write ``data.yaml`` into a folder: the names of the classes, and images in ``images`` for every split."""
    lines = ["train: images", "val: images", "names:"]
    quoted = (json.dumps(name, ensure_ascii=False) for name in names)  # JSON is YAML
    lines += [f"  {number}: {name}" for number, name in enumerate(quoted)]
    return _write_text(out / "data.yaml", lines)


def write_lines(out: Path, image: LabelledImage, numbers: Mapping[str, int]) -> Path:
    """Write the lines of an image, whose objects are no crowds, into ``labels`` in a folder; ``numbers``: the classes'.

    Raises UsageError for a run-length mask.
    """
    lines = [" ".join([str(numbers[each.category]), *map(repr, _line_values(each, image))]) for each in image.objects]
    return _write_text(out / "labels" / Path(image.name).with_suffix(".txt"), lines)


def _of_yaml(path: Path, images: Path | None, split: str | None) -> tuple[list[str], Path, list[_Pair]]:
    """Names, folder of the images, and images with their labels."""
    document = yaml_of(path)
    if "kpt_shape" in document:
        raise BadAnnotations(f"{path}: its labels hold keypoints (kpt_shape), which COCO's instances do not: convert "
                             "boxes or outlines")  # fmt: skip
    categories = _names(document.get("names"), path)
    parts = [key for key in SPLITS if document.get(key)]
    if split is None and len(parts) > 1:
        raise UsageError(f"{path} has the splits {', '.join(parts)}: choose one (--split)")
    chosen = split or next(iter(parts), None)
    if chosen not in parts:
        raise UsageError(f"{path} has no split {chosen!r}: it has {', '.join(parts) or 'none'}")
    given = document.get("path")
    root = path.parent if given is None else path.parent / _text(given, path, "path")
    root = root if os.path.isdir(root) else path.parent  # Ultralytics seeks it in a folder of its own settings
    entries = document[chosen] if isinstance(document[chosen], list) else [document[chosen]]
    places = [_found(root, path.parent, _text(entry, path, chosen), images is not None) for entry in entries]
    if len(places) == 1 and places[0].suffix != ".txt":
        folder = images or places[0]
        return categories, folder, _pairs(folder, _label_path(places[0]))
    if images is not None:
        raise UsageError(f"{path}: {chosen} is no single folder of images, so --images cannot stand in its place")
    pairs = []
    for place in places:
        pairs += _listed(place) if place.suffix == ".txt" else _pairs(place, _label_path(place))
    if strangers := [pair.image for pair in pairs if not pair.image.is_relative_to(root)]:
        raise UsageError(f"{strangers[0]} lies outside {root}, the folder of the data set: correct `path` in {path}")
    named = [pair._replace(name=pair.image.relative_to(root).as_posix()) for pair in pairs]
    _require_one_of_each(named)
    return categories, root, sorted(named)


def _names(value: Any, path: Path) -> list[str]:
    if isinstance(value, dict):
        if sorted(map(str, value)) != sorted(map(str, range(len(value)))):
            raise BadAnnotations(f"{path}: names: classes are numbered from 0 without gaps")
        value = [value.get(place, value.get(str(place))) for place in range(len(value))]
    if not isinstance(value, list):
        raise BadAnnotations(f"{path}: names: a list of names, or a mapping of numbers to names, is wanted")
    return require_names(value, path)


def _text(value: Any, path: Path, key: str) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise BadAnnotations(f"{path}: {key}: a path is wanted")
    return value


def _found(root: Path, beside: Path, entry: str, may_be_missing: bool) -> Path:
    """A split's folder or list; Roboflow writes ``../train/images`` for what lies beside the file."""
    candidates = [root / entry, beside / entry, beside / entry.removeprefix("../")]
    for candidate in candidates:
        if os.path.exists(candidate):  # of a name that no file can have, False
            return candidate
    if may_be_missing:
        return candidates[0]
    raise MissingResource(f"there is no {candidates[0]}: give the folder of the images (--images)")


def _label_path(path: Path) -> Path:
    """Where the labels of an image, or of a folder of them, lie: in ``labels`` where it has ``images``."""
    for parts in (path.parts, path.absolute().parts):
        for place in range(len(parts) - 1, -1, -1):
            if parts[place] == "images":
                return Path(*parts[:place], "labels", *parts[place + 1 :])
    return path


def _listed(path: Path) -> list[_Pair]:
    """The images that a text file lists, one a line, from its own folder on."""
    found = []
    for number, line in enumerate(lines_of(path), start=1):
        if not line.strip():
            continue
        image = (path.parent / line.strip()).absolute()
        if not os.path.isfile(image):
            raise MissingResource(f"{path}:{number}: there is no image {image}")
        found.append(_Pair(image.name, image, _label_path(image).with_suffix(".txt")))
    return found


def _pairs(folder: Path, labels: Path) -> list[_Pair]:
    """The images in a folder with their labels in another, or the same; labels without an image are refused."""
    images = images_in(folder)
    if labels.is_dir():
        for stem, paths in files_in(labels, {".txt"}).items():
            if stem not in images and Path(stem).name not in _NO_LABELS:
                raise MissingResource(
                    f"{paths[0]} labels no image: there is no {stem} with an image's suffix in {folder}"
                )
    pairs = [_Pair(path.relative_to(folder).as_posix(), path, labels / f"{stem}.txt") for stem, path in images.items()]
    return sorted(pairs)


def _require_one_of_each(pairs: list[_Pair]) -> None:
    seen: dict[Path, _Pair] = {}
    for pair in pairs:
        if pair.label in seen:
            raise BadAnnotations(
                f"{seen[pair.label].image} and {pair.image} would have the same labels: rename or remove one"
            )
        seen[pair.label] = pair


def _images(pairs: list[_Pair], categories: list[str], notes: Notes) -> Iterator[LabelledImage]:
    for pair in pairs:
        height, width = shown_size(pair.image)
        objects = []
        if pair.label.is_file():
            for number, line in enumerate(lines_of(pair.label), start=1):
                if line.strip():
                    objects.append(_object(line.split(), categories, height, width, f"{pair.label}:{number}"))
        else:
            notes.add("it is not there, so its image is taken to have no objects", str(pair.label))
        yield LabelledImage(pair.name, height, width, objects)


def _object(cells: list[str], categories: list[str], height: int, width: int, where: str) -> LabelledObject:
    try:
        label, *values = map(float, cells)
    except ValueError as error:
        raise BadAnnotations(
            f"{where}: a line is a class and numbers, but {str(error).split(': ')[-1]} is none"
        ) from error
    if not (label.is_integer() and 0 <= label < len(categories)):
        raise BadAnnotations(
            f"{where}: there is no class {cells[0]}: the names are those of 0 to {len(categories) - 1}"
        )
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise BadAnnotations(
            f"{where}: after its class a line has four numbers, or the pairs of three points or more, not {len(values)}"
        )
    if wrong := [cell for cell, value in zip(cells[1:], values, strict=True) if not -_OUTSIDE <= value <= 1 + _OUTSIDE]:
        raise BadAnnotations(f"{where}: coordinates are from 0 to 1, in parts of the image's sides, not {wrong[0]}")
    category = categories[int(label)]
    if len(values) == 4:
        x, y, w, h = values
        if w <= 0 or h <= 0:
            raise BadAnnotations(f"{where}: a box's width and height are above 0, not {cells[3]} and {cells[4]}")
        bbox = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
        return LabelledObject(category, bbox, None, False, where)
    outline = [value * (height if place % 2 else width) for place, value in enumerate(values)]
    return LabelledObject(category, extent([outline]), [outline], False, where)


def _line_values(each: LabelledObject, image: LabelledImage) -> list[float]:
    if each.mask is None:
        x, y, w, h = each.bbox
        return [(x + w / 2) / image.width, (y + h / 2) / image.height, w / image.width, h / image.height]
    if not isinstance(each.mask, list):
        raise UsageError(f"{each.where}: a run-length mask has no outline, which YOLO wants: convert to labelme or voc")
    return (one_outline(as_arrays(each.mask)) / (image.width, image.height)).ravel().tolist()


def _write_text(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
    return path
