"""Deformable convolution, version 1: worked by hand, against a plain loop, and where a map ends."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import deform_conv2d as torchvisions

from cascadezoo.errors import UsageError
from cascadezoo.ops import deform_conv2d as module
from cascadezoo.ops.deform_conv2d import deform_conv2d
from cascadezoo.ops.library import COMPILED

ops = torch.ops.cascadezoo
refused = (UsageError, RuntimeError)  # of the reference and of the compiled operator
LONG = 2**24 + 4  # a float32 does not tell its last cells apart


def drawn(
    n: int, h: int, w: int, inputs: int, outputs: int, stride: int = 1, groups: int = 1, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, offsets of some pixels, weight and bias of a 3 x 3 convolution with padding 1."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    offset = 2 * noise(n, 18, (h - 1) // stride + 1, (w - 1) // stride + 1)
    weight = noise(outputs, inputs // groups, 3, 3) / (9 * inputs / groups) ** 0.5
    return noise(n, inputs, h, w), offset, weight, noise(outputs)


def test_by_hand() -> None:
    """The picture is 1 2 3 / 4 5 6 / 7 8 9, the kernel has ones at the left (tap 3) and the right (tap 5) of its middle
    row.  At the centre they read 4 and 6.  Moved by (dy, dx) = (1, 0) the left one reads 7; by (-0.5, 0.25) the right
    one reads row 0.5 and column 2.25: 3 and 6 at column 2 count 0.75 each, and beyond column 2 there are zeros, so
    0.5 * 0.75 * 3 + 0.5 * 0.75 * 6 = 3.375."""
    x, weight = torch.arange(1.0, 10).view(1, 1, 3, 3), torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1, 0] = weight[0, 0, 1, 2] = 1
    offset = torch.zeros(1, 18, 3, 3)
    assert deform_conv2d(x, offset, weight, None, 1, 1, 1)[0, 0, 1, 1] == 4 + 6
    offset[0, 2 * 3 : 2 * 3 + 2, 1, 1] = torch.tensor([1.0, 0.0])
    offset[0, 2 * 5 : 2 * 5 + 2, 1, 1] = torch.tensor([-0.5, 0.25])
    assert deform_conv2d(x, offset, weight, torch.tensor([0.5]), 1, 1, 1)[0, 0, 1, 1] == 7 + 3.375 + 0.5


def by_loop(x: Tensor, offset: Tensor, weight: Tensor, stride: int, groups: int) -> Tensor:
    """The formula, point by point, in float64."""
    x, offset, weight = x.double(), offset.double(), weight.double()
    n, inputs, h, w = x.shape
    ho, wo = offset.shape[2:]
    out = torch.zeros(n, len(weight), ho, wo, dtype=torch.float64)
    for i in range(n):
        for y in range(ho):
            for z in range(wo):
                for tap in range(9):
                    v = y * stride - 1 + tap // 3 + float(offset[i, 2 * tap, y, z])
                    u = z * stride - 1 + tap % 3 + float(offset[i, 2 * tap + 1, y, z])
                    read = torch.zeros(inputs, dtype=torch.float64)
                    for row in (math.floor(v), math.floor(v) + 1):
                        for column in (math.floor(u), math.floor(u) + 1):
                            if 0 <= row < h and 0 <= column < w:
                                read += max(0, 1 - abs(v - row)) * max(0, 1 - abs(u - column)) * x[i, :, row, column]
                    by_group = read.view(groups, -1, 1)
                    mine = weight[:, :, tap // 3, tap % 3].view(groups, -1, inputs // groups)
                    out[i, :, y, z] += (mine @ by_group).flatten()
    return out


@pytest.mark.parametrize(
    ("inputs", "outputs", "groups", "stride"),
    [
        (16, 32, 1, 1),
        (32, 64, 1, 2),
        (64, 64, 2, 1),  # groups of a whole chunk of results
        (64, 64, 8, 2),  # four groups in a chunk
        (32, 32, 32, 1),
        (128, 64, 4, 1),  # two groups in a chunk, of 32 channels each
        (6, 4, 2, 1),  # channels that the quick way does not take
        (48, 48, 2, 1),  # groups of 24 results: no chunk is made of whole ones
        (8, 32, 1, 1),
    ],
)
def test_equals_the_formula(inputs: int, outputs: int, groups: int, stride: int) -> None:
    x, offset, weight, _ = drawn(2, 5, 6, inputs, outputs, stride, groups)
    found = deform_conv2d(x, offset, weight, None, stride, 1, groups)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.double(), by_loop(x, offset, weight, stride, groups), rtol=0, atol=3e-6)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 3),
    h=st.integers(1, 9),
    w=st.integers(1, 9),
    stride=st.integers(1, 2),
    groups=st.sampled_from([1, 4]),
    seed=st.integers(0, 9),
)
def test_equals_torchvision(n: int, h: int, w: int, stride: int, groups: int, seed: int) -> None:
    """Maps of one cell too, which mmcv's operator refuses."""
    x, offset, weight, bias = drawn(n, h, w, 64, 96, stride, groups, seed)
    expected = torchvisions(x, offset, weight, bias, stride, 1)
    found = deform_conv2d(x, offset, weight, bias, stride, 1, groups)
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-6)


def test_the_reference_is_torchvisions_to_the_last_bit() -> None:
    for groups in (1, 4):
        x, offset, weight, bias = drawn(2, 9, 7, 64, 96, 2, groups)
        rows = module.reference(x.permute(0, 2, 3, 1), offset.permute(0, 2, 3, 1), weight, bias, 2, 1, groups)
        assert torch.equal(rows.permute(0, 3, 1, 2), torchvisions(x, offset, weight, bias, 2, 1))


@pytest.mark.parametrize("inputs", [32, 6])
def test_offsets_of_zero_are_an_ordinary_convolution(inputs: int) -> None:
    x, offset, weight, bias = drawn(1, 11, 13, inputs, inputs)
    found = deform_conv2d(x, torch.zeros_like(offset), weight, bias, 1, 1, 1)
    torch.testing.assert_close(found, F.conv2d(x, weight, bias, padding=1), rtol=0, atol=5e-6)


def test_a_padded_map_gives_the_same() -> None:
    """mmcv's layer without offsets of its own pads maps smaller than the kernel with zeros, and crops."""
    x, offset, weight, _ = drawn(1, 2, 1, 32, 32)
    padded = deform_conv2d(F.pad(x, (0, 2, 0, 1)), F.pad(offset, (0, 2, 0, 1)), weight, None, 1, 1, 1)
    torch.testing.assert_close(deform_conv2d(x, offset, weight, None, 1, 1, 1), padded[..., :2, :1], rtol=0, atol=1e-6)


@pytest.mark.skipif("cpu" not in COMPILED, reason="torchvision's product follows the shape of a batch")
def test_gives_the_same_in_any_number_of_threads_and_beside_any_neighbours() -> None:
    x, offset, weight, bias = drawn(3, 20, 21, 64, 64)
    alone = torch.cat([deform_conv2d(a[None], b[None], weight, bias, 1, 1, 1) for a, b in zip(x, offset, strict=True)])
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            assert torch.equal(deform_conv2d(x, offset, weight, bias, 1, 1, 1), alone)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("inputs", [32, 6])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38, -3e38, 2.0**63])
def test_a_point_that_is_nowhere_is_zero(value: float, inputs: int) -> None:
    x, offset, weight, bias = drawn(1, 4, 5, inputs, inputs)
    leaf, moves = x.requires_grad_(), torch.full_like(offset, value)
    found = deform_conv2d(leaf, moves, weight, bias, 1, 1, 1)
    assert torch.equal(found, bias[:, None, None].expand_as(found))
    found.sum().backward()
    assert not leaf.grad.any()


def test_a_map_with_more_pixels_than_float32_counts() -> None:
    """Output pixel 1 lies at 2^24: two further is a pixel, three are taken for four, beyond the far edge."""
    x, weight = torch.zeros(1, 1, 1, LONG), torch.ones(1, 1, 1, 1)
    x[..., 2**24 + 2] = 7
    for shift, expected in ((2.0, 7.0), (3.0, 0.0)):
        offset = torch.tensor([[0.0, 0.0], [0.0, shift]])[None, :, None]
        assert deform_conv2d(x, offset, weight, None, 2**24, 0, 1).flatten().tolist() == [0.0, expected]


@pytest.mark.parametrize("shape", [(0, 16, 4, 5), (2, 16, 0, 5), (1, 16, 0, 0)], ids=str)
def test_of_nothing_is_the_bias(shape: tuple[int, ...]) -> None:
    n, channels, h, w = shape
    bias = torch.arange(32.0)
    found = deform_conv2d(
        torch.ones(shape), torch.zeros(n, 18, h + 2, w + 2), torch.ones(32, channels, 3, 3), bias, 1, 2, 1
    )
    assert found.shape == (n, 32, h + 2, w + 2)
    assert torch.equal(found, bias[:, None, None].expand_as(found))


def test_gradients() -> None:
    x, offset, weight, bias = (each.double() for each in drawn(1, 4, 5, 4, 6, 2, 2))
    leaves = [each.requires_grad_() for each in (x, offset, weight, bias)]
    assert torch.autograd.gradcheck(lambda *each: deform_conv2d(*each, 2, 1, 2), leaves)
    assert torch.autograd.gradcheck(lambda *each: deform_conv2d(*each, None, 2, 1, 2), leaves[:3])


def test_can_be_differentiated_once() -> None:
    x, offset, weight, _ = (each.double() for each in drawn(1, 3, 3, 2, 2))
    leaf = x.requires_grad_()
    (grad,) = torch.autograd.grad(deform_conv2d(leaf, offset, weight, None, 1, 1, 1).sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="double backwards on deform_conv2d not supported"):
        grad.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_have_positions_of_float32(dtype: torch.dtype) -> None:
    """Column 300.5 is none that half precision has beside its whole part in bfloat16: the mean of two pixels."""
    x = torch.arange(640.0).remainder(2).view(1, 1, 1, -1).to(dtype)
    offset = torch.full((1, 2, 1, 640), 0.5).to(dtype)
    offset[:, 0] = 0
    found = deform_conv2d(x, offset, torch.ones(1, 1, 1, 1, dtype=dtype), None, 1, 0, 1)
    assert found.dtype == dtype
    assert torch.equal(found[..., :-1], torch.full((1, 1, 1, 639), 0.5, dtype=dtype))


def test_under_autocast_weights_follow_the_input() -> None:
    x, offset, weight, bias = drawn(1, 6, 7, 32, 32)
    expected = deform_conv2d(x, offset, weight, bias, 1, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        found = deform_conv2d(x.bfloat16(), offset.bfloat16(), weight.requires_grad_(), bias, 1, 1, 1)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.1)
    found.float().sum().backward()
    assert weight.grad.dtype == torch.float32


X, OFFSET, WEIGHT = torch.ones(1, 4, 5, 4), torch.zeros(1, 4, 5, 18), torch.ones(6, 4, 3, 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": X[0]}, "four axes"),
        ({"weight": WEIGHT[0]}, "four axes"),
        ({"x": X.long(), "weight": WEIGHT.long()}, "floating point"),
        ({"offset": OFFSET.long()}, "floating point"),
        ({"weight": WEIGHT.double()}, "of x's type"),
        ({"stride": 0}, "positive"),
        ({"groups": 0}, "positive"),
        ({"pad": -1}, "not negative"),
        ({"groups": 4}, "does not take"),
        ({"groups": 2}, "does not take"),
        ({"weight": WEIGHT[:, :3]}, "does not take"),
        ({"weight": WEIGHT[:0]}, "does not take"),
        ({"weight": torch.ones(6, 4, 0, 3)}, "does not take"),
        ({"offset": OFFSET[..., :17]}, r"offset .*4, 5, 18"),
        ({"offset": OFFSET[:, :3]}, r"offset .*4, 5, 18"),
        ({"stride": 2}, r"offset .*2, 3, 18"),
        ({"pad": 0, "weight": torch.ones(6, 4, 5, 3)}, "offset"),
        ({"bias": torch.ones(5)}, "bias must be"),
        ({"bias": torch.ones(6, 1)}, "bias must be"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], words: str) -> None:
    numbers = {"x": X, "offset": OFFSET, "weight": WEIGHT, "bias": None, "stride": 1, "pad": 1, "groups": 1} | change
    for operator in {ops.deform_conv2d, module.reference}:
        with pytest.raises(refused, match=words):
            operator(*numbers.values())
