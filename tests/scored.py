"""Truths of a few classes and what was found of them, for the tests of evaluation, confusion and kinds of error."""

from collections.abc import Sequence
from typing import Any

import numpy as np
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


def drawn_by_lot(seed: int) -> tuple[dict, list[dict]]:
    """Images and classes with ids from anywhere in 64 bits; objects as polygons of several parts, RLE and crowds, with
    areas on the borders of sizes; what is found is near them or nowhere, of equal scores, in any order."""
    rng = np.random.default_rng(seed)
    span = 2**61 if seed % 2 else 5
    image_ids, labels = (np.unique(rng.integers(-span, span, 5)).tolist() for _ in range(2))
    images = [
        {"id": own, "file_name": str(own), "height": int(rng.integers(20, 300)), "width": int(rng.integers(20, 300))}
        for own in image_ids
    ]
    things: list[dict] = []
    hits: list[dict] = []

    def found(image: dict, label: int, box: list[float], polygons: list[list[float]]) -> None:
        score = float(rng.choice([rng.random(), round(rng.random(), 1)]))
        mask = _compressed(polygons, image["height"], image["width"])
        hits.append({"image_id": image["id"], "category_id": label, "bbox": box, "score": score, "segmentation": mask})

    for image in images:
        size = image["height"], image["width"]
        for _ in range(rng.integers(0, 7)):
            polygons = [_polygon(rng, *size) for _ in range(rng.integers(1, 3))]
            box, label = _box(polygons), int(rng.choice(labels))
            segmentation = (_as_they_are, _compressed, _runs)[rng.integers(3)](polygons, *size)
            things.append(
                {"image_id": image["id"], "category_id": label, "bbox": box, "iscrowd": int(rng.random() < 0.2),
                 "area": float(rng.choice([box[2] * box[3], 0, 1024, 9216, 1024.0001])), "segmentation": segmentation}
            )  # fmt: skip
            for _ in range(rng.integers(0, 4)):
                x, y, w, h = (np.array(box) + rng.normal(0, rng.choice([0, 0.5, 2, 8]), 4)).tolist()
                moved = [
                    (np.array(one) + rng.normal(0, rng.choice([0, 1, 3]))).clip(0, 300).tolist() for one in polygons
                ]
                found(
                    image, label if rng.random() < 0.8 else int(rng.choice(labels)), [x, y, max(w, 0), max(h, 0)], moved
                )
        for _ in range(int(rng.integers(5, 130)) if rng.random() < 0.3 else 0):
            polygons = [_polygon(rng, *size)]
            found(image, int(rng.choice(labels)), _box(polygons), polygons)
    rng.shuffle(hits)
    truth = truth_of(things) | {"images": images, "categories": [{"id": own, "name": str(own)} for own in labels]}
    return truth, hits


def _runs(polygons: list[list[float]], height: int, width: int) -> dict[str, Any]:
    """Uncompressed, as crowds are annotated."""
    pixels = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))).T.reshape(-1)
    bounds = [0, *(np.flatnonzero(np.diff(pixels)) + 1).tolist(), len(pixels)]
    return {"size": [height, width], "counts": [0] * int(pixels[0]) + np.diff(bounds).tolist()}


def _as_they_are(polygons: list[list[float]], *_: int) -> list[list[float]]:
    return polygons


def _compressed(polygons: list[list[float]], height: int, width: int) -> dict[str, Any]:
    found = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    return {"size": found["size"], "counts": found["counts"].decode()}


def _polygon(rng: np.random.Generator, height: int, width: int) -> list[float]:
    turns = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)))
    points = rng.uniform(0, [width, height]) + rng.choice([4, 10, 40, 120]) * np.stack(
        [np.cos(turns), np.sin(turns)], 1
    )
    points = points.clip(0, [width, height])
    return (points.round() if rng.random() < 0.5 else points).ravel().tolist()


def _box(polygons: list[list[float]]) -> list[float]:
    points = np.array([number for polygon in polygons for number in polygon]).reshape(-1, 2)
    return [*points.min(0).tolist(), *np.ptp(points, axis=0).tolist()]
