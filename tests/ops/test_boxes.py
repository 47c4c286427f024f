"""Hand-worked box arithmetic."""

import math

import torch

from cascadezoo.conventions import BoxCoder
from cascadezoo.ops.boxes import clip, decode

CLAMP = math.log(1000 / 16)


def coder(*stds: float) -> BoxCoder:
    return BoxCoder(stds=stds, log_scale=(-CLAMP, CLAMP))


def test_decode_moves_the_centre_and_scales_the_size() -> None:
    # box 10..30 x 20..60: centre (20, 40), size (20, 40); dx 1 * 0.1 * 20 = 2, dy -2 * 0.1 * 40 = -8,
    # dw ln2 / 0.2 * 0.2 = ln2 doubles the width, dh 0 keeps the height
    box = torch.tensor([[10.0, 20.0, 30.0, 60.0]])
    deltas = torch.tensor([[1.0, -2.0, math.log(2) / 0.2, 0.0]])
    moved = decode(deltas, box, coder(0.1, 0.1, 0.2, 0.2))
    torch.testing.assert_close(moved, torch.tensor([[22.0 - 20, 32.0 - 20, 22.0 + 20, 32.0 + 20]]))


def test_decode_clamps_both_ways() -> None:
    box = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    wide = decode(torch.tensor([[0.0, 0.0, 50.0, -50.0]]), box, coder(1, 1, 1, 1))
    # 16 * (1000 / 16) = 1000 wide, 16 / (1000 / 16) = 0.256 high, around (8, 8)
    torch.testing.assert_close(wide, torch.tensor([[8 - 500.0, 8 - 0.128, 8 + 500.0, 8 + 0.128]]))


def test_clip_keeps_each_picture_to_its_own_size() -> None:
    boxes = torch.tensor([[[-5.0, -5.0, 50.0, 50.0]], [[-5.0, 2.0, 50.0, 50.0]]])
    sizes = torch.tensor([[20.0, 30.0], [40.0, 10.0]])  # height, width
    expected = torch.tensor([[[0.0, 0.0, 30.0, 20.0]], [[0.0, 2.0, 10.0, 40.0]]])
    torch.testing.assert_close(clip(boxes, sizes), expected)
