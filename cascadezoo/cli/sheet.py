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
_MOST = 480  # pixels, width and height of a picture
_GAP = 8
_GROUND = (255, 255, 255)


def sheet(data: CocoDataset) -> Image.Image:
    """At most twelve images, evenly spread over those with objects, or over all where none has any.

    Raises UnreadableImage naming an image that cannot be decoded.
    """
    with_objects = data.objects.nonzero()[0].tolist() or list(range(len(data)))
    count = min(len(with_objects), _COLUMNS * _ROWS)
    pictures = [_picture(data, with_objects[cell * len(with_objects) // count]) for cell in range(count)]
    width = max(picture.width for picture in pictures) + _GAP
    height = max(picture.height for picture in pictures) + _GAP
    columns = min(count, _COLUMNS)
    whole = Image.new("RGB", (columns * width - _GAP, -(-count // columns) * height - _GAP), _GROUND)
    for cell, picture in enumerate(pictures):
        whole.paste(picture, (cell % columns * width, cell // columns * height))
    return whole


def _picture(data: CocoDataset, index: int) -> Image.Image:
    record = data.record(index)
    picture = draw(read_annotated(record.path, record.height, record.width), _rows(record, data))
    picture.thumbnail((_MOST, _MOST))
    return picture


def _rows(record: ImageRecord, data: CocoDataset) -> Iterator[Row]:
    for box, label, segmentation, is_crowd in zip(
        record.boxes.tolist(), record.labels.tolist(), record.segmentations, record.crowd.tolist(), strict=True
    ):
        name = data.categories[label] + " (crowd)" * is_crowd
        crop = None
        if segmentation is not None:
            crop = Crop(0, 0, torch.from_numpy(bitmap(segmentation, record.height, record.width)).bool())
        yield Row(name, None, label, (box[0], box[1], box[2], box[3]), crop)
