"""The CUDA kernels of DCNv3, emulated, against the references on drawn and on real sizes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cascadezoo.ops import dcnv3, dcnv3_fused

from cuda_emulation.building import operators

pytestmark = pytest.mark.emulated
DIGIT = {torch.float64: 2**-53, torch.float32: 2**-24, torch.float16: 2**-11, torch.bfloat16: 2**-8}
MOST = 16  # such units: sums of 36 terms or more in another order, with exponentials of another library


def departure(found: Tensor, right: Tensor, size: Tensor) -> float:
    """The largest difference in half units of the last place; ``size``: the sums of the terms' sizes."""
    assert found.dtype == right.dtype
    assert found.shape == right.shape
    assert torch.equal(found.isnan(), right.isnan())
    unit = DIGIT[found.dtype] * size.double() + (2**-25 if found.dtype == torch.float16 else 0)  # half's least step
    return float(((found.double() - right.double()).abs() / unit).nan_to_num(0).max()) if found.numel() else 0.0


def most_of(dtype: torch.dtype) -> int:
    """Positions are computed as the reference does; halves: their own rounding, on either side of a float32's."""
    return 2 if dtype in (torch.float16, torch.bfloat16) else MOST


def check(input: Tensor, rows: Tensor, *numbers: object) -> None:
    found, right = operators().dcnv3_fused(input, rows, *numbers), dcnv3_fused.reference(input, rows, *numbers)
    assert departure(found, right, dcnv3_fused.reference(input.abs(), rows, *numbers)) <= most_of(found.dtype)


@st.composite
def windows(draw) -> tuple[Tensor, Tensor, list[int], list[int], list[int], int, float]:
    dtype = draw(st.sampled_from([torch.float32] * 3 + [torch.float64, torch.float16, torch.bfloat16]))
    stride, pad, dilation = ([draw(st.integers(low, 2)) for _ in "yx"] for low in (1, 0, 1))
    sides = [draw(st.integers(max(1, 2 * d + 1 - 2 * p), 19)) for p, d in zip(pad, dilation, strict=True)]
    size = [(s + 2 * p - 2 * d - 1) // t + 1 for s, t, p, d in zip(sides, stride, pad, dilation, strict=True)]
    images, groups = draw(st.integers(1, 2)), draw(st.sampled_from([1, 2, 3, 5, 7, 10]))
    width = draw(st.sampled_from([1, 3, 4, 8, 16, 20, 64]))
    noise = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    input = torch.randn(images, *sides, groups * width, generator=noise).to(dtype)
    rows = torch.randn(images, *size, -(-27 * groups // 8) * 8, generator=noise)
    rows *= draw(st.sampled_from([0.0, 1.0, 9.0]))
    odd = st.sampled_from([math.nan, math.inf, -math.inf, 3e38, 1e9, -40.0, 0.5, -1.0])
    for value in draw(st.lists(odd, max_size=3)):  # offsets alone
        rows[..., draw(st.integers(0, 18 * groups - 1))] = value
    rows[..., 27 * groups :] = math.nan
    scale = draw(st.sampled_from([1.0, 2.0, 0.3]))
    if draw(st.booleans()):  # not where 16 bytes begin
        rows = torch.cat((torch.zeros(1), rows.flatten()))[1:].view(rows.shape)
    return input, rows.to(dtype), stride, pad, dilation, groups, scale


@settings(derandomize=True, deadline=None, database=None, max_examples=100)
@given(windows())
def test_drawn_windows_are_sampled_as_the_reference_does(window) -> None:
    check(*window)


@settings(derandomize=True, deadline=None, database=None, max_examples=60)
@given(windows(), st.booleans())
def test_drawn_windows_have_the_reference_s_gradients(window, float_points: bool) -> None:
    input, rows, *numbers = window
    rows = rows.float() if float_points and input.dtype != torch.float64 else rows
    groups = numbers[3]
    offset, mask = rows[..., : 18 * groups], rows[..., 18 * groups : 27 * groups].tanh()
    given = (offset, mask, [3, 3], *numbers)
    sizes = [dcnv3.reference(input.abs(), offset, mask.abs(), *given[2:])]
    grad = torch.randn(sizes[0].shape, generator=torch.Generator().manual_seed(1)).to(input.dtype)
    found = [operators().dcnv3(input, *given), *operators().dcnv3_backward(grad, input, *given)]
    right = [dcnv3.reference(input, *given), *dcnv3.backward_reference(grad, input, *given)]
    sizes += dcnv3.backward_reference(grad.abs(), input.abs(), offset, mask.abs(), *given[2:])
    sizes[2] = right[2].abs().max()  # slopes have signs: their terms' sizes are not those of slopes
    for one, other, size in zip(found, right, sizes, strict=True):
        assert departure(one, other, size) <= most_of(one.dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_real_size(dtype: torch.dtype) -> None:
    """The first stage of InternImage-L for an image of 800 x 1344: 67,200 pixels of ten groups of 16 channels."""
    noise = torch.Generator().manual_seed(0)
    input = torch.randn(1, 200, 336, 160, generator=noise).to(dtype)
    rows = torch.randn(1, 200, 336, 272, generator=noise).to(dtype)
    check(input, rows, [1, 1], [1, 1], [1, 1], 10, 2.0)
