"""Hand-worked box arithmetic."""

import math

import pytest
import torch

from cascadezoo.ops.boxes import at_least, clip, decode, encode, has_area, pairwise_iou
from cascadezoo.spec.conventions import BoxCoder

CLAMP = math.log(1000 / 16)


def coder(*stds: float, extent: int = 0, lowest: float = -CLAMP) -> BoxCoder:
    return BoxCoder(stds=stds, log_scale=(lowest, CLAMP), extent=extent)


def test_decode_moves_the_centre_and_scales_the_size() -> None:
    # box 10..30 x 20..60: centre (20, 40), size (20, 40); dx 1 * 0.1 * 20 = 2, dy -2 * 0.1 * 40 = -8,
    # dw ln2 / 0.2 * 0.2 = ln2 doubles the width, dh 0 keeps the height
    box = torch.tensor([[10.0, 20.0, 30.0, 60.0]])
    deltas = torch.tensor([[1.0, -2.0, math.log(2) / 0.2, 0.0]])
    moved = decode(deltas, box, coder(0.1, 0.1, 0.2, 0.2))
    torch.testing.assert_close(moved, torch.tensor([[22.0 - 20, 32.0 - 20, 22.0 + 20, 32.0 + 20]]))


def test_each_delta_has_a_factor_of_its_own() -> None:
    # centre (10, 20), size (20, 40); dx 1 * 0.1 * 20 = 2, dy 1 * 0.5 * 40 = 20; dw ln4 * 0.5 doubles the width,
    # dh ln4 * 1 makes the height four times what it was
    box = torch.tensor([[0.0, 0.0, 20.0, 40.0]])
    moved = decode(torch.tensor([[1.0, 1.0, math.log(4), math.log(4)]]), box, coder(0.1, 0.5, 0.5, 1))
    torch.testing.assert_close(moved, torch.tensor([[12.0 - 20, 40.0 - 80, 12.0 + 20, 40.0 + 80]]))


def test_decode_clamps_both_ways() -> None:
    box = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    wide = decode(torch.tensor([[0.0, 0.0, 50.0, -50.0]]), box, coder(1, 1, 1, 1))
    # 16 * (1000 / 16) = 1000 wide, 16 / (1000 / 16) = 0.256 high, around (8, 8)
    torch.testing.assert_close(wide, torch.tensor([[8 - 500.0, 8 - 0.128, 8 + 500.0, 8 + 0.128]]))


def test_clamp_from_above_only() -> None:
    box = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    thin = decode(torch.tensor([[0.0, 0.0, 0.0, -10.0]]), box, coder(1, 1, 1, 1, lowest=-math.inf))
    assert (thin[0, 3] - thin[0, 1]).item() == pytest.approx(16 * math.exp(-10), rel=1e-3)


def test_decode_where_x2_is_the_last_pixel() -> None:
    # 10..29 holds 20 pixels, centre 10 + 10 = 20; dx 0.1 moves it by 2; dw ln2 makes it 40 wide: 2..41
    box = torch.tensor([[10.0, 10.0, 29.0, 29.0]])
    moved = decode(torch.tensor([[0.1, 0.0, math.log(2), 0.0]]), box, coder(1, 1, 1, 1, extent=1))
    torch.testing.assert_close(moved, torch.tensor([[2.0, 10.0, 41.0, 29.0]]))


def test_deltas_of_every_class_move_one_box() -> None:
    boxes, deltas = torch.tensor([[[0.0, 0.0, 10.0, 10.0]]]), torch.zeros(1, 1, 3, 4)
    deltas[0, 0, 2, 0] = 1
    moved = decode(deltas, boxes[:, :, None], coder(0.1, 0.1, 0.2, 0.2))
    assert moved[0, 0].tolist() == [[0, 0, 10, 10], [0, 0, 10, 10], [1, 0, 11, 10]]


def test_decode_of_heights_where_y2_is_the_last_pixel() -> None:
    # 20..59 holds 40 pixels, centre 20 + 20 = 40; dy -0.1 moves it by -4; dh -ln2 makes it 20 high: 26..45
    box = torch.tensor([[0.0, 20.0, 9.0, 59.0]])
    moved = decode(torch.tensor([[0.0, -0.1, 0.0, -math.log(2)]]), box, coder(1, 1, 1, 1, extent=1))
    torch.testing.assert_close(moved, torch.tensor([[0.0, 26.0, 9.0, 45.0]]))


@pytest.mark.parametrize("extent", [0, 1])
def test_encode_divides_by_the_boxs_size_and_the_stds(extent: int) -> None:
    # box 10..30 x 20..60, target 2..42 x 12..52, as edges: the centre moves by (2, -8), the width doubles
    box, target = torch.tensor([[10.0, 20.0, 30.0, 60.0]]), torch.tensor([[2.0, 12.0, 42.0, 52.0]])
    box[:, 2:] -= extent
    target[:, 2:] -= extent
    deltas = encode(target, box, coder(0.1, 0.2, 0.5, 0.25, extent=extent))
    torch.testing.assert_close(deltas, torch.tensor([[2 / 20 / 0.1, -8 / 40 / 0.2, math.log(2) / 0.5, 0.0]]))


def test_encode_of_a_height() -> None:
    # 40 pixels high, to 10: ln(1 / 4)
    box, target = torch.tensor([[0.0, 0.0, 10.0, 40.0]]), torch.tensor([[0.0, 15.0, 10.0, 25.0]])
    expected = [0, 0, 0, math.log(0.25) / 0.5]
    assert encode(target, box, coder(1, 1, 1, 0.5))[0].tolist() == pytest.approx(expected)
    assert encode(target[None], box[None], coder(1, 1, 1, 0.5))[0, 0].tolist() == pytest.approx(expected)


def test_iou_of_every_pair_with_and_without_extent() -> None:
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [20.0, 20.0, 29.0, 29.0]])
    others = torch.tensor([[0.0, 0.0, 9.0, 4.0], [20.0, 20.0, 29.0, 29.0], [10.0, 0.0, 19.0, 9.0]])
    # where x2 is the last pixel, 10 x 10 holds 10 x 5, and 0..9 ends where 10..19 begins
    assert pairwise_iou(boxes, others, extent=1).tolist() == [[0.5, 0.0, 0.0], [0.0, 1.0, 0.0]]
    expected = [[pytest.approx(4 / 9), 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert pairwise_iou(boxes, others, extent=0).tolist() == expected


def test_boxes_without_area_overlap_nothing() -> None:
    boxes = torch.tensor([[5.0, 5.0, 5.0, 9.0]])
    assert pairwise_iou(boxes, boxes, extent=0).tolist() == [[0.0]]
    assert pairwise_iou(boxes, boxes, extent=1).tolist() == [[1.0]]


@pytest.mark.parametrize("axis", [0, 1])
def test_sides_are_compared_in_x_and_in_y(axis: int) -> None:
    def boxes(*spans: tuple[float, float]) -> torch.Tensor:
        sides = [(*span, 0.0, 5.0) if axis == 0 else (0.0, 5.0, *span) for span in spans]
        return torch.tensor([[x1, y1, x2, y2] for x1, x2, y1, y2 in sides])

    some = boxes((0.0, 0.9), (0.0, 1.0), (3.0, 3.0), (4.0, 3.5))
    assert at_least(some, 1, extent=0).tolist() == [False, True, False, False]
    assert at_least(some, 1, extent=1).tolist() == [True, True, True, False]
    assert at_least(some, 2, extent=1).tolist() == [False, True, False, False]
    assert has_area(some).tolist() == [True, True, False, False]
    # boxes of several images, or of one image's classes, are their last dimension
    assert at_least(some[None], 1, extent=0).tolist() == [[False, True, False, False]]
    assert has_area(some[None]).tolist() == [[True, True, False, False]]


def test_clip_keeps_each_image_to_its_own_size() -> None:
    boxes = torch.tensor([[[-5.0, -5.0, 50.0, 50.0]], [[-5.0, 2.0, 50.0, 50.0]]])
    sizes = torch.tensor([[20.0, 30.0], [40.0, 10.0]])  # height, width
    expected = torch.tensor([[[0.0, 0.0, 30.0, 20.0]], [[0.0, 2.0, 10.0, 40.0]]])
    torch.testing.assert_close(clip(boxes, sizes, extent=0), expected)
    last_pixel = torch.tensor([[[0.0, 0.0, 29.0, 19.0]], [[0.0, 2.0, 9.0, 39.0]]])
    torch.testing.assert_close(clip(boxes, sizes, extent=1), last_pixel)
    torch.testing.assert_close(clip(boxes[:, :, None], sizes, extent=0), expected[:, :, None])
