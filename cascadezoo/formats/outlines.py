"""One outline of several, for formats in which an object has no more than one."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Outline = npt.NDArray[np.float64]  # (P, 2) x and y, closed from the last point to the first

_AT_ONCE = 2**20  # distances that are in memory together


def one_outline(outlines: Sequence[Outline]) -> Outline:
    """One outline that runs along each of the given ones: over to the next where both are nearest, and back there.

    The way over is gone twice and has no area.  Filled by the even-odd rule it is the parts less their holes, whichever
    of the outlines are holes.
    """
    joined, *others = outlines
    for other in others:
        i, j = _nearest(joined, other)
        joined = np.concatenate((joined[: i + 1], other[j:], other[: j + 1], joined[i:]))
    return joined


def _nearest(one: Outline, other: Outline) -> tuple[int, int]:
    """The places of the two points, one of each, that are closest."""
    rows = max(1, _AT_ONCE // len(other))
    best, found = np.inf, (0, 0)
    for start in range(0, len(one), rows):
        squares = np.square(one[start : start + rows, None] - other).sum(axis=2)
        place = int(squares.argmin())
        if squares.flat[place] < best:
            best, (i, j) = squares.flat[place], divmod(place, len(other))
            found = start + i, j
    return found
