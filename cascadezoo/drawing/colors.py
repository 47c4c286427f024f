"""Colours of equal strength: a hue for each class, the same in every picture, or for each detection.

Detections of a class have shades of its hue, so that neighbours can be told apart.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cascadezoo.drawing.rows import Box, Color
from cascadezoo.drawing.style import ColorBy

_CHROMA = 0.17
_FIRST_HUE = 0.08
_GOLDEN_RATIO = 0.618034  # steps round the colour circle by it never come close to an earlier one
_SHADES = ((0.72, 0.0), (0.60, 0.04), (0.83, -0.04), (0.66, -0.025), (0.78, 0.025))  # lightness, turn of the hue
_NEAR = 0.25  # of a box's sides: neighbours are those that it meets when it is larger by this, on every side

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


def colors_of(labels: Sequence[int], boxes: Sequence[Box], color_by: ColorBy) -> list[Color]:
    """A colour for each detection, the best first: the hue of its class, in the shade that fewest of its neighbours of
    that class have; or the hue of its rank."""
    if color_by == "instance":
        return [_color(rank, _SHADES[rank // 3 % 3][0]) for rank in range(len(labels))]
    members: dict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        members[label].append(index)
    colors: dict[int, Color] = {}
    for label, indices in members.items():
        shades = _shades(np.array([boxes[index] for index in indices], np.float64))
        colors |= {i: _color(label, *_SHADES[shade]) for i, shade in zip(indices, shades, strict=True)}
    return [colors[index] for index in range(len(labels))]


def ink_on(background: Color) -> Color:
    """Black or white, whichever stands out more (relative luminance as in WCAG 2)."""
    linear = [(level / 255) ** 2.2 for level in background]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if luminance > 0.18 else (255, 255, 255)


def darker(color: Color) -> Color:
    """Its rim, which stands out from grounds of the same colour."""
    red, green, blue = (level // 4 for level in color)
    return red, green, blue


def _shades(boxes: npt.NDArray[np.float64]) -> list[int]:
    """The shade of each box (N, 4) of a class: of those least frequent among the neighbours before it, the next in
    turn."""
    reach = (boxes[:, 2:] - boxes[:, :2]) * _NEAR
    low, high = boxes[:, :2] - reach, boxes[:, 2:] + reach
    shades = np.zeros(len(boxes), np.int64)
    for n in range(1, len(boxes)):
        near = ((low[:n] <= high[n]) & (high[:n] >= low[n])).all(axis=1)
        taken = Counter(shades[:n][near].tolist())
        turns = [(n + step) % len(_SHADES) for step in range(len(_SHADES))]
        shades[n] = min(turns, key=lambda shade: taken[shade])
    chosen: list[int] = shades.tolist()
    return chosen


def _color(number: int, lightness: float, turn: float = 0) -> Color:
    return _from_oklch(lightness, _CHROMA, (_FIRST_HUE + number * _GOLDEN_RATIO + turn) % 1)


def _from_oklch(lightness: float, chroma: float, turn: float) -> Color:
    """sRGB of a colour in Oklch (Ottosson 2020), where equal steps look equal; ``turn`` is the hue in 0..1."""
    a, b = chroma * np.cos(2 * np.pi * turn), chroma * np.sin(2 * np.pi * turn)
    linear = (_LMS_TO_RGB @ (_OKLAB_TO_LMS @ [lightness, a, b]) ** 3).clip(0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = (int(level) for level in (srgb * 255).round())
    return red, green, blue
