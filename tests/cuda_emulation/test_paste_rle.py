"""The CUDA kernels that paste masks to run lengths, emulated: the same runs as the reference's."""

import math
import re
from collections.abc import Sequence

import cv2
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cascadezoo.ops.paste_rle import paste_rle
from cascadezoo.spec.conventions import MaskPaste

from cuda_emulation.building import operators

# where the reference rounds as the kernel does: torch on x86-64 with AVX2 or later, and OpenCV there from 4.12 on, with
# Intel's library of 2022 or later; the one before differs in the last bit
FUSED = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
RESIZED = FUSED and cv2.ipp.useIPP() and int(re.findall(r"20\d\d", cv2.ipp.getIppVersion())[0]) >= 2022
BILINEAR = pytest.mark.skipif(not FUSED, reason="torch rounds otherwise on this CPU")
INTEGER_BOX = pytest.mark.skipif(not RESIZED, reason="this OpenCV rounds otherwise on this CPU")
BOTH = [pytest.param(False, marks=BILINEAR, id="bilinear"), pytest.param(True, marks=INTEGER_BOX, id="integer box")]
METHODS = pytest.mark.parametrize("integer_box", BOTH)
pytestmark = pytest.mark.emulated
registered = torch.ops.cascadezoo
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


def both(masks: Tensor, boxes: Tensor, height: int, width: int, integer_box: bool, cap: int = 4000) -> None:
    arguments = (masks, boxes, height, width, integer_box, cap)
    same(operators().paste_rle(*arguments), registered.paste_rle(*arguments))


@METHODS
@settings(derandomize=True, deadline=None, database=None, max_examples=60)
@given(
    st.data(),
    st.sampled_from([1, 2, 14, 28]),
    st.integers(1, 70),
    st.integers(1, 40),
    st.sampled_from([1, 2, 9, 60, 4000]),
)
def test_drawn_masks(integer_box: bool, data, cells: int, height: int, width: int, cap: int) -> None:
    coordinate = st.one_of(st.integers(-40, 320).map(lambda quarters: quarters / 4), st.floats(-300, 300, width=32))
    boxes = torch.tensor(data.draw(st.lists(st.tuples(*[coordinate] * 4), min_size=1, max_size=4)))
    if data.draw(st.booleans()):
        boxes = torch.cat((boxes[:, :2].minimum(boxes[:, 2:]), boxes[:, :2].maximum(boxes[:, 2:])), 1)
    masks = noise(len(boxes), cells, cells, seed=height)
    match data.draw(st.sampled_from(["noise", "eighths", "zero", "half", "one"])):
        case "eighths":  # ties at the threshold
            masks = masks.mul(8).round() / 8
        case "zero" | "half" | "one" as value:
            masks = torch.full_like(masks, {"zero": 0.0, "half": 0.5, "one": 1.0}[value])
    both(masks, boxes, height, width, integer_box, cap)


@METHODS
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_boxes_inside_across_and_nowhere(size: tuple[int, int], integer_box: bool) -> None:
    boxes = torch.tensor(BOXES)
    masks = torch.cat([fill(len(boxes)) for fill in (torch.ones, torch.zeros)])[:, None, None].expand(-1, 28, 28)
    masks = torch.cat((masks, torch.full((len(boxes), 28, 28), 0.5), noise(len(boxes), 28, 28)))
    arguments = (masks, boxes.repeat(4, 1), *size, integer_box, 4000)
    # of the boxes without an end only the one of 1e30 rows has float32 corners, and no host resizes it whole
    by_host = (torch.arange(len(masks)) % len(boxes) == 9) & integer_box
    same(operators().paste_rle(*arguments), registered.paste_rle(*arguments), by_host)


@METHODS
def test_boxes_of_every_size(integer_box: bool) -> None:
    sides = torch.arange(300)[:, None] + torch.tensor([0.0, 0.4])
    both(noise(300, 14, 14), torch.cat((torch.full((300, 2), 5.3), 5.3 + sides), 1), 320, 320, integer_box)


@METHODS
@pytest.mark.parametrize(("detections", "height", "width"), [(100, 800, 1333), (12, 2160, 3840)])
def test_detections_of_real_sizes(detections: int, height: int, width: int, integer_box: bool) -> None:
    whole = torch.tensor([float(width), float(height)])
    centre = noise(detections, 2, seed=1) * whole
    sides = noise(detections, 2, seed=2).square() * whole + 8
    sides[0] = 1.6 * whole
    masks = F.interpolate(noise(detections, 1, 5, 5, seed=3) * 12 - 4, size=28, mode="bicubic")[:, 0].sigmoid()
    boxes = torch.cat((centre - sides / 2, centre + sides / 2), 1)
    method = MaskPaste.INTEGER_BOX if integer_box else MaskPaste.BILINEAR
    right = paste_rle(masks, boxes, height, width, method)
    assert (right[1] > 0).all()  # there is room enough without being asked for
    same(operators().paste_rle(masks, boxes, height, width, integer_box, right[0].shape[1]), right)


def test_a_box_far_larger_than_its_image_is_left_to_the_host() -> None:
    """About -50, 28 cells on 1900 pixels become 30 on -1067..967, which are 2035, and 1920 become -1078..978, 2057; the
    most is 2^22, 2048 squared."""
    boxes = torch.tensor([[-50 - half, -50 - half, half - 50, half - 50] for half in (950.0, 960.0)])
    ends, counts = operators().paste_rle(torch.ones(2, 28, 28), boxes, 30, 40, True, 8)
    assert counts.tolist() == [2, -1]  # the first sets every pixel
    assert ends.tolist() == [[0, 1200] + [0] * 6, [0] * 8]


@METHODS
def test_more_detections_than_are_pasted_at_once(integer_box: bool) -> None:
    """2^19 words a column and 16 columns are half of the scratch memory's 2^24."""
    corner = torch.tensor([[1.0, 5.0], [2.0, 16_777_000.0], [-3.0, 40.0]])
    both(noise(3, 14, 14), torch.cat((corner, corner + torch.tensor([6.0, 90.0])), 1), 2**24, 16, integer_box)


@METHODS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_and_layouts(dtype: torch.dtype, integer_box: bool) -> None:
    masks, boxes = noise(4, 28, 28).to(dtype).transpose(1, 2), (noise(4, 4) * 20).to(dtype).flip(1)
    both(masks, boxes, 33, 20, integer_box)


@METHODS
@pytest.mark.parametrize("size", [(0, 0), (0, 7), (7, 0)], ids=str)
def test_an_image_without_pixels_has_one_run_of_none(size: tuple[int, int], integer_box: bool) -> None:
    both(torch.ones(1, 28, 28), torch.tensor([[0.0, 0.0, 5.0, 5.0]]), *size, integer_box)


@METHODS
def test_no_detections(integer_box: bool) -> None:
    ends, counts = operators().paste_rle(torch.zeros(0, 28, 28), torch.zeros(0, 4), 9, 9, integer_box, 5)
    assert (ends.shape, counts.shape) == ((0, 5), (0,))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"probabilities": torch.zeros(2, 28, 27)}, "probabilities must be"),
        ({"probabilities": torch.zeros(2, 0, 0)}, "probabilities must be"),
        ({"boxes": torch.zeros(3, 4)}, "boxes must be"),
        ({"height": -1}, "2\\^31 - 1 in all"),
        ({"height": 2**16, "width": 2**15}, "2\\^31 - 1 in all"),
        ({"height": 2**24 + 1, "width": 1}, "2\\^24 pixels a side"),
        ({"cap": 0}, "cap must lie"),
    ],
    ids=str,
)
def test_arguments_that_do_not_belong_together_are_refused(change: dict, words: str) -> None:
    arguments = {
        "probabilities": torch.zeros(2, 28, 28),
        "boxes": torch.zeros(2, 4),
        "height": 5,
        "width": 6,
        "integer_box": False,
        "cap": 8,
    }
    with pytest.raises(RuntimeError, match=words):
        operators().paste_rle(*(arguments | change).values())
