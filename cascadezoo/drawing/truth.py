"""What is annotated on an image of a data set, drawn as detections are."""

from collections.abc import Iterator
from typing import Any

import torch
from PIL import Image

from cascadezoo.coco.categories import Categories
from cascadezoo.coco.dataset import CocoDataset, ImageRecord, read_annotated
from cascadezoo.coco.segmentations import bitmap
from cascadezoo.drawing.picture import draw
from cascadezoo.drawing.rows import Row
from cascadezoo.drawing.style import Style
from cascadezoo.ops.mask_paste import Crop


def annotated(data: CocoDataset, index: int, **style: Any) -> Image.Image:
    """Image ``index`` of a data set with what is annotated on it: the truth, to be set beside ``Detections.plot``.

    Args:
        style: as ``Style`` takes it.

    Raises UnreadableImage, MissingResource, BadAnnotations where the image is not of its annotated size, and
    UsageError.
    """
    record = data.record(index)
    pixels = read_annotated(record.path, record.height, record.width)
    return draw(pixels, rows_of(record, data.categories), Style(**style))


def rows_of(record: ImageRecord, categories: Categories) -> Iterator[Row]:
    """The objects of an image, to draw; crowds say so."""
    for box, label, segmentation, is_crowd in zip(
        record.boxes.tolist(), record.labels.tolist(), record.segmentations, record.crowd.tolist(), strict=True
    ):
        crop = None
        if segmentation is not None:
            crop = Crop(0, 0, torch.from_numpy(bitmap(segmentation, record.height, record.width)).bool())
        yield Row(categories[label] + " (crowd)" * is_crowd, None, label, (box[0], box[1], box[2], box[3]), crop)
