"""A model of the zoo as a ``Model`` of FiftyOne (1.22), for ``dataset.apply_model``.

Importing this module without FiftyOne raises MissingResource.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from cascadezoo.detections import Detection, Detections
from cascadezoo.detector import Detector
from cascadezoo.errors import MissingResource

try:
    from fiftyone.core import labels
    from fiftyone.core.models import Model
except ImportError as error:
    raise MissingResource(f"FiftyOne cannot be imported ({error}): pip install fiftyone") from error


class ZooModel(Model):
    """FiftyOne's view of a ``Detector``: RGB arrays in, its ``Detections`` out, with masks where the model has them.

    The images of one call go through the network together where their padded sizes are equal.
    """

    media_type = "image"
    ragged_batches = False  # a list of images of different sizes is welcome
    transforms = None  # FiftyOne's: the model resizes and normalises by itself
    preprocess = False
    config = None  # asked for a confidence threshold or classes, FiftyOne looks here before it filters by itself

    def __init__(self, model: Detector) -> None:
        self.model = model

    def predict(self, arg: npt.NDArray[np.uint8]) -> labels.Detections:
        """Detect on an (H, W, 3) RGB image."""
        return self.predict_all([arg])[0]

    def predict_all(self, args: Iterable[npt.NDArray[np.uint8]]) -> list[labels.Detections]:
        """Detect on (H, W, 3) RGB images of any sizes."""
        images = list(args)
        found = self.model.predict(images, batch_size=max(1, len(images)))
        return [labels.Detections(detections=[_label(one, each) for one in each]) for each in found]


def _label(one: Detection, found: Detections) -> labels.Detection:
    """``bounding_box``: x, y, width and height in fractions of the image, within it; ``mask``: the box's pixels."""
    height, width = found.image_size
    x1, x2 = (min(max(x, 0.0), width) for x in (one.box[0], one.box[2] + found.extent))
    y1, y2 = (min(max(y, 0.0), height) for y in (one.box[1], one.box[3] + found.extent))
    mask = one.mask
    return labels.Detection(
        label=one.name,
        bounding_box=[x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height],
        confidence=one.score,
        mask=None if mask is None else mask[_pixels(y1, y2, height), _pixels(x1, x2, width)].cpu().numpy(),
    )


def _pixels(start: float, stop: float, side: int) -> slice:
    """The pixels from one edge to another, truncated as FiftyOne does where it draws a mask; at least one."""
    first = min(int(start), side - 1)
    return slice(first, max(int(stop), first + 1))
