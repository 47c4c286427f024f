"""The CUDA kernel of DCNv3 for inference, emulated, against the reference on drawn and on real sizes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import cascadezoo.ops.dcnv3_fused  # noqa: F401  (it registers the operator)

from cuda_emulation.building import operators

pytestmark = pytest.mark.emulated
reference = torch.ops.cascadezoo.dcnv3_fused
DIGIT = {torch.float64: 2**-53, torch.float32: 2**-24, torch.float16: 2**-11, torch.bfloat16: 2**-8}
MOST = 64  # of the last place of float32: 36 terms, each with a weight of six operations and two exponentials


def departure(found: Tensor, right: Tensor, size: Tensor) -> float:
    """The largest difference in half units of the last place; ``size``: the sums of the terms' sizes."""
    assert found.dtype == right.dtype
    assert found.shape == right.shape
    unit = DIGIT[found.dtype] * size.double() + (2**-25 if found.dtype == torch.float16 else 0)
    return float(((found.double() - right.double()).abs() / unit).nan_to_num(0).max()) if found.numel() else 0.0


def check(input: Tensor, rows: Tensor, *numbers: object) -> None:
    found, right = operators().dcnv3_fused(input, rows, *numbers), reference(input, rows, *numbers)
    assert torch.equal(found.isnan(), right.isnan())
    # positions are computed as the reference does; halves: their own rounding, on either side of a float32's
    most = 2 if input.dtype in (torch.float16, torch.bfloat16) else MOST
    assert departure(found, right, reference(input.abs(), rows, *numbers)) <= most


@st.composite
def windows(draw) -> tuple[Tensor, Tensor, list[int], list[int], list[int], int, float]:
    dtype = draw(st.sampled_from([torch.float32] * 3 + [torch.float64, torch.float16, torch.bfloat16]))
    h, w = draw(st.integers(1, 19)), draw(st.integers(1, 19))
    stride, pad, dilation = ([draw(st.integers(low, 2)) for _ in "yx"] for low in (1, 0, 1))
    size = [(s + 2 * p - 2 * d - 1) // t + 1 for s, t, p, d in zip((h, w), stride, pad, dilation, strict=True)]
    while min(size) < 1:  # smaller than the kernel
        pad, size = [p + 1 for p in pad], [s + 2 for s in size]
        size = [(s + 2 * p - 2 * d - 1) // t + 1 for s, t, p, d in zip((h, w), stride, pad, dilation, strict=True)]
    images, groups = draw(st.integers(1, 2)), draw(st.sampled_from([1, 2, 3, 5, 7, 10]))
    width = draw(st.sampled_from([1, 3, 4, 8, 16, 20, 64]))
    noise = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    input = torch.randn(images, h, w, groups * width, generator=noise).to(dtype)
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


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_real_size(dtype: torch.dtype) -> None:
    """The first stage of InternImage-L for an image of 800 x 1344: 67,200 pixels of ten groups of 16 channels."""
    noise = torch.Generator().manual_seed(0)
    input = torch.randn(1, 200, 336, 160, generator=noise).to(dtype)
    rows = torch.randn(1, 200, 336, 272, generator=noise).to(dtype)
    check(input, rows, [1, 1], [1, 1], [1, 1], 10, 2.0)
