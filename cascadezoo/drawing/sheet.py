"""Pictures beside each other."""

from collections.abc import Sequence

from PIL import Image, ImageDraw

from cascadezoo.drawing.style import load_font
from cascadezoo.errors import UsageError
from cascadezoo.text import printable

_GAP = 8  # pixels
_GROUND, _INK = (255, 255, 255), (34, 34, 34)


def side_by_side(
    pictures: Sequence[Image.Image], titles: Sequence[str] | None = None, *, columns: int | None = None
) -> Image.Image:
    """The pictures in rows of ``columns`` (None: all in one row), each below its title, on white, RGB.

    They stay as large as they are; ``picture.thumbnail`` makes one smaller.  Raises ``UsageError`` where there is no
    picture, or not a title for each.
    """
    if not pictures:
        raise UsageError("no pictures to set side by side: give one or more")
    if titles is not None and len(titles) != len(pictures):
        raise UsageError(f"{len(titles)} titles for {len(pictures)} pictures: give each its own")
    if columns is not None and columns < 1:
        raise UsageError(f"{columns} columns: give 1 or more")
    columns = min(columns or len(pictures), len(pictures))
    wide, high = max(each.width for each in pictures), max(each.height for each in pictures)
    size = min(max(wide / 30, 12), 64)
    font, head = load_font(None, size), round(1.8 * size) if titles else 0
    rows = -(-len(pictures) // columns)
    whole = Image.new("RGB", (columns * (wide + _GAP) - _GAP, rows * (head + high + _GAP) - _GAP), _GROUND)
    pen = ImageDraw.Draw(whole)
    for number, picture in enumerate(pictures):
        left, top = number % columns * (wide + _GAP), number // columns * (head + high + _GAP)
        if titles:
            pen.text((left, top + head / 2), printable(titles[number]), fill=_INK, font=font, anchor="lm")
        whole.paste(picture, (left, top + head))
    return whole
