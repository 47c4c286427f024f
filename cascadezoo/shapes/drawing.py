"""Drawing in integers: dice, outlines, textures and colours that come out the same on every machine.

Nothing here rounds a floating-point number at run time and nothing is left to a drawing library: a pixel belongs to a
shape when an integer inequality holds at its centre.  Shapes live in their own coordinates (u, v), turned with them,
inside the circle of radius ``UNIT`` about the origin.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Grid = npt.NDArray[np.int32]

UNIT = 1024
TURN = 256  # directions in a full turn
_COSINE = [round(UNIT * math.cos(2 * math.pi * k / TURN)) for k in range(TURN)]


class Dice:
    """Random whole numbers from a key of two 64-bit numbers: raw Philox words, whose values numpy promises to keep."""

    def __init__(self, first: int, second: int) -> None:
        self._bits = np.random.Philox(key=np.array([first, second], dtype=np.uint64), counter=0)

    def below(self, limit: int) -> int:
        """One of 0..limit-1."""
        return int(self._bits.random_raw()) % limit

    def between(self, low: int, high: int) -> int:
        """One of low..high, both included."""
        return low + self.below(high - low + 1)

    def one_in(self, count: int) -> bool:
        """True once in ``count`` times."""
        return self.below(count) == 0

    def levels(self, height: int, width: int) -> Grid:
        """(height, width) numbers of 0..255."""
        words = self._bits.random_raw(height * width) >> np.uint64(56)
        return words.astype(np.int32).reshape(height, width)


def turned(y: Grid, x: Grid, direction: int, size: int) -> tuple[Grid, Grid]:
    """(u, v) of half-pixel offsets ``y`` and ``x`` from the centre of a shape ``size`` pixels across, turned by
    ``direction``/TURN of a full turn."""
    cosine, sine = _COSINE[direction % TURN], _COSINE[(direction - TURN // 4) % TURN]
    return (cosine * x + sine * y) // size, (cosine * y - sine * x) // size


# shapes: (u, v) and a shape's own proportion 0..255 -> which points are inside


def ellipse(u: Grid, v: Grid, proportion: int) -> Mask:
    """From a circle to an ellipse 1.6 times as long as wide."""
    return u * u + (v * (UNIT + 2 * proportion) // UNIT) ** 2 <= UNIT**2


def rectangle(u: Grid, v: Grid, proportion: int) -> Mask:
    """From a square to a rectangle nearly twice as long as wide."""
    return (np.abs(u) <= 724 + proportion * 2 // 3) & (np.abs(v) <= 724 - proportion)


def triangle(u: Grid, v: Grid, proportion: int) -> Mask:
    """Of three equal sides."""
    return (v <= 512) & (np.abs(u) * 887 - v * 512 <= 512 * UNIT)


def star(u: Grid, v: Grid, proportion: int) -> Mask:
    """Five points: inside at least four of the five lines that make it."""
    outside = np.zeros(u.shape, dtype=np.int32)
    for x, y in ((0, 1024), (974, 316), (602, -828), (-602, -828), (-974, 316)):
        outside += u * x + v * y > 316 * UNIT
    return outside <= 1


def ring(u: Grid, v: Grid, proportion: int) -> Mask:
    """A disc with a hole of about half its width."""
    square = u * u + v * v
    return (square <= UNIT**2) & (square >= (480 + proportion // 2) ** 2)


def cross(u: Grid, v: Grid, proportion: int) -> Mask:
    """Two equal bars, thin or thick."""
    long, short = np.maximum(np.abs(u), np.abs(v)), np.minimum(np.abs(u), np.abs(v))
    return (long <= 960) & (short <= 230 + proportion // 2)


def heart(u: Grid, v: Grid, proportion: int) -> Mask:
    """A square on its corner and a half disc on each of its upper sides."""
    side, lowered = 806, v - 200
    arcs = (np.abs(u) - side // 2) ** 2 + (lowered + side // 2) ** 2 <= side * side // 2
    return arcs | (np.abs(u) + np.abs(lowered) <= side)


def crescent(u: Grid, v: Grid, proportion: int) -> Mask:
    """A disc without the part under another, smaller one."""
    return (u * u + v * v <= UNIT**2) & ((u - 500 - proportion // 2) ** 2 + v * v >= 830**2)


# textures: (u, v) and the distance after which they repeat -> how far each point is from one colour to another, 0..255


def plain(u: Grid, v: Grid, period: int) -> Grid:
    """One colour."""
    return np.zeros(u.shape, dtype=np.int32)


def stripes(u: Grid, v: Grid, period: int) -> Grid:
    """Two colours by turns."""
    return (u % period * 2 >= period) * np.int32(255)


def checks(u: Grid, v: Grid, period: int) -> Grid:
    """A chessboard."""
    return ((u % period * 2 >= period) ^ (v % period * 2 >= period)) * np.int32(255)


def dots(u: Grid, v: Grid, period: int) -> Grid:
    """Discs in rows."""
    x, y = u % period - period // 2, v % period - period // 2
    return (x * x + y * y <= period * period // 9) * np.int32(255)


def gradient(u: Grid, v: Grid, period: int) -> Grid:
    """From one colour to the other across the shape."""
    return np.clip((u + UNIT) * 255 // (2 * UNIT), 0, 255)


TEXTURES: tuple[Callable[[Grid, Grid, int], Grid], ...] = (plain, stripes, checks, dots, gradient)


def clouds(dice: Dice, height: int, width: int, cell: int) -> Grid:
    """(height, width) levels 0..255: random ones every ``cell`` pixels, blended between."""
    coarse = dice.levels(height // cell + 2, width // cell + 2)
    for axis, length in ((0, height), (1, width)):
        index, part = np.divmod(np.arange(length, dtype=np.int32), cell)
        part = part.reshape(-1, 1) if axis == 0 else part
        coarse = (np.take(coarse, index, axis) * (cell - part) + np.take(coarse, index + 1, axis) * part) // cell
    return coarse


def colour(dice: Dice, vivid: int) -> Grid:
    """A random RGB colour (3,): ``vivid`` 0 for greys, 255 for the full colours of the rainbow."""
    wheel = dice.below(6 * 256)
    pure = np.array([np.clip(abs((wheel + shift) % 1536 - 768) - 256, 0, 255) for shift in (0, 512, 1024)])
    light = dice.between(96, 255)
    return ((pure * vivid + 255 * (255 - vivid)) // 255 * light // 255).astype(np.int32)


def blend(one: Grid, other: Grid, mix: Grid) -> npt.NDArray[np.uint8]:
    """(H, W, 3) RGB from ``one`` colour (``mix`` 0) to the ``other`` (255)."""
    return (one + (other - one) * mix[..., None] // 255).astype(np.uint8)


def rim(mask: Mask) -> Mask:
    """The points of a mask (H, W) with a neighbour outside."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return mask & ~inner


def soften(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Each pixel of (H, W, 3) blended 1 : 2 : 1 with its neighbours, down and across, as a lens does."""
    padded = np.pad(image.astype(np.uint16), ((1, 1), (1, 1), (0, 0)), mode="edge")
    down = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    both = down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]
    return np.asarray((both + 8) // 16, dtype=np.uint8)
