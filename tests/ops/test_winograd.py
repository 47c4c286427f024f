"""Winograd's convolution by F(4 x 4, 3 x 3) and F(6 x 6, 3 x 3), the references and each instruction set that this
processor has, against a sum in float64."""

from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cascadezoo.errors import UsageError
from cascadezoo.ops import winograd, winograd6
from cascadezoo.ops.library import COMPILED
from cascadezoo.ops.winograd import winograd_conv3x3
from cascadezoo.ops.winograd6 import winograd6_conv3x3

LANES = (4, 8, 16) if "cpu" in COMPILED else (16,)


class Way(NamedTuple):
    """One operator, its rounding errors beside the results' spread, and the side of its tiles."""

    operator: ModuleType
    convolve: Callable[..., Tensor]
    errors: float
    tile: int


WAYS = (Way(winograd, winograd_conv3x3, 6e-6, 4), Way(winograd6, winograd6_conv3x3, 9e-6, 6))
each_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.convolve.__name__)


def drawn(n: int, h: int, w: int, channels: int, out: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, channels, h, w, generator=generator)
    return x, torch.randn(out, channels, 3, 3, generator=generator), torch.randn(out, generator=generator)


def exact(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.conv2d(x.double(), weight.double(), bias.double(), padding=1)


@each_way
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
def test_equals_the_convolution(
    way: Way, lanes: int, n: int, h: int, w: int, channels: int, out: int, seed: int
) -> None:
    x, weight, bias = drawn(n, h, w, channels, out, seed)
    found = way.convolve(x, way.operator.pack_weight(weight), bias, lanes=lanes)
    assert found.shape == (n, out, h, w)
    if found.numel():
        expected = exact(x, weight, bias)
        assert (
            found - expected
        ).abs().max() <= 10 * way.errors * 3 * channels**0.5  # of what sums of so many products are


@each_way
@pytest.mark.parametrize("lanes", LANES)
def test_errors_are_bounded(way: Way, lanes: int) -> None:
    x, weight, bias = drawn(1, 40, 52, 256, 256, 0)
    expected = exact(x, weight, bias)
    found = way.convolve(x, way.operator.pack_weight(weight), bias, lanes=lanes)
    spread = (found - expected).std() / expected.std()
    assert spread <= way.errors


@pytest.mark.skipif("cpu" not in COMPILED, reason="the reference is a matrix product, whose sums follow its shape")
@each_way
@pytest.mark.parametrize("lanes", LANES)
def test_gives_the_same_in_any_number_of_threads_and_beside_any_neighbours(way: Way, lanes: int) -> None:
    x, weight, bias = drawn(5, 14, 14, 64, 32, 0)
    packed = way.operator.pack_weight(weight)
    alone = torch.cat([way.convolve(one[None], packed, bias, lanes=lanes) for one in x])
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            assert torch.equal(way.convolve(x, packed, bias, lanes=lanes), alone)
    finally:
        torch.set_num_threads(threads)


@each_way
@pytest.mark.parametrize("lanes", LANES)
def test_relu_keeps_what_is_no_number(way: Way, lanes: int) -> None:
    x, weight, bias = drawn(1, 2 * way.tile, 2 * way.tile, 16, 32, 0)
    packed = way.operator.pack_weight(weight)
    plain = way.convolve(x, packed, bias, lanes=lanes)
    assert torch.equal(way.convolve(x, packed, bias, relu=True, lanes=lanes), plain.relu())
    x[0, 3, 2, 2] = float("nan")
    found = way.convolve(x, packed, bias, relu=True, lanes=lanes)
    assert found[0, :, 1:4, 1:4].isnan().all()  # and of the rest of the tile
    assert found[0, :, way.tile :, way.tile :].isfinite().all()


@each_way
def test_a_sum_lies_in_the_memory_of_what_it_is_added_to(way: Way) -> None:
    x, weight, bias = drawn(1, 8, 9, 16, 32, 0)
    packed, onto = way.operator.pack_weight(weight), torch.randn(1, 32, 8, 9)
    expected = (way.convolve(x, packed, bias) + onto).relu()
    found = way.convolve(x, packed, bias, onto, relu=True)
    assert found is onto
    assert torch.equal(found, expected)


@each_way
def test_both_ends_are_channels_last(way: Way) -> None:
    x, weight, bias = drawn(2, 9, 9, 16, 32, 0)
    packed = way.operator.pack_weight(weight)
    found = way.convolve(x.contiguous(memory_format=torch.channels_last), packed, bias)
    assert found.is_contiguous(memory_format=torch.channels_last)


@each_way
@pytest.mark.parametrize(
    ("shape", "able"),
    [((32, 16, 3, 3), True), ((32, 16, 1, 1), False), ((16, 16, 3, 3), False), ((32, 3, 3, 3), False)],
)
def test_says_what_it_can_pack(way: Way, shape: tuple[int, ...], able: bool) -> None:
    assert way.operator.can_pack(torch.zeros(shape)) is able


@pytest.mark.parametrize(
    ("shape", "able"), [((256, 256, 3, 3), True), ((512, 128, 3, 3), True), ((288, 256, 3, 3), False)]
)
def test_the_larger_tiles_are_for_weights_that_a_cache_holds(shape: tuple[int, ...], able: bool) -> None:
    assert winograd.can_pack(torch.zeros(shape))
    assert winograd6.can_pack(torch.zeros(shape)) is able


@each_way
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
def test_bad_arguments_are_refused(way: Way, change: dict[str, Tensor | int], message: str) -> None:
    arguments = {
        "x": torch.zeros(1, 16, 4, 4),
        "weight": way.operator.pack_weight(torch.zeros(32, 16, 3, 3)),
        "bias": torch.zeros(32),
    }
    with pytest.raises((UsageError, RuntimeError), match=message):
        way.convolve(**(arguments | change))
