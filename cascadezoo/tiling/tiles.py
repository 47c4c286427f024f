"""Where the tiles of an image lie; no torch."""

from dataclasses import dataclass
from typing import NamedTuple

from cascadezoo.errors import UsageError, WrongType


class Window(NamedTuple):
    """A part of an image, in whole pixels: rows ``top`` to ``bottom``, columns ``left`` to ``right``, ends excluded."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Tiles:
    """How to detect on an image in tiles, each resized as the model resizes an image.

    Attributes:
        size: of a tile, in pixels of the image as given: of both sides, or (height, width).  Along a side of the image
            that is shorter, tiles are as long as that.
        overlap: pixels that neighbours share, at the least: an object that fits into it is whole in some tile.  None: a
            quarter of a tile's shorter side.
        whole: detect on the whole image too, for objects that no tile shows whole.

    Raises UsageError: a size below 1, or an overlap that is not below it; WrongType: other than whole numbers.
    """

    size: int | tuple[int, int]
    overlap: int | None = None
    whole: bool = True

    def __post_init__(self) -> None:
        sides = self.size if isinstance(self.size, tuple) else (self.size, self.size)
        given = sides if self.overlap is None else (*sides, self.overlap)
        if len(sides) != 2 or not all(isinstance(each, int) and not isinstance(each, bool) for each in given):
            raise WrongType(
                f"tiles of {self.size!r} with an overlap of {self.overlap!r}: give pixels, as whole "
                "numbers; the size of both sides, or (height, width)"
            )
        if min(sides) < 1:
            raise UsageError(f"tiles of {sides[0]} x {sides[1]} pixels: give a size of 1 or more")
        if self.overlap is not None and not 0 <= self.overlap < min(sides):
            raise UsageError(
                f"tiles of {sides[0]} x {sides[1]} pixels with an overlap of {self.overlap}: give one of 0 to "
                f"{min(sides) - 1}"
            )

    def windows(self, height: int, width: int) -> list[Window]:
        """What to detect on, of an image of this size: its tiles, row by row, as few as cover it with the overlap, all
        of one size, spread evenly; where there are several, and ``whole``, then the whole image."""
        sides = self.size if isinstance(self.size, tuple) else (self.size, self.size)
        overlap = min(sides) // 4 if self.overlap is None else self.overlap
        h, w = min(sides[0], height), min(sides[1], width)
        windows = [
            Window(left, top, left + w, top + h)
            for top in _starts(height, h, overlap)
            for left in _starts(width, w, overlap)
        ]
        return [*windows, Window(0, 0, width, height)] if self.whole and len(windows) > 1 else windows


def _starts(length: int, side: int, overlap: int) -> list[int]:
    """Where windows of ``side`` pixels begin along ``length``; neighbours share ``overlap`` or more."""
    room = length - side
    steps = -(-room // (side - overlap)) if room else 0
    return [room * step // max(1, steps) for step in range(steps + 1)]
