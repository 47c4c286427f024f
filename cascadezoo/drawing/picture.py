"""Detections drawn on their image: masks, boxes and tags, sized to the picture."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from cascadezoo.drawing.colors import colors_of
from cascadezoo.drawing.outlines import Curve, outlines_of
from cascadezoo.drawing.rows import Box, Color, Row, area
from cascadezoo.drawing.style import Measures, Style, measures
from cascadezoo.drawing.tags import draw_tags, warn_of_missing
from cascadezoo.errors import UsageError
from cascadezoo.image_files import most_pixels
from cascadezoo.images import Pixels

_PLAIN = Style()
_PARTS = 12  # a line is at most one of so many parts of a small object's width
_EXACT = 0.1  # pixels that a curve may be off
_SHIFT = 4  # OpenCV's coordinates are sixteenths of a pixel


def draw(image: Pixels, rows: Iterable[Row], style: Style = _PLAIN) -> Image.Image:
    """Draw detections on their image, uint8 (H, W, 3) RGB: a picture of that size, or ``style.scale`` times it.

    Masks are tinted and outlined, boxes drawn inside the image, small ones over large ones, and each is tagged with its
    name and score, the best first: while a tag has a place in which it covers no other tag and no small object.  Those
    without are counted in a tag at the edge.  The image given is left as it is.

    Raises ``UsageError`` where ``style.scale`` makes more pixels than an image may have.
    """
    found, outlines = [], []
    for row in rows:  # one mask at a time is held
        found.append(row._replace(crop=None))
        outlines.append(outlines_of(row.crop) if style.masks and row.crop is not None else [])
    ranked = sorted(range(len(found)), key=lambda index: (not found[index].marked, -(found[index].score or 0)))
    found, outlines = [found[index] for index in ranked], [outlines[index] for index in ranked]
    canvas = _canvas(image, style.scale)
    sizes = measures(style, *canvas.shape[:2])
    across, down = canvas.shape[1] / image.shape[1], canvas.shape[0] / image.shape[0]
    boxes = [(x1 * across, y1 * down, x2 * across, y2 * down) for x1, y1, x2, y2 in (row.box for row in found)]
    colors = colors_of([row.label for row in found], boxes, style.color_by)
    order = sorted(range(len(found)), key=lambda index: (-area(boxes[index]), -index))  # the best of a size at last
    for index in order:
        curves = [curve * (across, down) - 0.5 for curve in outlines[index]]
        _draw_mask(canvas, curves, colors[index], style.opacity, sizes)
    if style.boxes:
        for index in order:
            _draw_box(canvas, boxes[index], colors[index], sizes)
    picture = Image.fromarray(canvas)
    if style.labels and found:
        warn_of_missing(style.font, found)
        draw_tags(picture, found, boxes, colors, sizes, len(found) if style.max_tags is None else style.max_tags)
    return picture


def _canvas(image: Pixels, scale: float) -> Pixels:
    if scale == 1:
        return image.copy()
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    if scale > 1 and height * width > most_pixels():
        raise UsageError(
            f"scale {scale:g} makes a picture of {width} x {height} pixels, beyond {most_pixels():,}: lower it"
        )
    resized: Pixels = cv2.resize(
        image, (width, height), interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    ).astype(np.uint8, copy=False)
    return resized


def _draw_mask(canvas: Pixels, curves: Sequence[Curve], color: Color, opacity: float, sizes: Measures) -> None:
    """``curves``: in pixels of the canvas, whose centres are whole numbers."""
    if not curves:
        return
    lines = [_few_points(curve) for curve in curves]
    left, top, width, height = cv2.boundingRect(np.concatenate(lines))
    left, top, right, bottom = max(left, 0), max(top, 0), left + width, top + height
    window = canvas[top : bottom + 1, left : right + 1]
    inside = np.zeros(window.shape[:2], np.uint8)
    cv2.fillPoly(inside, [_fixed(line - (left, top)) for line in lines], 255, shift=_SHIFT)
    tinted = np.arange(256)[:, None] * (1 - opacity) + np.array(color) * opacity  # each level of grey
    cv2.copyTo(cv2.LUT(window, tinted.astype(np.uint8)[None]), inside, window)
    thickness = _thin(sizes.outline, min(width, height))
    cv2.polylines(canvas, [_fixed(line) for line in lines], True, color, thickness, cv2.LINE_AA, _SHIFT)


def _draw_box(canvas: Pixels, box: Box, color: Color, sizes: Measures) -> None:
    height, width = canvas.shape[:2]
    x1, x2 = (round(min(max(x, 0), width - 1)) for x in box[0::2])
    y1, y2 = (round(min(max(y, 0), height - 1)) for y in box[1::2])
    thickness = _thin(sizes.line, min(x2 - x1, y2 - y1))
    cv2.rectangle(canvas, (x1, y1), (x2, y2), color, thickness)


def _thin(line: int, width: float) -> int:
    """A line's width on an object of such a width, pixels."""
    return max(1, min(line, int(width / _PARTS)))


def _few_points(curve: Curve) -> npt.NDArray[np.float32]:
    """The same curve, (K, 1, 2), of fewer points where it is nearly straight."""
    return cv2.approxPolyDP(curve.astype(np.float32), _EXACT, True).astype(np.float32, copy=False)


def _fixed(curve: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    fixed: npt.NDArray[np.int32] = (curve * 2**_SHIFT).round().astype(np.int32)
    return fixed
