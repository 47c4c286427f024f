"""Pixel values of any accepted type as levels of 8 bits: one rule for files, PIL images, arrays and tensors."""

import logging
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from cascadezoo.errors import UnreadableImage

Pixels: TypeAlias = npt.NDArray[np.uint8]

_OVERSHOOT = 0.100001  # a tenth, of floats beyond 0..1: what a bicubic resize leaves at edges is cut off
_LITTLE = 2**12  # 16-bit levels: a sixteenth of their range, and 16 shades of what is left of them

_log = logging.getLogger("cascadezoo")


def rgb(values: npt.NDArray[Any], what: str, expected: str) -> Pixels:
    """Values (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) as contiguous uint8 (H, W, 3), themselves where they are that.

    uint8 stays; of uint16 the upper 8 bits are kept, and a warning is logged where the values use under a sixteenth of
    their range; of bool, True is 255; floats in 0..1 are rounded to 255 levels, up to 0.1 outside they are clamped.
    Grey is repeated; a fourth channel, transparency, is dropped.

    ``what`` is how a message calls the image, ``expected`` what it asks for instead.  Raises UnreadableImage.
    """
    channels = 1 if values.ndim == 2 else values.shape[2] if values.ndim == 3 else 0
    reduce = _REDUCE.get((values.dtype.kind, values.dtype.itemsize if values.dtype.kind == "u" else 0))
    if channels not in (1, 3, 4) or reduce is None:
        raise UnreadableImage(f"{what} is no image; {expected}")
    if 0 in values.shape:
        raise UnreadableImage(f"{what} has {values.shape[0]}x{values.shape[1]} pixels (height x width): no image")
    levels = reduce(values[..., :3] if channels == 4 else values, what)
    if channels == 1:
        levels = np.repeat(levels.reshape(*levels.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(levels)


def _as_it_is(levels: npt.NDArray[Any], _: str) -> Pixels:
    return levels


def _upper_byte(levels: npt.NDArray[Any], what: str) -> Pixels:
    low, high = int(levels.min()), int(levels.max())
    if 0 < (high - low or high) < _LITTLE:  # one level alone counts from 0
        _log.warning(
            "%s has 16-bit levels %d..%d, under a sixteenth of 0..65535, and will look nearly of one shade, as the "
            "upper 8 bits are kept: scale it to 8 bits first, for levels of 12 bits with (levels >> 4).astype('uint8')",
            what, low, high,
        )  # fmt: skip
    return (levels >> 8).astype(np.uint8)


def _black_and_white(truth: npt.NDArray[Any], _: str) -> Pixels:
    return truth.astype(np.uint8) * np.uint8(255)


def _from_unit_range(values: npt.NDArray[Any], what: str) -> Pixels:
    with np.errstate(over="ignore"):  # to infinity, which is refused
        values = values.astype(np.float32, copy=False)
    low, high = float(values.min()), float(values.max())
    if not (low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT):  # also when either is NaN
        raise UnreadableImage(f"{what} has values {low:.6g}..{high:.6g}; scale it to 0..1, or use uint8")
    levels: Pixels = np.rint(np.clip(values, 0, 1) * np.float32(255)).astype(np.uint8)
    return levels


# NumPy's kind of type and, of unsigned numbers, their bytes
_REDUCE: dict[tuple[str, int], Callable[[npt.NDArray[Any], str], Pixels]] = {
    ("u", 1): _as_it_is,
    ("u", 2): _upper_byte,
    ("b", 0): _black_and_white,
    ("f", 0): _from_unit_range,
}
