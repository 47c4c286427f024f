"""One image or annotation of a COCO file by itself: its types and bounds, and its geometry inside its image."""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeGuard

from cascadezoo.coco import segmentations
from cascadezoo.coco.segmentations import Malformed, are_finite, shown
from cascadezoo.image_files import most_pixels

_MOST_AREA = 1e10  # pycocotools ignores objects beyond it
_BEYOND = 1.0  # pixels outside the image that nobody means: annotation tools round


class Problem(NamedTuple):
    """What is wrong with an item: a key of ``faults.KINDS``, the key of the item, and the rest of a sentence."""

    kind: str
    field: str
    text: str


class ImageEntry(NamedTuple):
    """An image as it is listed; pixels."""

    name: str
    height: int
    width: int


class Annotation(NamedTuple):
    """One annotation, of the right types.

    ``bbox``: x, y, width, height, not clipped.  ``area``: pixels, None where the file has none.  ``segmentation``: as
    ``segmentations.sound`` gives it.  ``is_object``: whether its box can be learned from: it is a pixel wide and high
    inside the image, and not to be ignored.
    """

    image_id: int
    category_id: int
    bbox: list[float]
    area: float | None
    is_crowd: bool
    is_object: bool
    segmentation: list[list[float]] | dict[str, Any] | None


class Body(NamedTuple):
    """What an annotation says about its object, with ``problems``; ids are left to the reader of the file.

    ``has_mask``: whether it has a segmentation at all, be it one without a single polygon of three points.
    """

    problems: list[Problem]
    is_object: bool
    has_mask: bool
    segmentation: list[list[float]] | dict[str, Any] | None


def image_problems(item: dict[str, Any]) -> Iterator[Problem]:
    """What is wrong with an image's name and size."""
    name = item.get("file_name")
    if not is_text(name):
        said = f"the name of a file is wanted, not {shown(name)}" if "file_name" in item else "it is missing"
        yield Problem("image-name", "file_name", said)
    sides = {key: item.get(key) for key in ("height", "width")}
    if wrong := [key for key, side in sides.items() if type(side) is not int or side < 1]:
        said = f"whole pixels are wanted, not {' and '.join(shown(sides[key]) for key in wrong)}"
        yield Problem("image-size", ", ".join(wrong), said)
    elif item["height"] * item["width"] > most_pixels():
        said = f"{shown(item['width'])} x {shown(item['height'])} pixels are more than the {most_pixels():,} allowed"
        yield Problem("image-size", "height, width", said)


def body_of(item: dict[str, Any], size: tuple[int, int] | None) -> Body:
    """An annotation's box, mask and numbers in an image of ``size`` (height, width); None where that is not known."""
    problems = list(_number_problems(item))
    in_box = _box_problem(item, size)
    if in_box is not None:
        problems.append(in_box)
    is_object = item.get("ignore") != 1 and (in_box is None or in_box.kind == "bbox-beyond")
    given = item.get("segmentation")
    sound = None
    try:
        sound = segmentations.sound(given, size)
    except Malformed as error:
        problems.append(Problem(error.kind, "segmentation", str(error)))
    if isinstance(sound, list):
        if len(sound) < len(given):  # type: ignore[arg-type]  # a list, for a list came of it
            problems.append(Problem("polygon-short", "segmentation", "a polygon has less than three points"))
        elif size is not None and in_box is None and segmentations.reaches_beyond(sound, size, _BEYOND):
            problems.append(Problem("polygon-beyond", "segmentation", "a polygon reaches beyond the image"))
    return Body(problems, is_object, given is not None and given != [], sound)


def whole(value: Any) -> int | None:
    """The value where it is a whole number of 64 bits, and no bool."""
    return value if type(value) is int and -(2**63) < value < 2**63 else None


def no_whole(item: dict[str, Any], key: str) -> str:
    """Why the value is none."""
    value = item.get(key)
    return "it is missing" if value is None else f"a whole number of 64 bits is wanted, not {shown(value)}"


def is_text(value: Any) -> TypeGuard[str]:
    """Whether it is a text that can be written: half a surrogate pair cannot."""
    try:
        return isinstance(value, str) and bool(value.encode())
    except UnicodeEncodeError:
        return False


def _number_problems(item: dict[str, Any]) -> Iterator[Problem]:
    area = item.get("area")
    if area is None:
        yield Problem("area-missing", "area", "it is missing")
    elif type(area) not in (int, float) or not 0 <= area <= _MOST_AREA:
        yield Problem("area", "area", f"a number from 0 to 1e10 is wanted, not {shown(area)}")
    crowd = item.get("iscrowd")
    if crowd is None:
        yield Problem("iscrowd-missing", "iscrowd", "it is missing")
    elif type(crowd) is not int or crowd not in (0, 1):
        yield Problem("iscrowd", "iscrowd", f"0 or 1 is wanted, not {shown(crowd)}")
    ignore = item.get("ignore", 0)
    if type(ignore) is not int or ignore not in (0, 1):
        yield Problem("ignore-type", "ignore", f"0 or 1 is wanted, not {shown(ignore)}")
    elif ignore:
        yield Problem("ignore", "ignore", "it is 1")


def _box_problem(item: dict[str, Any], size: tuple[int, int] | None) -> Problem | None:
    bbox = item.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4 or not are_finite(bbox):
        said = f"a bbox is four finite numbers x, y, width, height, not {shown(bbox)}"
        return Problem("bbox", "bbox", said if "bbox" in item else "it is missing")
    x, y, w, h = bbox
    if w < 1 or h < 1:
        return Problem("bbox-small", "bbox", f"it is {w:g} x {h:g} pixels (width x height)")
    if size is None:
        return None
    height, width = size
    if min(x + w, width) - max(x, 0) < 1 or min(y + h, height) - max(y, 0) < 1:
        return Problem("bbox-outside", "bbox", f"it lies outside the image of {width} x {height} pixels")
    if min(x, y) < -_BEYOND or x + w > width + _BEYOND or y + h > height + _BEYOND:
        return Problem("bbox-beyond", "bbox", f"it reaches beyond the image of {width} x {height} pixels")
    return None
