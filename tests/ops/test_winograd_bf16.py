"""Winograd's convolution in bfloat16, the reference and each instruction set that this processor has, against a sum in
float64 of the same numbers and against the plain convolution in bfloat16."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cascadezoo.errors import UsageError
from cascadezoo.ops.library import COMPILED
from cascadezoo.ops.winograd_bf16 import can_pack, is_quick, pack_weight, widest, winograd_conv3x3_bf16

LANES = ((4, 16) if widest() == 16 else (4,)) if "cpu" in COMPILED else (16,)


def drawn(n: int, h: int, w: int, channels: int, out: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, channels, h, w, generator=generator).bfloat16()
    weight = torch.randn(out, channels, 3, 3, generator=generator).bfloat16()
    return x, weight, torch.randn(out, generator=generator).bfloat16()


def exact(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.conv2d(x.double(), weight.double(), bias.double(), padding=1)


def spread(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).std() / expected.std())


@pytest.mark.parametrize("lanes", LANES)
@settings(max_examples=30)
@given(
    n=st.integers(0, 3),
    h=st.integers(0, 19),
    w=st.integers(0, 19),
    channels=st.sampled_from([32, 96]),
    out=st.sampled_from([32, 64]),
    seed=st.integers(0, 9),
)
def test_equals_the_convolution(lanes: int, n: int, h: int, w: int, channels: int, out: int, seed: int) -> None:
    x, weight, bias = drawn(n, h, w, channels, out, seed)
    found = winograd_conv3x3_bf16(x, pack_weight(weight), bias, lanes=lanes)
    assert found.shape == (n, out, h, w)
    assert found.dtype == torch.bfloat16
    if found.numel():
        assert (found - exact(x, weight, bias)).abs().max() <= 0.12 * 3 * channels**0.5  # of what such sums are


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize(("sides", "most"), [((40, 52), 0.013), ((42, 2), 0.013), ((2, 2), 0.009)])
def test_errors_of_independent_pixels_are_below_those_of_the_usual_points(
    sides: tuple[int, int], most: float, lanes: int
) -> None:
    """Which are 0.026 at 0, 1, -1, 2, -2 and infinity; tiles two wide, which only the kernel makes, have less."""
    x, weight, bias = drawn(1, *sides, 256, 256)
    found = winograd_conv3x3_bf16(x, pack_weight(weight), bias, lanes=lanes)
    assert spread(found, exact(x, weight, bias)) <= (most if "cpu" in COMPILED else 0.013)


@pytest.mark.parametrize("lanes", LANES)
def test_errors_of_smooth_maps_are_at_most_two_and_a_half_times_a_plain_convolutions(lanes: int) -> None:
    """Where the weights were float32 and have been rounded, as a network's are."""
    x, rounded, bias = drawn(1, 8, 10, 256, 256)
    x = F.interpolate(x.float(), size=(32, 40), mode="bilinear").relu().bfloat16()
    weight = rounded * (1 + (torch.rand(rounded.shape, generator=torch.Generator().manual_seed(0)) - 0.5) / 2**8)
    expected = exact(x, weight, bias)
    plain = spread(F.conv2d(x, weight.bfloat16(), bias, padding=1), expected)
    found = winograd_conv3x3_bf16(x, pack_weight(weight.bfloat16()), bias, lanes=lanes)
    assert spread(found, expected) <= 2.5 * plain


@pytest.mark.parametrize("lanes", LANES)
def test_adds_and_rectifies_before_it_rounds(lanes: int) -> None:
    x, weight, bias = drawn(2, 9, 14, 32, 32)
    packed, onto = pack_weight(weight), drawn(2, 9, 14, 32, 32, seed=1)[0]
    found = winograd_conv3x3_bf16(x, packed, bias, onto, lanes=lanes)
    expected = exact(x, weight, bias) + onto.double()
    assert spread(found, expected) <= 0.013
    rectified = winograd_conv3x3_bf16(x, packed, bias, onto, relu=True, lanes=lanes)
    assert torch.equal(rectified, found.relu())
    assert torch.equal(
        winograd_conv3x3_bf16(x, packed, bias, torch.zeros_like(onto), lanes=lanes),
        winograd_conv3x3_bf16(x, packed, bias, lanes=lanes),
    )


@pytest.mark.skipif("cpu" not in COMPILED, reason="the reference is a matrix product, whose sums follow its shape")
@pytest.mark.parametrize("lanes", LANES)
def test_gives_the_same_in_any_number_of_threads_and_beside_any_neighbours(lanes: int) -> None:
    x, weight, bias = drawn(7, 14, 14, 64, 32)
    packed = pack_weight(weight)
    alone = torch.cat([winograd_conv3x3_bf16(one[None], packed, bias, lanes=lanes) for one in x])
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            assert torch.equal(winograd_conv3x3_bf16(x, packed, bias, lanes=lanes), alone)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("lanes", LANES)
def test_keeps_what_is_no_number(lanes: int) -> None:
    x, weight, bias = drawn(1, 8, 10, 32, 32)
    x[0, 3, 2, 2] = float("nan")
    found = winograd_conv3x3_bf16(x, pack_weight(weight), bias, relu=True, lanes=lanes)
    assert found[0, :, 1:4, 1:4].isnan().all()  # and of the rest of the tile
    assert found[0, :, 4:, 4:].isfinite().all()


def test_both_ends_are_channels_last() -> None:
    x, weight, bias = drawn(2, 9, 9, 32, 32)
    packed = pack_weight(weight)
    found = winograd_conv3x3_bf16(x.contiguous(memory_format=torch.channels_last), packed, bias)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found, winograd_conv3x3_bf16(x, packed, bias))


@pytest.mark.skipif("cpu" not in COMPILED, reason="not built: `cascadezoo build-ops`")
def test_instructions_that_are_not_there_are_refused() -> None:
    x, weight, bias = drawn(1, 4, 4, 32, 32)
    if widest() == 16:
        assert torch.cpu._is_avx512_bf16_supported()
        winograd_conv3x3_bf16(x, pack_weight(weight), bias, lanes=16)
    else:
        assert not is_quick()
        with pytest.raises(RuntimeError, match="avx512_bf16"):
            winograd_conv3x3_bf16(x, pack_weight(weight), bias, lanes=16)


def test_plain_products_are_left_to_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_quick() is (max(LANES) == 16 and "cpu" in COMPILED and not torch.cpu._is_amx_tile_supported())
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert not is_quick()


@pytest.mark.parametrize(
    ("shape", "able"),
    [((32, 64, 3, 3), True), ((32, 32, 1, 1), False), ((16, 32, 3, 3), False), ((32, 16, 3, 3), False)],
)
def test_says_what_it_can_pack(shape: tuple[int, ...], able: bool) -> None:
    assert can_pack(torch.zeros(shape)) is able


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(1, 48, 4, 4).bfloat16()}, "multiples"),
        ({"x": torch.zeros(1, 64, 4, 4).bfloat16()}, "pack_weight"),
        ({"x": torch.zeros(1, 32, 4, 4)}, "bfloat16"),
        ({"bias": torch.zeros(64).bfloat16()}, "pack_weight"),
        ({"bias": torch.zeros(1, 32).bfloat16()}, "bias"),
        ({"onto": torch.zeros(1, 32, 4, 5).bfloat16()}, "onto"),
        ({"onto": torch.zeros(1, 32, 4, 4)}, "bfloat16"),
        ({"lanes": 5}, "lanes"),
    ],
)
def test_bad_arguments_are_refused(change: dict[str, Tensor | int], message: str) -> None:
    arguments = {
        "x": torch.zeros(1, 32, 4, 4).bfloat16(),
        "weight": pack_weight(torch.zeros(32, 32, 3, 3)),
        "bias": torch.zeros(32).bfloat16(),
    }
    with pytest.raises((UsageError, RuntimeError), match=message):
        winograd_conv3x3_bf16(**(arguments | change))
