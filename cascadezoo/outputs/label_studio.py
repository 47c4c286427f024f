"""Label Studio's tasks: an image's address, and a prediction with a region for each detection.

Masks are regions of its brush, run lengths of an image of four channels.  The packing is that of thi.ng's ``rle-pack``
(https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack), which Label Studio reads: how many values there are
(32 bits); the bits of a value, less 1 (5); the bits that each of four kinds of length has, less 1 (4 each); then for
each run a 1, the kind of its length (2), its length less 1, and the value.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from cascadezoo.coco.categories import Categories
from cascadezoo.coco.rle import run_ends
from cascadezoo.files import whole_file
from cascadezoo.outputs.found import Found, Shown, Window
from cascadezoo.outputs.pictures import made, write_png

_CONTROL, _IMAGE = "label", "image"  # names in the configuration
_CHANNELS = 4
_LENGTH_BITS = (3, 4, 8, 16)
_LONGEST = [1 << bits for bits in _LENGTH_BITS[:-1]]  # of each kind; a longer one is of the last, or of several
_VALUE_BITS = 8
_LOCAL_FILES = "/data/local-files/?d="


def write_config(path: Path, categories: Categories, has_masks: bool) -> Path:
    """The labelling configuration of a project that takes such tasks."""
    tag = "BrushLabels" if has_masks else "RectangleLabels"
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in categories)
    text = (
        f'<View>\n  <Image name="{_IMAGE}" value="${_IMAGE}" zoom="true" zoomControl="true"/>\n'
        f'  <{tag} name="{_CONTROL}" toName="{_IMAGE}">\n{labels}  </{tag}>\n</View>\n'
    )
    with whole_file(path) as file:
        file.write(text.encode(errors="backslashreplace"))
    return path


def task_of(folder: Path, image: Shown, found: Sequence[Found], model: str) -> tuple[dict[str, Any], list[Path]]:
    """An image's task, and what was written for it: an image that is no file of its own, as PNG into ``folder``."""
    written = []
    if image.path is None and not _is_address(image.name):
        written.append(write_png(made(folder / "images") / f"{image.stem}.png", image.pixels))
    own = image.path or next(iter(written), None)
    address = image.name if own is None else _LOCAL_FILES + quote(own.as_posix())
    regions = [region for one in found for region in _regions(one, image)]
    prediction = {"model_version": model, "score": max((one.score for one in found), default=0.0), "result": regions}
    return {"data": {_IMAGE: address}, "predictions": [prediction]}, written


def _is_address(name: str) -> bool:
    return name.startswith(("http://", "https://"))


def _regions(one: Found, image: Shown) -> Iterator[dict[str, Any]]:
    """One region; none of an empty mask."""
    height, width = image.pixels.shape[:2]
    if one.rle is None:
        x, y, w, h = one.bbox
        box = {"x": 100 * x / width, "y": 100 * y / height, "width": 100 * w / width, "height": 100 * h / height}
        kind, value = "rectanglelabels", {**box, "rotation": 0}
    elif (window := one.window()) is not None:
        kind, value = "brushlabels", {"format": "rle", "rle": list(packed(window, height, width))}
    else:
        return
    yield {
        "id": f"{image.id}-{one.number}",
        "type": kind,
        "from_name": _CONTROL,
        "to_name": _IMAGE,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": one.score,
        "value": {**value, kind: [one.category]},
    }


def packed(window: Window, height: int, width: int) -> bytes:
    """A mask of (height, width) as Label Studio packs it: row by row, 255 in all four channels where it is set."""
    # down the columns of the mask turned over is along its rows
    ends = run_ends(window.mask.T, window.left, window.top, width, height)
    lengths = np.diff(ends, prepend=0) * _CHANNELS
    bits = [f"{height * width * _CHANNELS:032b}{_VALUE_BITS - 1:05b}", *(f"{size - 1:04b}" for size in _LENGTH_BITS)]
    for number, length in enumerate(lengths.tolist()):
        value = f"{255 * (number % 2):0{_VALUE_BITS}b}"
        while length > 0:
            kind = bisect_left(_LONGEST, length)
            taken = min(length, 1 << _LENGTH_BITS[kind])
            bits.append(f"1{kind:02b}{taken - 1:0{_LENGTH_BITS[kind]}b}{value}")
            length -= taken
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")
