"""What levels the kernels that select anchors are given, on every device, and their reference."""

import math
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from cascadezoo.ops import rpn_select

reference = rpn_select._reference
LOGIT = st.one_of(
    st.integers(-40, 40).map(lambda quarters: quarters / 4),  # their probabilities lie far apart
    st.sampled_from([-0.0, 30.0, 40.0, 50.0, -120.0, math.inf, -math.inf, math.nan]),
)
DELTA = st.one_of(
    st.integers(-12, 12).map(lambda eighths: eighths / 8),
    st.sampled_from([0.0, 100.0, -100.0, 3e38, math.inf, -math.inf, math.nan]),
)
SIDE = 96.0  # the largest of the anchors drawn below
SCALE = 3.0  # the largest of dw and dh


def arguments(logits: list[Tensor], deltas: list[Tensor], widths: list[int], cell: int, top: int, /, **changes) -> list:
    """Of levels with strides 4, 8, ...; ``cell`` anchors of sides that are no whole numbers."""
    levels = range(len(logits))
    named = {
        "logits": logits,
        "deltas": deltas,
        "sizes": torch.tensor([[300.0, 401.5]]).expand(len(logits[0]), -1),
        "widths": widths,
        "strides": [4 * 2**level for level in levels],
        "firsts": [level / 2 for level in levels],
        "halves": [SIDE / 2 / (1 + level + a + axis / 3) for level in levels for a in range(cell) for axis in (0, 1)],
        "probability": False,
        "stds": [1.0, 1.0, 1.0, 1.0],
        "log_scale": [-SCALE, SCALE],
        "extent": 0,
        "min_size": 0.0,
        "top": top,
    }
    return list((named | changes).values())


def _some(draw: Any, of: Any, *shape: int) -> Tensor:
    """Some drawn numbers, each in many places."""
    some = torch.tensor(draw(st.lists(of, min_size=1, max_size=12)))
    return some[torch.randint(len(some), shape, generator=torch.Generator().manual_seed(sum(shape)))]


@st.composite
def drawn(draw: Any) -> list[Any]:
    """One to three levels, with ties and numbers that no network makes."""
    cell, images, top = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.sampled_from([1, 2, 7, 40, 200]))
    shapes = draw(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=3))
    counts = [rows * columns * cell for rows, columns in shapes]
    return arguments(
        [_some(draw, LOGIT, images, count) for count in counts],
        [_some(draw, DELTA, images, count, 4) for count in counts],
        [columns for _, columns in shapes],
        cell,
        top,
        probability=draw(st.booleans()),
        extent=draw(st.sampled_from([0, 1])),
        min_size=draw(st.sampled_from([0.0, 1.0, 16.3])),
        stds=draw(st.sampled_from([[1.0] * 4, [0.1, 0.1, 0.2, 0.2]])),
        log_scale=draw(st.sampled_from([[-SCALE, SCALE], [-math.inf, 2.5]])),
    )


def of_a_pyramid(images: int, probability: bool) -> list[Any]:
    """267,000 anchors of five levels of 800 x 1344 pixels.  Scores tie, and those of the levels from the second on are
    saturated."""
    noise = torch.Generator().manual_seed(0)
    shapes = [(200, 336), (100, 168), (50, 84), (25, 42), (13, 21)]
    counts = [3 * rows * columns for rows, columns in shapes]
    assert sum(counts) > 267_000
    logits = [
        (torch.randn(images, count, generator=noise) * 8).round() / 4 + (40 if level else 0)
        for level, count in enumerate(counts)
    ]
    deltas = [torch.randn(images, count, 4, generator=noise) / 4 for count in counts]
    sizes = torch.tensor([[800.0, 1333.0]]).expand(images, -1)
    return arguments(
        logits, deltas, [c for _, c in shapes], 3, 1000, probability=probability, sizes=sizes, min_size=1e-3
    )
