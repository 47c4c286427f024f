"""COCO results, one record per detection: checked before an evaluator sees them, and read from a file.

The evaluators trust what they are given, and each fails in its own way, or not at all, on what is no sound result.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from cascadezoo.coco import segmentations
from cascadezoo.coco.segmentations import Malformed, shown
from cascadezoo.errors import FileError, MissingResource, UsageError
from cascadezoo.files import parse_json

Kind: TypeAlias = Literal["bbox", "segm"]
Truth: TypeAlias = Mapping[str, Any]  # images, annotations and categories, as ``evaluation.read_truth`` gives them

FIELDS: dict[Kind, str] = {"bbox": "bbox", "segm": "segmentation"}  # of a result, by what is evaluated on it


def require_sound(results: Sequence[Mapping[str, Any]], truth: Truth, kinds: Sequence[Kind], named: str) -> None:
    """Raise UsageError for the first result that cannot be evaluated; ``named``: the annotations in its message.

    Each has an ``image_id`` and a ``category_id`` of the annotations, a finite ``score``, for "bbox" a ``bbox`` of four
    finite numbers, and for "segm" a ``segmentation``, a compressed RLE of its image's size.
    """
    sizes = {image["id"]: [image["height"], image["width"]] for image in truth["images"]}
    known: dict[str, Any] = {"image_id": sizes, "category_id": {item["id"] for item in truth["categories"]}}
    with_boxes, with_masks = "bbox" in kinds, "segm" in kinds
    for number, result in enumerate(results):
        for key, those in known.items():
            value = result.get(key)
            if not _is_finite(value):
                raise _wrong(number, key, "a number is wanted", value)
            if value not in those:
                raise UsageError(
                    f"the results have {key} {value}, which {named} lacks: evaluate them on their own annotations"
                )
        if not _is_finite(score := result.get("score")):
            raise _wrong(number, "score", "a finite number is wanted", score)
        if with_boxes and not _is_box(box := result.get("bbox")):
            raise _wrong(number, "bbox", "four finite numbers x, y, width, height are wanted", box)
        if with_masks and not _is_mask(mask := result.get("segmentation"), size := sizes[result["image_id"]]):
            if mask is None:
                raise UsageError(f"result {number} has no segmentation: only boxes can be evaluated")
            raise _wrong(number, "segmentation", f"a compressed RLE of size {size} (height, width) is wanted", mask)


def read_results(path: Path) -> list[dict[str, Any]]:
    """The records of a results file from anyone, which ``checked`` has to look at.

    Raises MissingResource, or FileError where it holds no list of records.
    """
    try:
        found = parse_json(path.read_bytes())
    except FileNotFoundError as error:
        raise MissingResource(f"no such results file: {path}") from error
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise FileError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, list):
        raise FileError(f"{path} is no file of COCO results: a list is wanted, not {shown(found)}")
    if strange := [number for number, result in enumerate(found) if not isinstance(result, dict)]:
        raise FileError(f"{path}: result {strange[0]}: a record is wanted, not {shown(found[strange[0]])}")
    return found


def checked(
    path: Path, results: Sequence[Mapping[str, Any]], truth: Truth, kinds: Sequence[Kind], named: str
) -> list[dict[str, Any]]:
    """What ``read_results`` gave of ``path``, fit to be evaluated on annotations called ``named``; masks as compressed
    RLE, whatever they were.

    Raises FileError naming the first result that cannot be evaluated.
    """
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    try:
        found = [_with_mask(number, result, sizes) for number, result in enumerate(results)]
        require_sound(found, truth, kinds, named)
    except UsageError as error:
        raise FileError(f"{path}: {error}") from error
    return found


def kinds_of(results: Sequence[Mapping[str, Any]]) -> tuple[Kind, ...]:
    """What all of these results can be evaluated on: "bbox", "segm", both or neither."""
    return tuple(kind for kind, field in FIELDS.items() if all(field in result for result in results))


def _with_mask(number: int, result: Mapping[str, Any], sizes: Mapping[int, tuple[int, int]]) -> dict[str, Any]:
    """The result with its mask, where it has one, as compressed RLE; of an unknown image as it is."""
    image_id: Any = result.get("image_id")
    if "segmentation" not in result or not _is_finite(image_id) or image_id not in sizes:
        return dict(result)
    try:
        sound = segmentations.sound(result["segmentation"], sizes[image_id])
    except Malformed as error:
        raise UsageError(f"result {number}: segmentation: {error}") from error
    if not sound:
        wanted = "a polygon of three points or an RLE is wanted"
        raise _wrong(number, "segmentation", wanted, result["segmentation"])
    counts = segmentations.encoded(sound, *sizes[image_id])["counts"]
    text = counts if isinstance(counts, str) else counts.decode()
    return {**result, "segmentation": {"size": list(sizes[image_id]), "counts": text}}


def _is_finite(value: Any) -> bool:
    if type(value) is float or isinstance(value, np.floating):
        return math.isfinite(value)
    return (type(value) is int and abs(value) < 2**63) or isinstance(value, np.integer)


def _is_box(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 4 and all(map(_is_finite, value))


def _is_mask(value: Any, size: list[int]) -> bool:
    is_rle = isinstance(value, Mapping) and isinstance(value.get("counts"), str | bytes)
    return is_rle and list(value.get("size") or ()) == size


def _wrong(number: int, field: str, wanted: str, value: Any) -> UsageError:
    return UsageError(f"result {number}: {field}: {wanted}, not {shown(value)}")
