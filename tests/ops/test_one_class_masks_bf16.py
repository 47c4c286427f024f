"""The end of a mask head in bfloat16, the reference and each instruction set that this processor has, against the three
layers in float64."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cascadezoo.errors import UsageError
from cascadezoo.ops.library import COMPILED
from cascadezoo.ops.one_class_masks_bf16 import can_pack, one_class_masks_bf16, pack_deconvolution
from cascadezoo.ops.winograd_bf16 import widest

LANES = ((4, 16) if widest() == 16 else (4,)) if "cpu" in COMPILED else (16,)


def drawn(rois: int, height: int, width: int, channels: int, between: int, seed: int = 0) -> list[Tensor]:
    """Features, both layers' weights and biases, and labels of 5 classes."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (rois, channels, height, width), (channels, between, 2, 2), (between,), (5, between), (5,)
    numbers = [torch.randn(shape, generator=generator).bfloat16() for shape in shapes]
    return [*numbers, torch.randint(5, (rois,), generator=generator)]


def packed(x: Tensor, weight: Tensor, *rest: Tensor) -> list[Tensor]:
    return [x, pack_deconvolution(weight), *rest]


def exact(x: Tensor, weight: Tensor, bias: Tensor, class_weight: Tensor, class_bias: Tensor, labels: Tensor) -> Tensor:
    between = F.conv_transpose2d(x.double(), weight.double(), bias.double(), stride=2).relu()
    masks = F.conv2d(between, class_weight.double()[..., None, None], class_bias.double())
    return masks[torch.arange(len(x)), labels]


@pytest.mark.parametrize("lanes", LANES)
@settings(max_examples=30)
@given(
    rois=st.integers(0, 3),
    height=st.integers(0, 9),
    width=st.integers(0, 9),
    channels=st.sampled_from([32, 96]),
    between=st.sampled_from([32, 64]),
    seed=st.integers(0, 9),
)
def test_equals_the_layers_but_for_one_rounding(
    lanes: int, rois: int, height: int, width: int, channels: int, between: int, seed: int
) -> None:
    drawings = drawn(rois, height, width, channels, between, seed)
    found = one_class_masks_bf16(*packed(*drawings), lanes=lanes)
    assert found.shape == (rois, 2 * height, 2 * width)
    assert found.dtype == torch.bfloat16
    if found.numel():
        expected = exact(*drawings)
        assert ((found - expected).abs() <= 2**-8 * expected.abs() + 1e-5 * (channels * between) ** 0.5).all()


@pytest.mark.parametrize("lanes", LANES)
def test_keeps_what_is_no_number(lanes: int) -> None:
    drawings = drawn(2, 5, 6, 32, 32)
    drawings[0][1, 7, 2, 3] = float("nan")
    found = one_class_masks_bf16(*packed(*drawings), lanes=lanes)
    assert found[1, 4:6, 6:8].isnan().all()
    assert found.isnan().sum() == 4


def test_other_layouts_of_the_features_give_the_same() -> None:
    x, *rest = packed(*drawn(2, 5, 6, 32, 32))
    last = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(one_class_masks_bf16(x, *rest), one_class_masks_bf16(last, *rest))


@pytest.mark.parametrize(
    ("shape", "able"),
    [((64, 32, 2, 2), True), ((32, 32, 1, 1), False), ((16, 32, 2, 2), False), ((32, 24, 2, 2), False)],
)
def test_says_what_it_can_pack(shape: tuple[int, ...], able: bool) -> None:
    assert can_pack(torch.zeros(shape)) is able


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(1, 48, 4, 4).bfloat16()}, "multiples"),
        ({"x": torch.zeros(1, 64, 4, 4).bfloat16()}, "pack_deconvolution"),
        ({"x": torch.zeros(1, 32, 4, 4)}, "bfloat16"),
        ({"bias": torch.zeros(1, 32).bfloat16()}, "bias"),
        ({"class_weight": torch.zeros(5, 64).bfloat16()}, "class_weight"),
        ({"class_bias": torch.zeros(4).bfloat16()}, "class_bias"),
        ({"class_bias": torch.zeros(5)}, "bfloat16"),
        ({"labels": torch.tensor([0, 0])}, "labels"),
        ({"labels": torch.tensor([5])}, r"0\.\.4"),
        ({"labels": torch.tensor([-1])}, r"0\.\.4"),
        ({"labels": torch.tensor([0.0])}, "int64"),
        ({"lanes": 5}, "lanes"),
    ],
)
def test_bad_arguments_are_refused(change: dict[str, Tensor | int], message: str) -> None:
    names = ("x", "weight", "bias", "class_weight", "class_bias", "labels")
    arguments = dict(zip(names, packed(*drawn(1, 4, 4, 32, 32)), strict=True))
    with pytest.raises((UsageError, RuntimeError), match=message):
        one_class_masks_bf16(**(arguments | change))
