"""Truths of a few classes and what was found of them, for the tests of evaluation, confusion and kinds of error."""

from collections.abc import Sequence
from typing import Any

from pycocotools import mask as coco_mask

SIDE = 200  # of every image


def outline(x: float, y: float, w: float, h: float) -> list[list[float]]:
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def thing(image: int, label: int, box: Sequence[float], crowd: int = 0) -> dict[str, Any]:
    """An annotation without an id."""
    return {"image_id": image, "category_id": label, "bbox": list(box), "area": box[2] * box[3], "iscrowd": crowd,
            "segmentation": outline(*box)}  # fmt: skip


def hit(image: int, label: int, box: Sequence[float], score: float) -> dict[str, Any]:
    """A COCO result."""
    return {
        "image_id": image,
        "category_id": label,
        "bbox": list(box),
        "score": score,
        "segmentation": rle(outline(*box)),
    }


def rle(polygons: list[list[float]]) -> dict[str, Any]:
    """Compressed, as JSON has it."""
    found = coco_mask.merge(coco_mask.frPyObjects(polygons, SIDE, SIDE))
    return {"size": found["size"], "counts": found["counts"].decode()}


def truth_of(things: Sequence[dict[str, Any]], images: int = 1, names: Sequence[str] = ("cat", "dog")) -> dict:
    """A truth as ``read_truth`` gives it: images 1, 2, …, classes 1, 2, …"""
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": SIDE, "width": SIDE} for i in range(1, images + 1)],
        "annotations": [{"id": number, **one} for number, one in enumerate(things, start=1)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names, start=1)],
    }
