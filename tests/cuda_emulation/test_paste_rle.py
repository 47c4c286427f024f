"""The CUDA kernels that paste masks to run lengths, emulated: the same runs as the reference's."""

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from cascadezoo.ops.paste_rle import default_cap

from cuda_emulation.building import operators
from cuda_emulation.pasted import (
    BAD_ARGUMENTS,
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

pytestmark = pytest.mark.emulated


def both(masks: Tensor, boxes: Tensor, height: int, width: int, integer_box: bool, cap: int = 4000) -> None:
    arguments = (masks, boxes, height, width, integer_box, cap)
    same(operators().paste_rle(*arguments), reference(*arguments))


@METHODS
@settings(derandomize=True, deadline=None, database=None, max_examples=60)
@given(drawn())
def test_drawn_masks(integer_box: bool, arguments: list) -> None:
    both(*arguments[:4], integer_box, arguments[5])


@METHODS
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_boxes_inside_across_and_nowhere(size: tuple[int, int], integer_box: bool) -> None:
    masks, boxes = everywhere()
    arguments = (masks, boxes, *size, integer_box, 4000)
    # of the boxes without an end only the one of 1e30 rows has float32 corners, and no host resizes it whole
    by_host = (boxes[:, 3] == 1e30) & integer_box
    same(operators().paste_rle(*arguments), reference(*arguments), by_host)


@METHODS
def test_boxes_of_every_size(integer_box: bool) -> None:
    both(*of_every_size(), 320, 320, integer_box)


@METHODS
@pytest.mark.parametrize(("detections", "height", "width"), [(100, 800, 1333), (12, 2160, 3840)])
def test_detections_of_real_sizes(detections: int, height: int, width: int, integer_box: bool) -> None:
    arguments = (*as_detected(detections, height, width), height, width, integer_box, default_cap(width))
    right = reference(*arguments)
    assert (right[1] > 0).all()  # there is room enough without being asked for
    same(operators().paste_rle(*arguments), right)


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


@BAD_ARGUMENTS
def test_arguments_that_do_not_belong_together_are_refused(change: dict, words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        operators().paste_rle(*changed(change))
