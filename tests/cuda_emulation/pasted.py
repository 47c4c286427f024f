"""What masks and boxes the kernels that paste masks to run lengths are given, on every device, and their reference."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor

from cascadezoo.ops import paste_rle

# where the reference rounds as the kernels do: torch on x86-64 with AVX2 or later, and OpenCV there from 4.12 on, with
# Intel's library of 2022 or later; the one before differs in the last bit
FUSED = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
RESIZED = FUSED and cv2.ipp.useIPP() and int(re.findall(r"20\d\d", cv2.ipp.getIppVersion())[0]) >= 2022
BILINEAR = pytest.mark.skipif(not FUSED, reason="torch rounds otherwise on this CPU")
INTEGER_BOX = pytest.mark.skipif(not RESIZED, reason="this OpenCV rounds otherwise on this CPU")
BOTH = [pytest.param(False, marks=BILINEAR, id="bilinear"), pytest.param(True, marks=INTEGER_BOX, id="integer box")]
METHODS = pytest.mark.parametrize("integer_box", BOTH)
SIZES = [(1, 1), (1, 40), (40, 1), (31, 33), (32, 64), (65, 20)]
BOXES = [
    [3.3, 4.2, 17.9, 26.1],
    [0.0, 0.0, 20.0, 31.0],
    [-9.5, -70.0, 90.0, 200.0],  # larger than the image
    [5.0, 6.0, 6.0, 7.0],  # one pixel
    [5.25, 6.25, 5.25, 19.0],  # without width
    [7.5, 8.5, 7.5, 8.5],  # without area, at a pixel's centre
    [12.0, 20.0, 4.0, 3.0],  # its corners exchanged
    [100.0, 0.0, 140.0, 30.0],  # beside the image
    [-30.0, -30.0, -2.0, -3.0],
    [0.0, -1e30, 10.0, 1e30],
    [0.0, math.nan, 10.0, 10.0],
    [-math.inf, 0.0, 10.0, 10.0],
    [-3e38, -3e38, 3e38, 3e38],
]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def same(found: Sequence[Tensor], right: Sequence[Tensor], by_host: Tensor | None = None) -> None:
    """``by_host``: which masks the kernel leaves to the caller though they fit."""
    ends, counts = right
    if by_host is not None:
        ends, counts = ends.masked_fill(by_host[:, None], 0), counts.masked_fill(by_host, -1)
    assert found[1].tolist() == counts.tolist()
    assert torch.equal(found[0], ends)


reference = paste_rle._reference


@st.composite
def drawn(draw: Any) -> list[Any]:
    """Masks of noise, ties or one value, and boxes anywhere, on a small image, with room for few runs or many: the
    operator's arguments but ``integer_box``, which is None in its place."""
    cells, height, width = draw(st.sampled_from([1, 2, 14, 28])), draw(st.integers(1, 70)), draw(st.integers(1, 40))
    coordinate = st.one_of(st.integers(-40, 320).map(lambda quarters: quarters / 4), st.floats(-300, 300, width=32))
    boxes = torch.tensor(draw(st.lists(st.tuples(*[coordinate] * 4), min_size=1, max_size=4)))
    if draw(st.booleans()):
        boxes = torch.cat((boxes[:, :2].minimum(boxes[:, 2:]), boxes[:, :2].maximum(boxes[:, 2:])), 1)
    masks = noise(len(boxes), cells, cells, seed=height)
    match draw(st.sampled_from(["noise", "eighths", "zero", "half", "one"])):
        case "eighths":  # ties at the threshold
            masks = masks.mul(8).round() / 8
        case "zero" | "half" | "one" as value:
            masks = torch.full_like(masks, {"zero": 0.0, "half": 0.5, "one": 1.0}[value])
    return [masks, boxes, height, width, None, draw(st.sampled_from([1, 2, 9, 60, 4000]))]


def everywhere() -> tuple[Tensor, Tensor]:
    """Masks of ones, of zeros, of one half and of noise, each in boxes inside, across and outside of every image."""
    boxes = torch.tensor(BOXES)
    masks = torch.cat([fill(len(boxes)) for fill in (torch.ones, torch.zeros)])[:, None, None].expand(-1, 28, 28)
    masks = torch.cat((masks, torch.full((len(boxes), 28, 28), 0.5), noise(len(boxes), 28, 28)))
    return masks, boxes.repeat(4, 1)


def of_every_size() -> tuple[Tensor, Tensor]:
    """Masks of noise on boxes of up to 300 pixels."""
    sides = torch.arange(300)[:, None] + torch.tensor([0.0, 0.4])
    return noise(300, 14, 14), torch.cat((torch.full((300, 2), 5.3), 5.3 + sides), 1)


def as_detected(detections: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Smooth masks on boxes of all sizes, the first larger than the image."""
    whole = torch.tensor([float(width), float(height)])
    centre = noise(detections, 2, seed=1) * whole
    sides = noise(detections, 2, seed=2).square() * whole + 8
    sides[0] = 1.6 * whole
    masks = F.interpolate(noise(detections, 1, 5, 5, seed=3) * 12 - 4, size=28, mode="bicubic")[:, 0].sigmoid()
    return masks, torch.cat((centre - sides / 2, centre + sides / 2), 1)


BAD_ARGUMENTS = pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"probabilities": torch.zeros(2, 28, 27)}, "probabilities must be \\(D"),
        ({"probabilities": torch.zeros(2, 0, 0)}, "probabilities must be \\(D"),
        ({"probabilities": torch.zeros(2, 28, 28).long()}, "floating point"),
        ({"boxes": torch.zeros(2, 4).long()}, "floating point"),
        ({"boxes": torch.zeros(3, 4)}, "boxes must be"),
        ({"height": -1}, "2\\^31 - 1 in all"),
        ({"height": 2**16, "width": 2**15}, "2\\^31 - 1 in all"),
        ({"height": 2**24 + 1, "width": 1}, "2\\^24 pixels a side"),
        ({"cap": 0}, "cap must lie"),
    ],
    ids=str,
)


def changed(change: dict[str, Any]) -> Iterable[Any]:
    """The operator's arguments, in order, with some of them changed."""
    arguments = {
        "probabilities": torch.zeros(2, 28, 28),
        "boxes": torch.zeros(2, 4),
        "height": 5,
        "width": 6,
        "integer_box": False,
        "cap": 8,
    }
    return (arguments | change).values()
