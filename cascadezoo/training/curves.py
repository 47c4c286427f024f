"""A picture of a training run's curves over its steps: losses, learning rate, average precision."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont

_WIDTH, _HEIGHT = 1200, 330  # of a panel, pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 250, 44, 48  # round its plot; the legend is at the right
_POINTS = 300  # of a loss curve
_SHARP = 2  # drawn so many times larger, then reduced
_INK, _FAINT, _PAPER = (34, 34, 34), (222, 222, 222), (255, 255, 255)
_COLOURS = (
    (31, 119, 180), (214, 39, 40), (44, 160, 44), (255, 127, 14), (148, 103, 189), (23, 190, 207),
    (227, 119, 194), (140, 86, 75), (127, 127, 127), (188, 189, 34), (0, 0, 0), (90, 60, 160),
)  # fmt: skip


class Line(NamedTuple):
    """One curve: its name in the legend and its points, x ascending; values that are not finite are left out."""

    name: str
    points: Sequence[tuple[float, float]]


def draw(records: Iterable[Mapping[str, Any]]) -> Image.Image:
    """The curves of a journal's records, RGB; with a panel of average precision where there was an evaluation."""
    records = list(records)
    steps = [record for record in records if record["kind"] == "steps"]
    evaluations = [record for record in records if record["kind"] == "evaluation"]
    total = Line("total", _thinned([(r["step"], r["loss"]) for r in steps]))
    names = list(dict.fromkeys(name for record in steps for name in record["losses"]))
    parts = [Line(n, _thinned([(r["step"], r["losses"][n]) for r in steps if n in r["losses"]])) for n in names]
    validation = [(r["step"], r["loss"]) for r in evaluations if r.get("loss") is not None]
    panels = [
        ("loss (logarithmic)", True, [total, *([Line("validation", validation)] if validation else []), *parts]),
        ("learning rate", False, [Line("lr", [(r["step"], r["lr"]) for r in steps])]),
    ]
    if evaluations:
        panels.append(("COCO AP, %", False, _precision(evaluations)))
    last = max(record["step"] for record in records)
    sheet = Image.new("RGB", (_WIDTH, _HEIGHT * len(panels)), _PAPER)
    for row, (title, logarithmic, lines) in enumerate(panels):
        sheet.paste(_panel(title, lines, last, logarithmic), (0, row * _HEIGHT))
    return sheet


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most ``_POINTS`` points, each the mean of its neighbourhood."""
    size = math.ceil(len(points) / _POINTS) or 1
    parts = [points[i : i + size] for i in range(0, len(points), size)]
    return [(part[-1][0], sum(y for _, y in part) / len(part)) for part in parts]


def _precision(evaluations: Sequence[Mapping[str, Any]]) -> list[Line]:
    kinds = list(evaluations[0]["figures"])
    return [
        Line(f"{kind} {figure}", [(r["step"], r["figures"][kind][figure] or 0.0) for r in evaluations])
        for kind in kinds
        for figure in ("AP", "AP50")
    ]


def _panel(title: str, lines: Sequence[Line], last: float, logarithmic: bool) -> Image.Image:
    image = Image.new("RGB", (_WIDTH * _SHARP, _HEIGHT * _SHARP), _PAPER)
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=14 * _SHARP)
    values = [y for line in lines for _, y in line.points if math.isfinite(y) and (y > 0 or not logarithmic)]
    ticks = _decades(values) if logarithmic else _round_ticks(0.0, max(values, default=1.0) or 1.0)
    low, high = ticks[0], ticks[-1]

    def across(x: float) -> float:
        return (_LEFT + (x / max(last, 1)) * (_WIDTH - _LEFT - _RIGHT)) * _SHARP

    def down(y: float) -> float:
        part = math.log(max(y, low) / low) / math.log(high / low) if logarithmic else (y - low) / (high - low)
        return (_HEIGHT - _BOTTOM - part * (_HEIGHT - _TOP - _BOTTOM)) * _SHARP

    pen.text((_LEFT * _SHARP, 12 * _SHARP), title, fill=_INK, font=font)
    for tick in ticks:
        pen.line([(across(0), down(tick)), (across(last), down(tick))], fill=_FAINT, width=_SHARP)
        pen.text((across(0) - 8 * _SHARP, down(tick)), f"{tick:.3g}", fill=_INK, font=font, anchor="rm")
    for tick in _round_ticks(0.0, max(last, 1)):
        if tick <= last:
            pen.line([(across(tick), down(low)), (across(tick), down(low) + 5 * _SHARP)], fill=_INK, width=_SHARP)
            pen.text((across(tick), down(low) + 8 * _SHARP), f"{tick:g}", fill=_INK, font=font, anchor="mt")
    pen.text((across(last) + 12 * _SHARP, down(low) + 8 * _SHARP), "steps", fill=_INK, font=font, anchor="lt")
    pen.rectangle([across(0), down(high), across(last), down(low)], outline=_INK, width=_SHARP)
    for number, line in enumerate(lines):
        colour = _COLOURS[number % len(_COLOURS)]
        shown = [(across(x), down(y)) for x, y in line.points if math.isfinite(y)]
        if len(shown) > 1:
            pen.line(shown, fill=colour, width=(3 if number == 0 else 2) * _SHARP, joint="curve")
        for x, y in shown if len(shown) < 40 else ():
            pen.ellipse([x - 3 * _SHARP, y - 3 * _SHARP, x + 3 * _SHARP, y + 3 * _SHARP], fill=colour)
        top = (_TOP + number * min(21, 252 / len(lines))) * _SHARP  # above the word at the axis
        edge = (_WIDTH - _RIGHT + 16) * _SHARP
        pen.line([(edge, top + 8 * _SHARP), (edge + 22 * _SHARP, top + 8 * _SHARP)], fill=colour, width=4 * _SHARP)
        pen.text((edge + 30 * _SHARP, top + 8 * _SHARP), _legend(line), fill=_INK, font=font, anchor="lm")
    return image.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS)


def _legend(line: Line) -> str:
    return f"{line.name} {line.points[-1][1]:.3g}" if line.points else line.name


def _round_ticks(low: float, high: float) -> list[float]:
    """About five round numbers from ``low`` to at least ``high``."""
    rough = (high - low) / 5
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough * 0.999)
    return [low + step * i for i in range(math.ceil((high - low) / step - 1e-6) + 1)]


def _decades(values: Sequence[float]) -> list[float]:
    """Powers of ten round the values; at most five of them, the highest."""
    if not values:
        return [0.1, 1.0]
    top = math.ceil(math.log10(max(values)) + 1e-9)
    bottom = min(math.floor(math.log10(min(values))), top - 1)
    return [10.0**power for power in range(max(bottom, top - 4), top + 1)]
