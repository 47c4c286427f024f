"""The picture on a card: what the weights to be published find on an image."""

import io
from pathlib import Path

from cascadezoo.images import read_image
from cascadezoo.loading import load
from cascadezoo.manifest import ZooEntry

_SIDE = 1280  # pixels, at most
_SURE = 0.5  # the score below which a detection is not drawn


def picture_of(entry: ZooEntry, weights: Path, image: Path) -> bytes:
    """``image`` with what the weights of ``entry`` find on it, as a JPEG file of at most 1280 pixels a side.

    Raises UnreadableImage or MissingResource for the image, and what ``cascadezoo.load`` raises.
    """
    pixels = read_image(image)
    found = load(entry.name, weights=weights).predict(pixels)
    drawn = found[found.scores >= _SURE].plot(pixels, scale=min(1, _SIDE / max(found.image_size)))
    drawn.save(file := io.BytesIO(), "JPEG", quality=90)
    return file.getvalue()
