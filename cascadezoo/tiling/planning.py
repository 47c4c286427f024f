"""How images become detections by way of their tiles."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cascadezoo.detections import Detections
from cascadezoo.images import Pixels, read_image
from cascadezoo.predicting import Plan, all_or_raise, of_list
from cascadezoo.spec.conventions import Nms
from cascadezoo.threads import Share
from cascadezoo.tiling.seams import merged
from cascadezoo.tiling.tiles import Tiles


def tiled(
    planned: Callable[[int], Plan[Any, Detections]], tiles: Tiles, rule: Nms, most: int | None
) -> Plan[Pixels, Detections]:
    """A plan for images in tiles, one image after another; an image that one tile covers is detected on as it is.

    Args:
        planned: the plan for an image's tiles, of which there are so many.
        tiles: their size.
        rule: the model's suppression among the detections of one class.
        most: detections per image, the best; None: all that are left of those on its tiles.
    """

    def detect(images: Sequence[Pixels]) -> list[Detections]:
        return [_detections(pixels, planned, tiles, rule)[:most] for pixels in images]

    return Plan(read_image, detect, np.shape, 1, Share(1, planned(1).share.threads))


def _detections(pixels: Pixels, planned: Callable[[int], Plan[Any, Detections]], tiles: Tiles, rule: Nms) -> Detections:
    height, width = pixels.shape[:2]
    windows = tiles.windows(height, width)
    parts = [pixels[top:bottom, left:right] for left, top, right, bottom in windows]
    done = of_list(planned(len(parts)), parts)
    found = all_or_raise(done, False)
    return found[0] if len(found) == 1 else merged(found, windows, (height, width), rule)
