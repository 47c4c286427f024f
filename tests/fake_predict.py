"""``cascadezoo predict`` with a model that needs no time."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from cascadezoo.cli import main
from cascadezoo.coco.categories import COCO
from cascadezoo.detections import Detections
from cascadezoo.providers import SPECS

NAME = "cascade_mask_r50_fpn_1x.mmdet"


class FakeModel:
    """Finds a person (0.9), a dog (0.5) and a cup (0.2), each with a mask, on every image."""

    categories = COCO
    spec = SPECS["mmdet"]["cascade_mask_r50_fpn"]  # which keeps scores above 0.05
    tta: ClassVar[list[bool]] = []  # of each call
    optimized: ClassVar[list[tuple[str, str, bool]]] = []  # device, precision and exact of each
    asked: ClassVar[list[tuple[object, ...]]] = []  # of each call, how many images, and what was wanted

    def optimize(self, device, precision, *, exact):
        self.optimized.append((device.type, precision, exact))
        return self

    def predict(self, images, tta, batch_size, classes, threshold, max_detections, tiles):
        self.tta.append(tta)
        self.asked.append((len(images), classes, threshold, max_detections))
        lowest = threshold if isinstance(threshold, float) else 0.0
        return [found[found.scores >= lowest] for found in map(self._found, images)]

    def _found(self, image):
        height, width, _ = image.shape
        boxes = torch.tensor([[0.0, 0.0, width / 2, height], [2.0, 2.0, 8.0, 6.0], [1.0, 1.0, 3.0, 3.0]])
        labels = torch.tensor([COCO.index(name) for name in ("person", "dog", "cup")])
        return Detections(boxes, torch.tensor([0.9, 0.5, 0.2]), labels, (height, width), COCO, torch.ones(3, 28, 28))


def write_image(path, height=30, width=40):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 100, np.uint8)).save(path)
    return path


def run(*args):
    with pytest.raises(SystemExit) as ended:
        main(["predict", *map(str, args)])
    return ended.value.code
