"""A sheet of pictures: a few images of a data set with what is annotated on them."""

from PIL import Image

from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.drawing import side_by_side
from cascadezoo.drawing.truth import annotated

_COLUMNS, _ROWS = 4, 3
_MOST = 480  # pixels, width and height of a picture


def sheet(data: CocoDataset) -> Image.Image:
    """At most twelve images, evenly spread over those with objects, or over all where none has any.

    Raises UnreadableImage naming an image that cannot be decoded.
    """
    with_objects = data.objects.nonzero()[0].tolist() or list(range(len(data)))
    count = min(len(with_objects), _COLUMNS * _ROWS)
    shown = (with_objects[cell * len(with_objects) // count] for cell in range(count))
    return side_by_side([_picture(data, index) for index in shown], columns=_COLUMNS)


def _picture(data: CocoDataset, index: int) -> Image.Image:
    longer = max(int(data.heights[index]), int(data.widths[index]))
    return annotated(data, index, scale=min(1, _MOST / longer))
