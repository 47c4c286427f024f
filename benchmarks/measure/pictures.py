"""The pictures of docs/pictures.md: ``python -m cascadezoo.benchmarks.measure.pictures``.

Nothing is fetched: the images are drawn, and the model is the one inside the package.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
from PIL import Image

import cascadezoo
from cascadezoo import shapes
from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.coco.segmentations import bitmap
from cascadezoo.detector import Detector
from cascadezoo.drawing import Row, Style, draw, side_by_side
from cascadezoo.drawing.truth import annotated
from cascadezoo.ops.mask_paste import Crop
from cascadezoo.shapes.dataset import CATEGORIES

ENTRY = "cascade_mask_r18_fpn_shapes.cascadezoo"
SURE = 0.5  # scores that are drawn
_STYLED, _COMPARED = 15, 39  # images of the validation split
_COLUMNS, _ROWS = 5, 5  # of scenes in the crowded picture
_STYLES: dict[str, dict[str, Any]] = {
    "plot(image)": {},
    "boxes=False, opacity=0.65": {"boxes": False, "opacity": 0.65},
    'color_by="instance", labels=False': {"color_by": "instance", "labels": False},
    "masks=False, max_tags=3": {"masks": False, "max_tags": 3},
}


@click.command()
@click.option("--output", default=Path("docs/images"), type=click.Path(file_okay=False, path_type=Path))
def main(output: Path) -> None:
    """Draw the pictures of docs/pictures.md, JPEG."""
    model = cascadezoo.load(ENTRY, pretrained=True)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        truth = shapes.generate("val", folder, max(_STYLED, _COMPARED) + 1)
        data = CocoDataset(truth, Path(folder) / "val")
        made = {"plot_styles": styles(data, model), "plot_truth": compared(data, model), "plot_crowded": crowded()}
    for name, picture in made.items():
        picture.save(output / f"{name}.jpg", "JPEG", quality=85)
        click.echo(f"{output / name}.jpg: {(output / f'{name}.jpg').stat().st_size:,} bytes")


def styles(data: CocoDataset, model: Detector) -> Image.Image:
    """One image in four ways, at twice its size."""
    path = data.record(_STYLED).path
    found = model.predict(path)
    found = found[found.scores >= SURE]
    pictures = [found.plot(path, scale=2, **style) for style in _STYLES.values()]
    return side_by_side(pictures, list(_STYLES), columns=2)


def compared(data: CocoDataset, model: Detector) -> Image.Image:
    """What is annotated beside what is found."""
    path = data.record(_COMPARED).path
    found = model.predict(path)
    pictures = [annotated(data, _COMPARED, scale=2), found[found.scores >= SURE].plot(path, scale=2)]
    return side_by_side(pictures, ["annotated", "found"])


def crowded() -> Image.Image:
    """Many scenes in one image, with all that is annotated; at three quarters of its size."""
    canvas = np.zeros((_ROWS * 192, _COLUMNS * 256, 3), np.uint8)
    rows = [row for cell in range(_COLUMNS * _ROWS) for row in _scene(canvas, cell)]
    return draw(canvas, rows, Style(scale=0.75))


def _scene(canvas: np.ndarray, cell: int) -> Iterator[Row]:
    """Put a scene into its cell, lying where it stands; yield its objects."""
    image, annotations = shapes.scene("val", 100 + cell)
    turned = image.shape[0] > image.shape[1]
    top, left = cell // _COLUMNS * 192, cell % _COLUMNS * 256
    canvas[top : top + 192, left : left + 256] = np.rot90(image) if turned else image
    for one in annotations:
        mask = bitmap(one["segmentation"], *image.shape[:2])
        mask = np.ascontiguousarray(np.rot90(mask) if turned else mask)
        x, y, w, h = cv2.boundingRect(mask)
        label = CATEGORIES.ids.index(one["category_id"])
        box = (left + x, top + y, left + x + w, top + y + h)
        yield Row(CATEGORIES[label], None, label, box, Crop(top, left, torch.from_numpy(mask).bool()))


if __name__ == "__main__":
    main()
