"""Detections drawn on their image: masks, boxes and tags, sized to the image.

Colours depend on the label alone, shaded a little from one detection of a label to the next, so that they stay the
same from picture to picture while neighbours differ.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from cascadezoo.images import Pixels
from cascadezoo.ops.mask_paste import Crop

Color: TypeAlias = tuple[int, int, int]

_MASK_OPACITY = 0.45
_GOLDEN_RATIO = 0.618034  # steps round the colour circle by it never come close to an earlier one
_SHADES = ((0.72, 0.0), (0.62, 0.035), (0.80, -0.035), (0.67, -0.02), (0.76, 0.02))  # lightness, turn of the hue

_OKLAB_TO_LMS = np.array(  # to cube roots of cone responses
    [
        [1, 0.3963377774, 0.2158037573],
        [1, -0.1055613458, -0.0638541728],
        [1, -0.0894841775, -1.2914855480],
    ]
)
_LMS_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


class Row(NamedTuple):
    """One detection, or annotated object, to draw."""

    name: str  # of its class
    score: float | None  # 0..1; None where it is annotated
    label: int  # 0..C-1
    box: tuple[float, float, float, float]  # xyxy, pixels
    crop: Crop | None  # its mask, inside the window that holds it


class _Style(NamedTuple):
    line: int  # of a box, pixels
    outline: int  # of a mask, pixels
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont
    margin: int  # round a tag's text
    text_top: int  # from the pen's position to the highest letter
    text_height: int  # from there to the lowest


class _Tag(NamedTuple):
    left: int
    top: int
    right: int
    bottom: int


def draw(image: Pixels, rows: Iterable[Row]) -> Image.Image:
    """Draw detections on their image, uint8 (H, W, 3) RGB; the best come out on top.

    Masks are tinted and outlined, boxes drawn inside the image, and each is tagged with its name and score; tags
    keep clear of each other while there is room.  The image given is left as it is.
    """
    canvas = image.copy()
    height, width = canvas.shape[:2]
    style = _style(height, width)
    ordered = sorted(rows, key=lambda row: row.score or 0)  # the worst first
    colors = _colors(ordered)
    for one, color in zip(ordered, colors, strict=True):
        if one.crop is not None:
            _draw_mask(canvas, one.crop, color, style)
    for one, color in zip(ordered, colors, strict=True):
        _draw_box(canvas, one, color, style)
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    texts = [one.name if one.score is None else f"{one.name} {one.score:.2f}" for one in ordered]
    tags = _place_tags(texts, ordered, (height, width), style)
    for text, tag, color in zip(texts, tags, colors, strict=True):
        _draw_tag(pen, text, tag, color, style)
    return picture


def _style(height: int, width: int) -> _Style:
    side = (height * width) ** 0.5
    font = ImageFont.load_default(size=min(max(side / 45, 10), 64))
    _, top, _, bottom = (round(value) for value in font.getbbox("Tgj"))
    return _Style(
        line=max(1, round(side / 320)),
        outline=max(1, round(side / 500)),
        font=font,
        margin=max(2, round(side / 220)),
        text_top=top,
        text_height=bottom - top,
    )


def _colors(rows: Sequence[Row]) -> list[Color]:
    """A colour per row, worst first; the nth best of a label takes the nth shade of its hue."""
    drawn: Counter[int] = Counter()
    colors = []
    for one in reversed(rows):
        lightness, turn = _SHADES[drawn[one.label] % len(_SHADES)]
        drawn[one.label] += 1
        colors.append(_from_oklch(lightness, 0.17, (0.08 + one.label * _GOLDEN_RATIO + turn) % 1))
    return colors[::-1]


def _from_oklch(lightness: float, chroma: float, turn: float) -> Color:
    """sRGB of a colour in Oklch (Ottosson 2020), where equal steps look equal; ``turn`` is the hue in 0..1."""
    a, b = chroma * np.cos(2 * np.pi * turn), chroma * np.sin(2 * np.pi * turn)
    linear = (_LMS_TO_RGB @ (_OKLAB_TO_LMS @ [lightness, a, b]) ** 3).clip(0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = (int(level) for level in (srgb * 255).round())
    return red, green, blue


def _ink(background: Color) -> Color:
    """Black or white, whichever stands out more (relative luminance as in WCAG 2)."""
    linear = [(level / 255) ** 2.2 for level in background]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if luminance > 0.18 else (255, 255, 255)


def _draw_mask(canvas: Pixels, crop: Crop, color: Color, style: _Style) -> None:
    mask = crop.mask.cpu().numpy()
    if not mask.any():
        return
    h, w = mask.shape
    region = canvas[crop.top : crop.top + h, crop.left : crop.left + w]
    tinted = np.arange(256)[:, None] * (1 - _MASK_OPACITY) + np.array(color) * _MASK_OPACITY  # each level of grey
    np.copyto(region, cv2.LUT(region, tinted.astype(np.uint8)[None]), where=mask[..., None])
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, contours, -1, color, style.outline, cv2.LINE_AA, offset=(crop.left, crop.top))


def _draw_box(canvas: Pixels, one: Row, color: Color, style: _Style) -> None:
    height, width = canvas.shape[:2]
    x1, x2 = (round(min(max(x, 0), width - 1)) for x in one.box[0::2])
    y1, y2 = (round(min(max(y, 0), height - 1)) for y in one.box[1::2])
    cv2.rectangle(canvas, (x1, y1), (x2, y2), color, style.line)


def _place_tags(texts: list[str], rows: list[Row], size: tuple[int, int], style: _Style) -> list[_Tag]:
    """Where each tag goes: the best detection chooses first, each the place that covers least of the tags so far."""
    h = style.text_height + 2 * style.margin
    widths = [round(style.font.getbbox(text)[2]) + 2 * style.margin for text in texts]
    # how many tags lie on each pixel, so that a place costs its own area however many tags there are; a tag may be
    # larger than the image
    tags_on = np.zeros((max(size[0], h), max(size[1], *widths, 1)), np.int32)
    placed: list[_Tag] = []
    for w, row in zip(reversed(widths), reversed(rows), strict=True):
        tag = min(_places(row, w, h, size), key=lambda place: int(_pixels(tags_on, place).sum()))
        _pixels(tags_on, tag)[:] += 1
        placed.append(tag)
    return placed[::-1]


def _pixels(plane: npt.NDArray[np.int32], tag: _Tag) -> npt.NDArray[np.int32]:
    return plane[tag.top : tag.bottom, tag.left : tag.right]


def _places(one: Row, w: int, h: int, size: tuple[int, int]) -> list[_Tag]:
    """On the box's top edge, inside it, below it; at its left, then at its right; always inside the image."""
    height, width = size
    x1, y1, x2, y2 = (round(value) for value in one.box)
    tags = []
    for left in (x1, x2 - w):
        for top in (y1 - h, y1, y2, y2 - h):
            left, top = max(0, min(left, width - w)), max(0, min(top, height - h))
            tags.append(_Tag(left, top, left + w, top + h))
    return tags


def _draw_tag(pen: ImageDraw.ImageDraw, text: str, tag: _Tag, color: Color, style: _Style) -> None:
    pen.rectangle((tag.left, tag.top, tag.right - 1, tag.bottom - 1), fill=color)
    corner = (tag.left + style.margin, tag.top + style.margin - style.text_top)
    pen.text(corner, text, fill=_ink(color), font=style.font)
