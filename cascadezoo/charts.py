"""Charts as pictures, drawn with Pillow: lines over two axes, and a matrix of shares.

Text from anywhere is made printable before it is drawn.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from cascadezoo.text import printable

_SHARP = 2  # drawn so many times larger, then reduced
_INK, _FAINT, _PAPER, _NOTHING = (34, 34, 34), (222, 222, 222), (255, 255, 255), (244, 244, 244)
_COLOURS = (
    (31, 119, 180), (214, 39, 40), (44, 160, 44), (255, 127, 14), (148, 103, 189), (23, 190, 207),
    (227, 119, 194), (140, 86, 75), (127, 127, 127), (188, 189, 34), (0, 0, 0), (90, 60, 160),
)  # fmt: skip
_Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

_PANEL = (1000, 400)  # width and height, pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 330, 44, 52  # round its plot; the legend is at the right
_LONGEST = 26  # letters of a name

MOST_LINES = len(_COLOURS)


class Line(NamedTuple):
    """One curve: its name in the legend, and its points; those that are not finite are left out."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


class Panel(NamedTuple):
    """Curves over one pair of axes, both from 0 to 1; at most ``MOST_LINES`` of them."""

    title: str
    x: str
    lines: Sequence[Line]


def line_chart(panels: Sequence[Panel]) -> Image.Image:
    """The panels one below the other, RGB."""
    width, height = _PANEL
    sheet = Image.new("RGB", (width, height * len(panels)), _PAPER)
    for row, panel in enumerate(panels):
        sheet.paste(_panel(panel), (0, row * height))
    return sheet


def matrix_chart(
    title: str, names: Sequence[str], shares: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]
) -> Image.Image:
    """A matrix (C, C) of ``shares``, 0..1, as colours, RGB; NaN is grey, with their ``counts`` (C, C).

    ``names`` of the rows, which are those of the columns.  The counts stand in the cells where the largest has room.
    """
    side = max(14, min(64, 1100 // len(names))) * _SHARP
    font = ImageFont.load_default(size=min(14 * _SHARP, side * 0.75))
    heading = ImageFont.load_default(size=14 * _SHARP)
    shown = [_short(name) for name in names]
    margin = round(max(map(font.getlength, shown))) + 16 * _SHARP
    top = 44 * _SHARP + margin
    width = max(margin + side * len(shown), round(heading.getlength(title)) + 12 * _SHARP)
    size = (width + 20 * _SHARP, top + side * len(shown) + 20 * _SHARP)
    image = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(image)
    pen.text((12 * _SHARP, 12 * _SHARP), printable(title), fill=_INK, font=heading)
    has_room = font.getlength(str(counts.max())) < side - 4 * _SHARP
    for row, name in enumerate(shown):
        pen.text((margin - 8 * _SHARP, top + (row + 0.5) * side), name, fill=_INK, font=font, anchor="rm")
        _upright(image, name, (margin + round((row + 0.5) * side), top - 8 * _SHARP), font)
    for (row, column), share in np.ndenumerate(shares):
        corner = margin + column * side, top + row * side
        pen.rectangle([*corner, corner[0] + side - _SHARP, corner[1] + side - _SHARP], fill=_shade(float(share)))
        if counts[row, column] and has_room:
            ink = _PAPER if share > 0.5 else _INK
            middle = corner[0] + side / 2, corner[1] + side / 2
            pen.text(middle, str(counts[row, column]), fill=ink, font=font, anchor="mm")
    frame = side * len(shown)
    pen.rectangle([margin, top, margin + frame, top + frame], outline=_FAINT, width=_SHARP)
    return image.resize((size[0] // _SHARP, size[1] // _SHARP), Image.Resampling.LANCZOS)


def _panel(panel: Panel) -> Image.Image:
    width, height = _PANEL
    image = Image.new("RGB", (width * _SHARP, height * _SHARP), _PAPER)
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=14 * _SHARP)

    def across(x: float) -> float:
        return (_LEFT + x * (width - _LEFT - _RIGHT)) * _SHARP

    def down(y: float) -> float:
        return (height - _BOTTOM - y * (height - _TOP - _BOTTOM)) * _SHARP

    pen.text((across(0), 12 * _SHARP), printable(panel.title), fill=_INK, font=font)
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        pen.line([(across(0), down(tick)), (across(1), down(tick))], fill=_FAINT, width=_SHARP)
        pen.text((across(0) - 8 * _SHARP, down(tick)), f"{tick:g}", fill=_INK, font=font, anchor="rm")
        pen.line([(across(tick), down(0)), (across(tick), down(0) + 5 * _SHARP)], fill=_INK, width=_SHARP)
        pen.text((across(tick), down(0) + 8 * _SHARP), f"{tick:g}", fill=_INK, font=font, anchor="mt")
    pen.text((across(0.5), down(0) + 28 * _SHARP), printable(panel.x), fill=_INK, font=font, anchor="mt")
    pen.rectangle([across(0), down(1), across(1), down(0)], outline=_INK, width=_SHARP)
    for number, (line, colour) in enumerate(zip(panel.lines, _COLOURS, strict=False)):
        shown = [(across(x), down(y)) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(y)]
        if len(shown) > 1:
            pen.line(shown, fill=colour, width=2 * _SHARP, joint="curve")
        top, edge = (_TOP + number * 24 + 8) * _SHARP, (width - _RIGHT + 16) * _SHARP
        pen.line([(edge, top), (edge + 22 * _SHARP, top)], fill=colour, width=4 * _SHARP)
        pen.text((edge + 30 * _SHARP, top), printable(line.name), fill=_INK, font=font, anchor="lm")
    return image.resize(_PANEL, Image.Resampling.LANCZOS)


def _upright(image: Image.Image, text: str, foot: tuple[int, int], font: _Font) -> None:
    """Text that runs upwards, centred over ``foot``."""
    left, top, right, bottom = (round(value) for value in font.getbbox(text))
    strip = Image.new("RGB", (max(right - left, 1), max(bottom - top, 1)), _PAPER)
    ImageDraw.Draw(strip).text((-left, -top), text, fill=_INK, font=font)
    strip = strip.transpose(Image.Transpose.ROTATE_90)
    image.paste(strip, (foot[0] - strip.width // 2, foot[1] - strip.height))


def _short(name: str) -> str:
    text = printable(name)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _shade(share: float) -> tuple[int, int, int]:
    """From white to dark blue."""
    if math.isnan(share):
        return _NOTHING
    light, dark = (255, 255, 255), (8, 48, 107)
    red, green, blue = (round(a + (b - a) * min(max(share, 0), 1)) for a, b in zip(light, dark, strict=True))
    return red, green, blue
