"""Horizontal bars as an SVG file, the same bytes for the same numbers everywhere."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

_WIDTH, _LEFT, _RIGHT = 790, 250, 80  # pixels: in all, for the names, and for the numbers beyond the longest bar
_TOP, _BAR, _STEP = 48, 22, 34
_OURS, _OTHERS = "#1f77b4", "#999"


class Bar(NamedTuple):
    """One bar: its name, its length, the number beside it, and whether it is of this package."""

    name: str
    value: float
    text: str
    is_ours: bool


def bar_chart(title: str, bars: Sequence[Bar]) -> str:
    """A chart of positive values, from top to bottom in the order given."""
    height = _TOP + _STEP * len(bars) + 6
    scale = (_WIDTH - _LEFT - _RIGHT) / max(bar.value for bar in bars)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="14" fill="#222">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="16" y="28" font-weight="bold">{escape(title)}</text>',
    ]
    for number, bar in enumerate(bars):
        top, length = _TOP + _STEP * number, scale * bar.value
        base, weight = top + _BAR - 6, ' font-weight="bold"' if bar.is_ours else ""
        colour = _OURS if bar.is_ours else _OTHERS
        parts += [
            f'<text x="{_LEFT - 10}" y="{base}" text-anchor="end"{weight}>{escape(bar.name)}</text>',
            f'<rect x="{_LEFT}" y="{top}" width="{length:.1f}" height="{_BAR}" fill="{colour}"/>',
            f'<text x="{_LEFT + length + 8:.1f}" y="{base}"{weight}>{escape(bar.text)}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
