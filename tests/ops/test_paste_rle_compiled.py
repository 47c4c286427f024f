"""The CPU kernel that pastes masks to run lengths: the reference's runs, whatever rounding decides."""

import math

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from cascadezoo.coco.categories import Categories
from cascadezoo.detections import Detections
from cascadezoo.ops.library import COMPILED
from cascadezoo.ops.paste_rle import default_cap

from cuda_emulation.pasted import (
    BAD_ARGUMENTS,
    BILINEAR,
    METHODS,
    SIZES,
    as_detected,
    changed,
    drawn,
    everywhere,
    noise,
    of_every_size,
    reference,
    same,
)

pytestmark = pytest.mark.skipif("cpu" not in COMPILED, reason="not built: `cascadezoo build-ops`")
compiled = torch.ops.cascadezoo.paste_rle


def both(masks: Tensor, boxes: Tensor, height: int, width: int, integer_box: bool, cap: int = 4000) -> None:
    arguments = (masks, boxes, height, width, integer_box, cap)
    same(compiled(*arguments), reference(*arguments))


@METHODS
@settings(derandomize=True, deadline=None, database=None, max_examples=150)
@given(drawn())
def test_drawn_masks(integer_box: bool, arguments: list) -> None:
    both(*arguments[:4], integer_box, arguments[5])


@METHODS
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_boxes_inside_across_and_nowhere(size: tuple[int, int], integer_box: bool) -> None:
    masks, boxes = everywhere()
    arguments = (masks, boxes, *size, integer_box, 4000)
    by_host = (boxes[:, 3] == 1e30) & integer_box  # of those without an end the only one with float32 corners
    same(compiled(*arguments), reference(*arguments), by_host)


@METHODS
def test_boxes_of_every_size(integer_box: bool) -> None:
    both(*of_every_size(), 320, 320, integer_box)


@METHODS
@pytest.mark.parametrize("threads", [1, 2])
def test_detections_of_real_sizes(threads: int, integer_box: bool) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        both(*as_detected(60, 800, 1333), 800, 1333, integer_box, default_cap(1333))
    finally:
        torch.set_num_threads(before)


@METHODS
@pytest.mark.parametrize("apart", [2.0**-25, 2.0**-24, 2.0**-22, 2.0**-20, 2.0**-18])
def test_rounding_decides_about_masks_that_are_nearly_one_half(apart: float, integer_box: bool) -> None:
    boxes = torch.tensor([[1.3, 2.4, 90.1, 70.7], [-20.0, -31.0, 60.0, 300.0], [5.0, 5.0, 33.0, 33.0], [4.0, 0, 9, 7]])
    masks = 0.5 + (noise(4, 14, 14) - 0.5) * apart
    both(masks, boxes, 80, 100, integer_box, 8000)


@BILINEAR
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38, -3e38, 1e10, 1e-45, 7.0])
def test_cells_that_no_network_makes(value: float) -> None:
    masks = noise(40, 14, 14)
    masks[noise(40, 14, 14, seed=1) < 0.02] = value
    masks[0], masks[1] = value, -value
    low = noise(40, 2, seed=2) * 60 - 10
    both(masks, torch.cat((low, low + noise(40, 2, seed=3) * 90), 1), 70, 60, False)


@METHODS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_and_layouts(dtype: torch.dtype, integer_box: bool) -> None:
    masks, boxes = noise(4, 28, 28).to(dtype).transpose(1, 2), (noise(4, 4) * 20).to(dtype).flip(1)
    both(masks, boxes, 33, 20, integer_box)


@METHODS
@pytest.mark.parametrize("size", [(0, 0), (0, 7), (7, 0), (2**24, 2), (2, 2**24)], ids=str)
def test_images_without_pixels_and_the_longest(size: tuple[int, int], integer_box: bool) -> None:
    boxes = torch.tensor([[0.0, 0.0, 5.0, 5.0], [-4.0, 2.0**24 - 9, 9.0, 2.0**24], [2.0**24 - 9, -4.0, 2.0**24, 9.0]])
    both(torch.ones(3, 28, 28), boxes, *size, integer_box, 60)


@pytest.mark.parametrize("integer_box", [False, True])
def test_no_detections(integer_box: bool) -> None:
    ends, counts = compiled(torch.zeros(0, 28, 28), torch.zeros(0, 4), 9, 9, integer_box, 5)
    assert (ends.shape, counts.shape) == ((0, 5), (0,))


def test_a_box_far_larger_than_its_image_is_left_to_the_caller() -> None:
    """About -50, 28 cells on 1900 pixels become 30 on -1067..967, which are 2035, and 1920 become -1078..978, 2057; the
    most is 2^22, 2048 squared."""
    boxes = torch.tensor([[-50 - half, -50 - half, half - 50, half - 50] for half in (950.0, 960.0)])
    ends, counts = compiled(torch.ones(2, 28, 28), boxes, 30, 40, True, 8)
    assert counts.tolist() == [2, -1]  # the first sets every pixel
    assert ends.tolist() == [[0, 1200] + [0] * 6, [0] * 8]


def test_millions_of_pixels_without_a_value_are_left_to_the_caller() -> None:
    """2^22 are 2048 squared; a detector's masks are pasted all the same."""
    masks, boxes = torch.full((1, 28, 28), math.nan), torch.tensor([[-9.0, -9.0, 3000.0, 3000.0]])
    assert compiled(masks, boxes, 2048, 2048, False, 9)[1].tolist() == [1]
    ends, counts = compiled(masks, boxes, 2048, 2049, False, 9)
    assert (counts.tolist(), ends.any().item()) == ([-1], False)
    one = torch.ones(1)
    found = Detections(boxes, one, one * 0, (2048, 2049), Categories.numbered(1), mask_probs=masks).rles()
    assert found == [{"size": [2048, 2049], "counts": found[0]["counts"]}]
    assert len(found[0]["counts"]) == 5  # one run of 22 bits: 5 a character


@BAD_ARGUMENTS
def test_arguments_that_do_not_belong_together_are_refused(change: dict, words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        compiled(*changed(change))
