"""A newcomer's first look: the model inside the package detects shapes, and its accuracy and speed are measured here.

Nothing is fetched: the weights lie in the package, and the images are drawn.  `cascadezoo demo` shows it.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

import cascadezoo
from cascadezoo import shapes
from cascadezoo.coco.evaluation import evaluate
from cascadezoo.coco.metrics import METRICS, Measured, published, rounded
from cascadezoo.detector import Detector
from cascadezoo.drawing import side_by_side
from cascadezoo.files import whole_file

ENTRY = "cascade_mask_r18_fpn_shapes.cascadezoo"
IMAGES = 100  # of the 500 of the validation split
DRAWN, SURE = 0.5, 0.9  # scores: what is drawn, and what chooses the image to draw on

_MEANINGS = {
    "box_ap": "how well boxes fit, out of 100",
    "box_ap50": "classified right and roughly placed",
    "mask_ap": "how well outlines fit, pixel by pixel",
}
_SCALE = 3  # of the drawn images in the picture


class Row(NamedTuple):
    """One figure: measured here, as the manifest has it for all 500 images, and what it means."""

    name: str
    measured: str
    expected: str
    meaning: str


class Demo(NamedTuple):
    """What was measured, and the picture that was drawn."""

    rows: list[Row]
    picture: Path


def demo(output: Path, images: int = IMAGES, done: Callable[[int], None] = lambda number: None) -> Demo:
    """Load the model inside the package, detect on the first ``images`` drawn images, evaluate, and draw.

    ``output`` receives the images (``shapes/``) and ``detections.jpg``: the image with most sure detections, as it is
    and with what was found.  ``done`` is called with the number of each image, from 1.
    """
    annotations = shapes.generate("val", output / "shapes", images, force=True)
    model = cascadezoo.load(ENTRY, pretrained=True)
    paths = [output / "shapes" / "val" / f"{number:06d}.png" for number in range(1, images + 1)]
    model.predict(paths[0])  # the first call warms up
    results, seconds, counts = [], 0.0, []
    for number, path in enumerate(paths, 1):
        start = time.perf_counter()
        detections = model.predict(path)
        seconds += time.perf_counter() - start
        results += detections.to_coco(number)
        sure, drawn = (int((detections.scores > score).sum()) for score in (SURE, DRAWN))
        counts.append((sure, sure - drawn))  # many sure ones, and few others
        done(number)
    rows = [*_accuracy(evaluate(annotations, results)), _speed(images / seconds)]
    return Demo(rows, _drawn(model, paths[counts.index(max(counts))], output / "detections.jpg"))


def _accuracy(figures: Measured) -> list[Row]:
    rows, expected_figures = [], published(cascadezoo.info(ENTRY))
    for name, meaning in _MEANINGS.items():
        metric, expected = METRICS[name], expected_figures[name]
        measured = metric.of(figures)
        shown = "none" if measured is None else str(rounded(measured, expected))
        rows.append(Row(metric.heading, shown, str(expected), meaning))
    return rows


def _speed(images_per_second: float) -> Row:
    return Row("speed", f"{images_per_second:.1f} /s", "", "images a second here, one at a time")


def _drawn(model: Detector, path: Path, target: Path) -> Path:
    with Image.open(path) as small:
        image = small.convert("RGB").resize((_SCALE * small.width, _SCALE * small.height), Image.Resampling.LANCZOS)
    found = model.predict(image)
    picture = side_by_side([image, found[found.scores > DRAWN].plot(image)])
    with whole_file(target) as file:
        picture.save(file, "JPEG", quality=88)
    return target
