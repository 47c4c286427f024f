"""Lines over logarithmic axes as an SVG file, the same bytes for the same numbers everywhere."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

_WIDTH, _HEIGHT = 790, 360  # pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 260, 40, 50  # round the plot; the legend is at the right
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#17becf", "#8c564b")
_STEPS = (1, 2, 5)  # ticks of a decade
_MOST_LABELS = 9  # of an axis; beyond them only powers of ten have one


class Line(NamedTuple):
    """One curve: its name in the legend, and its points, all positive."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


class _Axis:
    """A logarithmic axis from the tick at or below the lowest value to the one at or above the highest."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        low, high = min(values), max(values)
        decades = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 2)
        ticks = [step * 10.0**decade for decade in decades for step in _STEPS]
        first = max(number for number, tick in enumerate(ticks) if tick <= low * (1 + 1e-9))
        last = min(number for number, tick in enumerate(ticks) if tick >= high * (1 - 1e-9))
        self.ticks = ticks[first : max(last, first + 1) + 1]
        self._start, self._end = start, end

    @property
    def labelled(self) -> list[float]:
        """The ticks with a number."""
        if len(self.ticks) <= _MOST_LABELS:
            return self.ticks
        return [tick for tick in self.ticks if round(math.log10(tick), 6).is_integer()]

    def place(self, value: float) -> float:
        """Where a value lies, in pixels."""
        low, high = math.log(self.ticks[0]), math.log(self.ticks[-1])
        return self._start + (math.log(value) - low) / (high - low) * (self._end - self._start)


def log_chart(title: str, x: str, y: str, lines: Sequence[Line]) -> str:
    """A chart of at most seven lines, with its title and the names of its axes.  Raises ValueError for more."""
    if len(lines) > len(_COLOURS):
        raise ValueError(f"{len(lines)} lines: a chart has colours for {len(_COLOURS)}")
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    across = _Axis([value for line in lines for value in line.x], _LEFT, right)
    up = _Axis([value for line in lines for value in line.y], bottom, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="13" fill="#222">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        _text(_LEFT, 24, title, 'font-weight="bold"'),
        _text((_LEFT + right) / 2, _HEIGHT - 10, x, 'text-anchor="middle"'),
        _text(16, (_TOP + bottom) / 2, y, f'text-anchor="middle" transform="rotate(-90 16 {(_TOP + bottom) / 2:.1f})"'),
    ]
    parts += [_stroke([(across.place(t), _TOP), (across.place(t), bottom)], "#ddd", 1) for t in across.ticks]
    parts += [_stroke([(_LEFT, up.place(t)), (right, up.place(t))], "#ddd", 1) for t in up.ticks]
    parts += [_text(across.place(t), bottom + 18, _number(t), 'text-anchor="middle"') for t in across.labelled]
    parts += [_text(_LEFT - 8, up.place(t) + 4, _number(t), 'text-anchor="end"') for t in up.labelled]
    corners = [(_LEFT, _TOP), (right, _TOP), (right, bottom), (_LEFT, bottom), (_LEFT, _TOP)]
    parts.append(_stroke(corners, "#222", 1))
    for number, (line, colour) in enumerate(zip(lines, _COLOURS, strict=False)):
        points = [(across.place(a), up.place(b)) for a, b in zip(line.x, line.y, strict=True)]
        height = _TOP + 10 + 22 * number
        parts.append(_stroke(points, colour, 2))
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{colour}"/>' for a, b in points]
        parts.append(_stroke([(right + 14, height), (right + 34, height)], colour, 3))
        parts.append(_text(right + 40, height + 4, line.name))
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}"{" " * bool(attributes)}{attributes}>{escape(text)}</text>'


def _stroke(points: Sequence[tuple[float, float]], colour: str, width: int) -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
