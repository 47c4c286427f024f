"""Winograd's convolution, the reference and each instruction set that this processor has, against a sum in float64."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cascadezoo.errors import UsageError
from cascadezoo.ops.library import COMPILED
from cascadezoo.ops.winograd import can_pack, pack_weight, winograd_conv3x3

LANES = (4, 8, 16) if "cpu" in COMPILED else (16,)


def drawn(n: int, h: int, w: int, channels: int, out: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, channels, h, w, generator=generator)
    return x, torch.randn(out, channels, 3, 3, generator=generator), torch.randn(out, generator=generator)


def exact(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.conv2d(x.double(), weight.double(), bias.double(), padding=1)


@pytest.mark.parametrize("lanes", LANES)
@settings(max_examples=30)
@given(
    n=st.integers(0, 3),
    h=st.integers(0, 19),
    w=st.integers(0, 19),
    channels=st.sampled_from([16, 48, 64]),
    out=st.sampled_from([32, 96]),
    seed=st.integers(0, 9),
)
def test_equals_the_convolution(lanes: int, n: int, h: int, w: int, channels: int, out: int, seed: int) -> None:
    x, weight, bias = drawn(n, h, w, channels, out, seed)
    found = winograd_conv3x3(x, pack_weight(weight), bias, lanes=lanes)
    assert found.shape == (n, out, h, w)
    if found.numel():
        expected = exact(x, weight, bias)
        assert (found - expected).abs().max() <= 6e-5 * 3 * channels**0.5  # of what sums of so many products are


@pytest.mark.parametrize("lanes", LANES)
def test_errors_are_about_four_times_those_of_the_plain_sum(lanes: int) -> None:
    x, weight, bias = drawn(1, 40, 52, 256, 256, 0)
    expected = exact(x, weight, bias)
    found = winograd_conv3x3(x, pack_weight(weight), bias, lanes=lanes)
    spread = (found - expected).std() / expected.std()
    assert spread <= 6e-6


@pytest.mark.skipif("cpu" not in COMPILED, reason="the reference is a matrix product, whose sums follow its shape")
@pytest.mark.parametrize("lanes", LANES)
def test_gives_the_same_in_any_number_of_threads_and_beside_any_neighbours(lanes: int) -> None:
    x, weight, bias = drawn(5, 14, 14, 64, 32, 0)
    packed = pack_weight(weight)
    alone = torch.cat([winograd_conv3x3(one[None], packed, bias, lanes=lanes) for one in x])
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            assert torch.equal(winograd_conv3x3(x, packed, bias, lanes=lanes), alone)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("lanes", LANES)
def test_relu_keeps_what_is_no_number(lanes: int) -> None:
    x, weight, bias = drawn(1, 8, 8, 16, 32, 0)
    plain = winograd_conv3x3(x, pack_weight(weight), bias, lanes=lanes)
    assert torch.equal(winograd_conv3x3(x, pack_weight(weight), bias, relu=True, lanes=lanes), plain.relu())
    x[0, 3, 2, 2] = float("nan")
    found = winograd_conv3x3(x, pack_weight(weight), bias, relu=True, lanes=lanes)
    assert found[0, :, 1:4, 1:4].isnan().all()  # and of the rest of the tile
    assert found[0, :, 4:, 4:].isfinite().all()


def test_both_ends_are_channels_last() -> None:
    x, weight, bias = drawn(2, 9, 9, 16, 32, 0)
    found = winograd_conv3x3(x.contiguous(memory_format=torch.channels_last), pack_weight(weight), bias)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("shape", "able"),
    [((32, 16, 3, 3), True), ((32, 16, 1, 1), False), ((16, 16, 3, 3), False), ((32, 3, 3, 3), False)],
)
def test_says_what_it_can_pack(shape: tuple[int, ...], able: bool) -> None:
    assert can_pack(torch.zeros(shape)) is able


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(1, 24, 4, 4)}, "multiples"),
        ({"x": torch.zeros(1, 32, 4, 4)}, "pack_weight"),
        ({"x": torch.zeros(1, 16, 4, 4, dtype=torch.float64)}, "float32"),
        ({"bias": torch.zeros(64)}, "pack_weight"),
        ({"bias": torch.zeros(1, 32)}, "bias"),
        ({"lanes": 5}, "lanes"),
    ],
)
def test_bad_arguments_are_refused(change: dict[str, Tensor | int], message: str) -> None:
    arguments = {
        "x": torch.zeros(1, 16, 4, 4),
        "weight": pack_weight(torch.zeros(32, 16, 3, 3)),
        "bias": torch.zeros(32),
    }
    with pytest.raises((UsageError, RuntimeError), match=message):
        winograd_conv3x3(**(arguments | change))
