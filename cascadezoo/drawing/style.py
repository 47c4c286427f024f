"""How detections are drawn: what people ask for, and what becomes of it in the pixels of one picture."""

import math
import os
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple, TypeAlias

from PIL import ImageFont

from cascadezoo.errors import UsageError

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont
ColorBy: TypeAlias = Literal["class", "instance"]

_COLOR_BY = ("class", "instance")
_LARGEST = 1000  # pixels: a line or a letter beyond it is a mistake
_MOST_SCALE = 16


@dataclass(frozen=True, kw_only=True)
class Style:
    """What is drawn, and how.  Sizes that are not given follow the picture's.

    Attributes:
        boxes, masks, labels: whether each of these is drawn.
        opacity: of the tint of a mask, 0..1; its outline is always opaque.
        line_width: of a box, pixels of the picture; less on small objects.  The outline of a mask has three quarters of
            it.
        font_size: of the tags, pixels of the picture.
        max_tags: at most so many tags, those of the best; the other detections are counted ("+12 more").  None: as
            many tags as have room.
        color_by: ``"class"``, a hue for each class and shades of it for neighbours, or ``"instance"``, a hue for each
            detection.
        scale: the sides of the picture in proportion to the image's.
        font: a TrueType or OpenType file; None: Pillow's own font, which has no letters but those of English.

    Raises ``UsageError`` for a value out of range and a font that cannot be opened.
    """

    boxes: bool = True
    masks: bool = True
    labels: bool = True
    opacity: float = 0.45
    line_width: int | None = None
    font_size: float | None = None
    max_tags: int | None = None
    color_by: ColorBy = "class"
    scale: float = 1
    font: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        _require("opacity", self.opacity, 0, 1)
        _require("scale", self.scale, 1 / _LARGEST, _MOST_SCALE)
        if self.line_width is not None:
            _require("line_width", self.line_width, 1, _LARGEST, whole=True)
        if self.font_size is not None:
            _require("font_size", self.font_size, 4, _LARGEST)
        if self.max_tags is not None:
            _require("max_tags", self.max_tags, 0, 2**31, whole=True)
        if self.color_by not in _COLOR_BY:
            raise UsageError(f"color_by {self.color_by!r}: give {' or '.join(map(repr, _COLOR_BY))}")
        if self.font is not None:
            load_font(self.font, 10)


class Measures(NamedTuple):
    """The sizes in one picture, pixels."""

    line: int  # of a box
    outline: int  # of a mask
    font: Font
    font_size: float
    margin: int  # of a tag, at both ends of its text
    pad: int  # above it and below
    text_top: int  # from the pen's position to the highest letter
    text_height: int  # from there to the lowest

    @property
    def tag_height(self) -> int:
        """Of a tag, with its margins."""
        return self.text_height + 2 * self.pad


def measures(style: Style, height: int, width: int) -> Measures:
    """The sizes in a picture of ``height`` x ``width`` pixels."""
    side = math.sqrt(height * width)
    size = style.font_size or min(max(7 + side / 100, 10), 64)
    line = style.line_width or min(round(1 + side / 450), 12)
    font = load_font(style.font, size)
    _, top, _, bottom = (round(value) for value in font.getbbox("Tgj"))
    return Measures(
        line=line,
        outline=max(1, round(line * 3 / 4)),
        font=font,
        font_size=size,
        margin=max(2, round(size / 6)),
        pad=max(1, round(size / 10)),
        text_top=top,
        text_height=bottom - top,
    )


def load_font(path: str | os.PathLike[str] | None, size: float) -> Font:
    """The font in a file, or Pillow's own; raises ``UsageError`` for a file that is none."""
    if path is None:
        return ImageFont.load_default(size)
    try:
        return ImageFont.truetype(os.fspath(path), size)
    except OSError as error:
        raise UsageError(f"font {path} cannot be opened ({error}): give a TrueType or OpenType file") from error


def _require(name: str, value: Any, low: float, high: float, *, whole: bool = False) -> None:
    number = isinstance(value, Integral if whole else Real)
    if not number or isinstance(value, bool) or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise UsageError(f"{name} {value!r}: give {kind} from {low:g} to {high:g}")
