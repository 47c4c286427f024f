"""One image with its mistakes: what is annotated at the left, what was detected at the right."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from cascadezoo.coco.confusion import ImageMatches
from cascadezoo.coco.dataset import read_annotated
from cascadezoo.coco.segmentations import as_arrays, bitmap
from cascadezoo.drawing import Row, Style, draw, side_by_side
from cascadezoo.ops.mask_paste import Crop

_MOST = 800  # pixels, width and height of each side


def picture(matched: ImageMatches, image: Mapping[str, Any], folder: Path, names: Mapping[int, str]) -> Image.Image:
    """Both sides, RGB; tags say what was missed, what is nothing, and what something is instead.

    Args:
        image: as it is annotated.
        folder: that its file is in.
        names: of all classes, by category id.

    Raises UnreadableImage, MissingResource, or BadAnnotations where the image is not of its annotated size.
    """
    size = image["height"], image["width"]
    pixels = read_annotated(folder / image["file_name"], *size)
    found = matched.overlaps
    style = Style(scale=min(1, _MOST / max(size)))
    left = draw(pixels, _rows(found.objects, _of_objects(matched), names, size), style)
    right = draw(pixels, _rows(found.detections, _of_detections(matched, names), names, size), style)
    return side_by_side([left, right], ["annotated", "detected"])


def _of_objects(matched: ImageMatches) -> list[str]:
    remarks = [" (crowd)" if is_crowd else "" for is_crowd in matched.overlaps.crowd]
    for place in matched.missed:
        remarks[place] = " (missed)"
    return remarks


def _of_detections(matched: ImageMatches, names: Mapping[int, str]) -> list[str]:
    remarks = [""] * len(matched.overlaps.detections)
    for place in matched.spurious:
        remarks[place] = " (nothing)"
    for place, number in matched.pairs:
        annotated = matched.overlaps.objects[number]["category_id"]
        if annotated != matched.overlaps.detections[place]["category_id"]:
            remarks[place] = f" (is {names[annotated]})"
    return remarks


def _rows(
    records: Sequence[Mapping[str, Any]], remarks: Sequence[str], names: Mapping[int, str], size: tuple[int, int]
) -> Iterator[Row]:
    labels = {category_id: label for label, category_id in enumerate(sorted(names))}
    for record, remark in zip(records, remarks, strict=True):
        category_id, crop = record["category_id"], None
        if "segmentation" in record:
            crop = Crop(0, 0, torch.from_numpy(bitmap(as_arrays(record["segmentation"]), *size)).bool())
        x, y, w, h = record["bbox"] if "bbox" in record else _bounds(crop)
        name = names[category_id] + remark
        yield Row(name, record.get("score"), labels[category_id], (x, y, x + w, y + h), crop, marked=bool(remark))


def _bounds(crop: Crop | None) -> tuple[int, int, int, int]:
    """The box round a mask, x, y, width, height; at the corner where it is empty."""
    if crop is None or not crop.mask.any():
        return 0, 0, 1, 1
    rows, columns = crop.mask.any(dim=1).nonzero(), crop.mask.any(dim=0).nonzero()
    top, left = int(rows[0]), int(columns[0])
    return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top
