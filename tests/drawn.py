"""COCO data sets drawn on the spot: rectangles and discs on grey noise, category ids with gaps."""

import json
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

CATEGORIES = ({"id": 3, "name": "box"}, {"id": 7, "name": "disc"}, {"id": 40, "name": "bar"})  # ids with gaps
_COLOURS = ((220, 40, 40), (40, 200, 60), (60, 80, 230))


class Drawn(NamedTuple):
    """A data set on disk."""

    annotations: Path
    images: Path


def draw_set(folder: Path, count: int, size: tuple[int, int] = (64, 96), objects: int = 2, seed: int = 0) -> Drawn:
    """Write ``count`` PNG files of ``size`` (height, width) and their annotations; image ids are 11, 12, …"""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    height, width = size
    images, annotations = [], []
    for image_id in range(11, 11 + count):
        canvas = rng.integers(90, 130, (height, width, 3), dtype=np.uint8)
        for _ in range(objects):
            label = int(rng.integers(len(CATEGORIES)))
            w, h = (int(v) for v in rng.integers(24, 40, 2)) if label < 2 else (50, 14)
            x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
            mask = np.zeros((height, width), np.uint8)
            if label == 1:
                cv2.ellipse(mask, (x + w // 2, y + h // 2), (w // 2 - 1, h // 2 - 1), 0, 0, 360, 1, -1)
            else:
                mask[y : y + h, x : x + w] = 1
            canvas[mask == 1] = _COLOURS[label]
            outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            left, top, right, bottom = _extent(mask)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": CATEGORIES[label]["id"],
                    "bbox": [left, top, right - left, bottom - top],
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "segmentation": [outline.flatten().tolist() for outline in outlines if len(outline) > 2],
                }
            )
        name = f"{image_id:03d}.png"
        cv2.imwrite(str(folder / name), canvas[:, :, ::-1])
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
    path = folder.parent / f"{folder.name}.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": list(CATEGORIES)}))
    return Drawn(path, folder)


def _extent(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
