"""A sheet of pictures: a few images of a data set with what is annotated on them."""

from collections.abc import Iterator

import torch
from PIL import Image

from cascadezoo.coco.dataset import CocoDataset, ImageRecord
from cascadezoo.coco.segmentations import bitmap
from cascadezoo.detecting import read_annotated
from cascadezoo.drawing import Row, draw
from cascadezoo.ops.mask_paste import Crop

_COLUMNS, _ROWS = 4, 3
_CELL = 480  # pixels, width and height
_GROUND = (255, 255, 255)


def sheet(data: CocoDataset) -> Image.Image:
    """At most twelve images, evenly spread over those with objects, or over all where none has any.

    Raises UnreadableImage naming an image that cannot be decoded.
    """
    with_objects = data.objects.nonzero()[0].tolist() or list(range(len(data)))
    count = min(len(with_objects), _COLUMNS * _ROWS)
    rows = -(-count // _COLUMNS)
    whole = Image.new("RGB", (min(count, _COLUMNS) * _CELL, rows * _CELL), _GROUND)
    for cell in range(count):
        record = data.record(with_objects[cell * len(with_objects) // count])
        picture = draw(read_annotated(record.path, record.height, record.width), _rows(record, data))
        picture.thumbnail((_CELL, _CELL))
        whole.paste(picture, (cell % _COLUMNS * _CELL, cell // _COLUMNS * _CELL))
    return whole


def _rows(record: ImageRecord, data: CocoDataset) -> Iterator[Row]:
    for box, label, segmentation, is_crowd in zip(
        record.boxes.tolist(), record.labels.tolist(), record.segmentations, record.crowd.tolist(), strict=True
    ):
        name = data.categories[label] + " (crowd)" * is_crowd
        crop = None
        if segmentation is not None:
            crop = Crop(0, 0, torch.from_numpy(bitmap(segmentation, record.height, record.width)).bool())
        yield Row(name, None, label, (box[0], box[1], box[2], box[3]), crop)
