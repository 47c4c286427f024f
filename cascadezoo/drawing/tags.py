"""Tags: the name and score of what was found, on a ground of its colour."""

import logging
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from PIL import Image, ImageDraw

from cascadezoo.drawing.colors import darker, ink_on
from cascadezoo.drawing.places import Map
from cascadezoo.drawing.rows import Box, Color, Row
from cascadezoo.drawing.style import Font, Measures, load_font
from cascadezoo.text import printable

_LONGEST = 100  # letters of a name
_NEUTRAL = (48, 48, 48)  # of the tag that counts the others
_WIDEST = 14  # letters' heights, or half of the picture: a longer tag is shortened
_UNASSIGNED = "\U0010ffff"  # no font has it: it looks like all that a font has not

_log = logging.getLogger("cascadezoo")


class _Tag(NamedTuple):
    left: int
    top: int
    text: str
    color: Color


def draw_tags(
    picture: Image.Image, rows: Sequence[Row], boxes: Sequence[Box], colors: Sequence[Color], sizes: Measures, most: int
) -> None:
    """Tag at most ``most`` of the rows, the best of which come first, and count the others.

    A row is not tagged where its tag would lie over another or over a small object.

    Args:
        boxes: of the rows, in pixels of the picture.
    """
    pen = ImageDraw.Draw(picture)
    cells = Map((picture.height, picture.width), sizes.tag_height, boxes, sizes.line)
    note = cells.note(_width(_others(len(rows)), sizes), sizes.tag_height)  # kept free, whatever it will say
    tags = list(_placed(cells, rows, colors, sizes, most, picture.width))
    if note and len(tags) < len(rows):
        tags.append(_Tag(*note, _others(len(rows) - len(tags)), _NEUTRAL))
    for tag in tags:
        _draw(pen, tag, sizes)


def warn_of_missing(font: str | os.PathLike[str] | None, rows: Sequence[Row]) -> None:
    """Log, once for each, which names have letters that the font lacks: these are drawn as empty boxes."""
    for name in {row.name for row in rows if not row.name.isascii()}:
        _warn(None if font is None else os.fspath(font), name[:_LONGEST])


def _placed(
    cells: Map, rows: Sequence[Row], colors: Sequence[Color], sizes: Measures, most: int, width: int
) -> Iterator[_Tag]:
    widest = min(width, max(width // 2, round(_WIDEST * sizes.font_size)))
    for index, (row, color) in enumerate(zip(rows, colors, strict=True)):
        if most == 0:
            return
        text = _text(row, widest, sizes)
        if place := cells.tag(index, _width(text, sizes), sizes.tag_height):
            yield _Tag(*place, text, color)
            most -= 1


def _others(count: int) -> str:
    return f"+{count} more"


def _text(row: Row, widest: int, sizes: Measures) -> str:
    """The name, shortened to fit, and the score."""
    score = "" if row.score is None else f" {row.score:.2f}"
    name = printable(row.name)
    text, kept = name + score, min(len(name), _LONGEST + 1)
    while kept > 1 and (len(name) > kept > _LONGEST or _width(text, sizes) > widest):
        kept -= 1
        text = f"{name[:kept].rstrip()}…{score}"
    return text


def _width(text: str, sizes: Measures) -> int:
    return round(sizes.font.getlength(text)) + 2 * sizes.margin


def _draw(pen: ImageDraw.ImageDraw, tag: _Tag, sizes: Measures) -> None:
    right, bottom = tag.left + _width(tag.text, sizes) - 1, tag.top + sizes.tag_height - 1
    pen.rectangle((tag.left, tag.top, right, bottom), tag.color, darker(tag.color), max(1, sizes.pad // 4))
    corner = (tag.left + sizes.margin, tag.top + sizes.pad - sizes.text_top)
    pen.text(corner, tag.text, fill=ink_on(tag.color), font=sizes.font)


@lru_cache(maxsize=1024)
def _warn(font: str | None, name: str) -> None:
    face = load_font(font, 20)
    if missing := "".join(dict.fromkeys(letter for letter in name if not _has(face, letter))):
        what = "Pillow's own font" if font is None else f"the font {font}"
        _log.warning(
            "%s lacks %s of the name %s, drawn as empty boxes: give a TrueType file (font=)", what, missing, name
        )


def _has(face: Font, letter: str) -> bool:
    return bytes(face.getmask(letter)) != bytes(face.getmask(_UNASSIGNED))
