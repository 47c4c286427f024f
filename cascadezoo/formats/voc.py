"""Pascal VOC's annotations: an XML file for each image, boxes of whole pixels counted from 1, the last ones inside.

``Annotations/*.xml``, ``JPEGImages/``, ``ImageSets/<kind>/<split>.txt``, and masks in ``SegmentationObject/*.png``,
where a pixel holds the number of its object in the XML file, or 255 where nobody knows.  XML files beside the images,
in one folder, are understood too.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import numpy as np
import numpy.typing as npt
from PIL import Image

from cascadezoo.coco.image_headers import shown_size
from cascadezoo.coco.segmentations import as_arrays, bitmap
from cascadezoo.errors import BadAnnotations, MissingResource, UsageError
from cascadezoo.files import whole_file
from cascadezoo.formats.labels import LabelledImage, LabelledObject, Labels, Mask, Notes, window
from cascadezoo.formats.reading import Node, files_in, images_in, lines_of, names_of, xml_of
from cascadezoo.text import printable

NAMES = "labels.txt"

_VOID = 255  # a pixel of no known object
_SIDES = ("xmin", "ymin", "xmax", "ymax")


def read_voc(source: Path, images: Path | None, split: str | None, names: Path | None, notes: Notes) -> Labels:
    """The data set in the folder ``source``.

    Args:
        images: the folder of the images, where it is not ``JPEGImages``.
        split: a list of ``ImageSets/Main``, or ``Segmentation/train`` for one of another folder; by default all.
        names: a text file of the categories' names; by default ``labels.txt`` of the folder, or else all names that
            its XML files have, in the alphabet's order, so that every split has the same.

    A ``difficult`` object becomes a crowd, as mmdetection's converter has it: in both formats what is found there is
    neither right nor wrong.

    Raises UsageError, MissingResource and BadAnnotations; the iterator over the images does, too.
    """
    folder = source / "Annotations" if (source / "Annotations").is_dir() else source
    found = {stem: paths[0] for stem, paths in files_in(folder, {".xml"}).items()}
    if not found:
        raise MissingResource(f"there are no XML files in {folder}")
    image_folder = images or (source / "JPEGImages" if (source / "JPEGImages").is_dir() else folder)
    of_stem = images_in(image_folder)
    listed = names or (source / NAMES if (source / NAMES).is_file() else None)
    categories = names_of(listed) if listed else sorted({name for path in found.values() for name in _names(path)})
    if not categories:
        raise BadAnnotations(f"{folder}: its XML files hold no objects: give the names of the classes (--names)")
    chosen = list(found) if split is None else _listed(source, split, found)
    masks = source / "SegmentationObject"
    with_masks = [stem for stem in chosen if (masks / f"{stem}.png").is_file()]
    if 0 < len(with_masks) < len(chosen):
        notes.add(
            f"masks of {len(with_masks)} of the {len(chosen)} images are there, so boxes alone were converted; for the "
            "masks choose images that all have them, as --split Segmentation/train does",
            str(masks),
        )
    for stem in chosen:
        if stem not in of_stem:
            raise MissingResource(
                f"{found[stem]} annotates no image: there is no {stem} with an image's suffix in {image_folder}"
            )
    chosen.sort(key=lambda stem: of_stem[stem].relative_to(image_folder).as_posix())
    has_masks = len(with_masks) == len(chosen)
    files = [(found[stem], of_stem[stem], masks / f"{stem}.png" if has_masks else None) for stem in chosen]
    return Labels(categories, _images(files, image_folder, categories, listed, notes), image_folder)


def write_voc(labels: Labels, out: Path, notes: Notes) -> None:
    """Write ``Annotations``, ``ImageSets/Main/all.txt``, ``labels.txt`` and, where there are masks,
    ``SegmentationObject`` into a folder; a crowd becomes ``difficult``.

    Where objects overlap, the later one has the pixels.  Raises UsageError for a name that XML cannot hold, and for
    more objects with masks than a picture can number.
    """
    stems, images = [], list(labels.images)
    has_masks = any(each.mask is not None for image in images for each in image.objects)
    for image in images:
        path = Path(image.name)
        stem = path.with_suffix("").as_posix()
        stems.append(stem)
        if printable(image.name) != image.name:
            raise UsageError(f"{image.name!r} holds characters that XML cannot: rename the image")
        _write_xml(out / "Annotations" / f"{stem}.xml", _document(image))
        if has_masks:
            _write_masks(out / "SegmentationObject" / f"{stem}.png", image, notes)
    _write_lines(out / "ImageSets" / "Main" / "all.txt", stems)
    _write_lines(out / NAMES, labels.categories)


def _listed(source: Path, split: str, found: dict[str, Path]) -> list[str]:
    path = source / "ImageSets" / (f"{split}.txt" if "/" in split else f"Main/{split}.txt")
    stems = []
    for number, line in enumerate(lines_of(path), start=1):
        cells = line.split()
        if len(cells) > 1 and cells[-1] in ("-1", "0", "1"):
            raise BadAnnotations(f"{path}:{number}: this is the list of one class: choose the list of all images")
        if cells and line.strip() not in found:
            raise MissingResource(f"{path}:{number}: {line.strip()!r} has no XML file in Annotations")
        stems += [line.strip()] if cells else []
    return list(dict.fromkeys(stems))


def _names(path: Path) -> Iterator[str]:
    for node in xml_of(path).all("object"):
        yield _name(node, path)


def _name(node: Node, path: Path) -> str:
    name = node.first("name")
    if name is None or not name.text.strip():
        raise BadAnnotations(f"{path}:{node.line}: an object without a name")
    return name.text.strip()


def _images(
    files: list[tuple[Path, Path, Path | None]], folder: Path, categories: list[str], listed: Path | None, notes: Notes
) -> Iterator[LabelledImage]:
    """From the paths of XML file, image and masks of each; ``listed``: where the categories' names come from."""
    for path, image, masks in files:
        height, width = shown_size(image)
        root = xml_of(path)
        _require_size(root, path, image, height, width)
        numbers = None if masks is None else _numbers(masks, height, width)
        objects = []
        for number, node in enumerate(root.all("object"), start=1):
            where = f"{path}:{node.line}"
            name = _name(node, path)
            if name not in categories:
                raise BadAnnotations(f"{where}: {listed} has no class {name!r}")
            mask: Mask | None = None
            if numbers is not None and (mask := _mask(numbers == number)) is None:
                notes.add(f"the picture of masks has no pixel of object {number}", where)
            difficult = node.first("difficult")
            is_crowd = difficult is not None and difficult.text.strip() == "1"
            objects.append(LabelledObject(name, _bbox(node, path), mask, is_crowd, where))
        if numbers is not None and (over := numbers[(numbers > len(objects)) & (numbers != _VOID)]).size:
            raise BadAnnotations(f"{masks} has pixels of object {over[0]}, but {path} has {len(objects)} objects")
        yield LabelledImage(image.relative_to(folder).as_posix(), height, width, objects)


def _require_size(root: Node, path: Path, image: Path, height: int, width: int) -> None:
    size = root.first("size")
    if size is None:
        return
    said = [_number(size, side, path) for side in ("width", "height")]
    if said not in ([width, height], [0, 0]):  # tools that do not know the size write 0
        raise BadAnnotations(
            f"{path}:{size.line}: the image is annotated as {said[0]:g} x {said[1]:g} pixels (width x height), but "
            f"{image} is {width} x {height} as it is shown"
        )


def _bbox(node: Node, path: Path) -> list[float]:
    box = node.first("bndbox")
    if box is None:
        raise BadAnnotations(f"{path}:{node.line}: an object without a box (bndbox)")
    x1, y1, x2, y2 = (_number(box, side, path) for side in _SIDES)
    if x2 < x1 or y2 < y1:
        raise BadAnnotations(f"{path}:{box.line}: a box of which xmax or ymax is before xmin or ymin")
    return [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1]


def _number(node: Node, tag: str, path: Path) -> float:
    child = node.first(tag)
    text = "" if child is None else child.text.strip()
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < 1e9:  # nor NaN
        line = (child or node).line
        raise BadAnnotations(f"{path}:{line}: {tag} is to be a number of pixels, not {text!r}")
    return value


def _numbers(path: Path, height: int, width: int) -> npt.NDArray[np.uint8]:
    """The picture of masks: the number of the object at each pixel."""
    if shown_size(path) != (height, width):
        raise BadAnnotations(f"{path} is of another size than its image of {width} x {height} pixels")
    try:
        with Image.open(path) as picture:
            if picture.mode not in ("P", "L"):
                raise BadAnnotations(f"{path} holds colours, not the numbers of objects (a PNG with a palette)")
            return np.array(picture, dtype=np.uint8)
    except (OSError, SyntaxError, ValueError) as error:
        raise BadAnnotations(f"{path} cannot be decoded: get it again") from error


def _mask(marks: npt.NDArray[np.bool_]) -> Mask | None:
    place = window(marks)
    return None if place is None else place.rle(marks)


def _document(image: LabelledImage) -> Element:
    root = Element("annotation")
    _add(root, "filename", Path(image.name).name)
    size = SubElement(root, "size")
    for tag, value in (("width", image.width), ("height", image.height), ("depth", 3)):
        _add(size, tag, value)
    _add(root, "segmented", int(any(each.mask is not None for each in image.objects)))
    for each in image.objects:
        node = SubElement(root, "object")
        if printable(each.category) != each.category:
            raise UsageError(f"{each.where}: XML cannot hold the name {each.category!r}: rename the category")
        _add(node, "name", each.category)
        _add(node, "pose", "Unspecified")
        _add(node, "truncated", 0)
        _add(node, "difficult", int(each.is_crowd))
        box = SubElement(node, "bndbox")
        x, y, w, h = each.bbox
        for side, edge in zip(_SIDES, (x + 1, y + 1, x + w, y + h), strict=True):
            _add(box, side, f"{round(edge, 4):.10g}")
    return root


def _add(parent: Element, tag: str, value: Any) -> None:
    SubElement(parent, tag).text = str(value)


def _write_xml(path: Path, root: Element) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    indent(root)
    with whole_file(path) as file:
        ElementTree(root).write(file, encoding="utf-8")


def _write_masks(path: Path, image: LabelledImage, notes: Notes) -> None:
    if len(image.objects) >= _VOID:
        raise UsageError(
            f"{image.objects[0].where} has {len(image.objects)} objects, and VOC's masks number at most 254"
        )
    numbers = np.zeros((image.height, image.width), dtype=np.uint8)
    for number, each in enumerate(image.objects, start=1):
        if each.mask is not None:
            marks = bitmap(as_arrays(each.mask), image.height, image.width) > 0
            if (numbers[marks] > 0).any():
                notes.add("a mask lies over another, which loses these pixels", each.where)
            numbers[marks] = number
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        Image.fromarray(numbers).save(file, "PNG")


def _write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
