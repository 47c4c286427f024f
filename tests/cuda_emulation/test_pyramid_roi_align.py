"""The CUDA kernels of pyramid RoIAlign, emulated, against the reference on drawn and on real sizes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import cascadezoo.ops.roi_align  # noqa: F401  (it registers the operators)

from cuda_emulation.building import operators

pytestmark = pytest.mark.emulated
reference = torch.ops.cascadezoo.pyramid_roi_align
backward_reference = torch.ops.cascadezoo.pyramid_roi_align_backward
SCALES = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
DIGIT = {torch.float64: 2**-53, torch.float32: 2**-24, torch.float16: 2**-11, torch.bfloat16: 2**-8}
TINY = {torch.float64: 0.0, torch.float32: 0.0, torch.float16: 2**-24, torch.bfloat16: 0.0}  # halves have a least step


def departs(found: Tensor, right: Tensor, size: Tensor) -> float:
    """The largest difference in half units of the last place of ``size``, the sum of the terms' sizes.

    Positions and weights are computed as the reference does; only the order of the sums differs, and for half types,
    whose sums are of float32, the last rounding.
    """
    assert found.dtype == right.dtype
    assert found.shape == right.shape
    assert found.isfinite().all()
    unit = DIGIT[found.dtype] * size.double() + TINY[found.dtype] / 2
    return float(((found.double() - right.double()).abs() / unit).nan_to_num(0).max()) if found.numel() else 0.0


def check(features: list[Tensor], boxes: Tensor, levels: Tensor, resolution: int, sampling: int, aligned: bool) -> None:
    scales = SCALES[: len(features)]
    numbers = (boxes, levels, scales)
    found = operators().pyramid_roi_align(features, *numbers, resolution, sampling, aligned)
    right = reference(features, *numbers, resolution, sampling, aligned)
    # float32: some sixty terms an axis at most, each of a weight that is a sum itself; halves: one rounding more
    most = 2 if features[0].dtype in (torch.float16, torch.bfloat16) else 64
    sizes = reference([f.abs() for f in features], *numbers, resolution, sampling, aligned)
    assert departs(found, right, sizes) <= most
    grad = torch.randn(found.shape, generator=torch.Generator().manual_seed(1)).to(found.dtype)
    sides = [[f.shape[axis] for f in features] for axis in (2, 3)]
    found_grads = operators().pyramid_roi_align_backward(grad, *numbers, sampling, aligned, *sides)
    right_grads = backward_reference(grad, *numbers, sampling, aligned, *sides)
    sizes = backward_reference(grad.abs(), *numbers, sampling, aligned, *sides)
    for one, other, size in zip(found_grads, right_grads, sizes, strict=True):
        assert departs(one, other, size) <= most


COORDINATE = st.one_of(
    st.floats(-40, 140, width=32),
    st.integers(-5, 16).map(lambda cell: 8.0 * cell),  # edges of cells on every level
    st.sampled_from([0.0, 3000.0, -3000.0, math.nan, math.inf, -math.inf]),
)


@st.composite
def pyramids(draw) -> tuple[list[Tensor], Tensor, Tensor, int, int, bool]:
    dtype = draw(st.sampled_from([torch.float32] * 3 + [torch.float64, torch.float16, torch.bfloat16]))
    images, channels = draw(st.integers(1, 2)), draw(st.sampled_from([0, 1, 3, 4, 8, 40]))
    sides = draw(st.lists(st.tuples(st.integers(0, 17), st.integers(0, 17)), min_size=1, max_size=4))
    noise = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    features = [torch.randn(images, channels, h, w, generator=noise).to(dtype) for h, w in sides]
    if draw(st.booleans()):
        features = [f.contiguous(memory_format=torch.channels_last) for f in features]
    count = draw(st.integers(0, 4))
    box = st.lists(COORDINATE, min_size=4, max_size=4)
    boxes = draw(st.lists(box, min_size=images * count, max_size=images * count))
    level = st.integers(-1, len(sides) - 1)
    levels = draw(st.lists(level, min_size=images * count, max_size=images * count))
    rows = torch.tensor(boxes, dtype=torch.float32).view(images, count, 4)
    of_level = torch.tensor(levels, dtype=torch.int64).view(images, count)
    turned = (rows[..., 2:] - rows[..., :2]).prod(-1) < 0  # of no level, as box_levels has it; torchvision raises
    return (
        features,
        rows,
        of_level.where(~turned, -1),
        draw(st.integers(1, 9)),
        draw(st.integers(0, 3)),
        draw(st.booleans()),
    )


@settings(derandomize=True, deadline=None, database=None, max_examples=150)
@given(pyramids())
def test_drawn_pyramids_pool_as_the_reference_does(pyramid) -> None:
    check(*pyramid)


def detector(boxes: int, dtype: torch.dtype) -> tuple[list[Tensor], Tensor, Tensor]:
    """The levels of an image of 800 x 1344 pixels, 256 channels, and boxes as proposals are: most of them small."""
    noise = torch.Generator().manual_seed(boxes)
    features = [torch.randn(1, 256, -(-800 // s), 1344 // s, generator=noise).to(dtype) for s in (4, 8, 16, 32)]
    features = [f.contiguous(memory_format=torch.channels_last) for f in features]
    centre = torch.rand(1, boxes, 2, generator=noise) * torch.tensor([1344.0, 800.0])
    size = torch.exp(torch.rand(1, boxes, 2, generator=noise) * 5 + 1.5) / 2
    limit = torch.tensor([1344.0, 800.0]).repeat(2)
    some = torch.cat((centre - size, centre + size), -1).clamp(min=0).minimum(limit)
    side = (some[..., 2:] - some[..., :2]).prod(-1).sqrt()
    return features, some, torch.floor(torch.log2(side / 56 + 1e-6)).clamp(0, 3).to(torch.int64)


@pytest.mark.parametrize(
    ("boxes", "resolution", "dtype"), [(1000, 7, torch.float16), (1000, 7, torch.float32), (100, 14, torch.bfloat16)]
)
def test_real_sizes(boxes: int, resolution: int, dtype: torch.dtype) -> None:
    """1000 x 256 x 7 x 7 of the box heads, 100 x 256 x 14 x 14 of the mask heads."""
    check(*detector(boxes, dtype), resolution, 0, True)


def test_a_large_box_counts_every_point_and_a_huge_one_ends() -> None:
    """2008 points along a side at -1000, -999, ... 1007; the ten from -1 to 8 lie on the map of ones.

    The reference refuses the boxes after it; a GPU would have to be waited for, so these pool to what lies on the map.
    """
    ones = [torch.ones(1, 1, 8, 8)]
    edges = [[-1000.0, -1000, 1008, 1008], [-1e9, -1e9, 1e9, 1e9], [-3e38, 0, 3e38, 1], [0.0, 0, 3e38, 3e38]]
    boxes, levels = torch.tensor([edges]), torch.zeros(1, len(edges), dtype=torch.int64)
    pooled = operators().pyramid_roi_align(ones, boxes, levels, [1.0], 1, 0, True).flatten()
    assert pooled[0].item() == pytest.approx((10 / 2008) ** 2, rel=1e-4)
    assert pooled[1:].tolist() == pytest.approx([0, 0, 0], abs=1e-8)


@pytest.mark.parametrize("forward", [True, False])
def test_the_fake_has_the_kernels_layout(forward: bool) -> None:
    features, boxes, levels = [torch.ones(2, 3, 6, 5)], torch.zeros(2, 4, 4), torch.zeros(2, 4, dtype=torch.int64)
    arguments = [features, boxes, levels, [1.0], 7, 0, True]
    grad = torch.ones(8, 3, 7, 7)
    if not forward:
        arguments = [grad, boxes, levels, [1.0], 0, True, [6], [5]]
    name = "pyramid_roi_align" + ("" if forward else "_backward")
    with FakeTensorMode() as mode:
        fakes = [mode.from_tensor(t) if isinstance(t, Tensor) else t for t in arguments]
        fakes[:3] = [torch.empty(t.shape, dtype=t.dtype, device="cuda") for t in (grad, boxes, levels)]
        if forward:
            fakes[0] = [torch.empty(2, 3, 6, 5, device="cuda")]
        fake = getattr(torch.ops.cascadezoo, name)(*fakes)
    real = getattr(operators(), name)(*arguments)
    fake, real = (x if forward else x[0] for x in (fake, real))
    assert (fake.shape, fake.stride()) == (real.shape, real.stride())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"features": []}, "no levels"),
        ({"features": [torch.ones(1, 2, 3, 3)] * 9, "scales": [1.0] * 9}, "1 to 8 levels"),
        ({"scales": [1.0, 2.0]}, "a scale for each"),
        ({"scales": [math.nan]}, "scale must be a finite number"),
        ({"features": [torch.ones(2, 3, 3)]}, "must be \\(N, C, H, W\\)"),
        ({"features": [torch.ones(1, 2, 3, 3, dtype=torch.int64)]}, "floating point"),
        ({"features": [torch.ones(2, 2, 3, 3)]}, "different images"),
        ({"features": [torch.ones(1, 1, 1, 40_000)]}, "more cells along a side"),
        ({"boxes": torch.zeros(1, 4)}, "boxes must be"),
        ({"boxes": torch.zeros(1, 1, 4, dtype=torch.float64)}, "boxes must be of float32"),
        ({"levels": torch.zeros(1, 2, dtype=torch.int64)}, "levels must be"),
        ({"levels": torch.zeros(1, 1)}, "levels must be"),
        ({"resolution": 0}, "resolution"),
        ({"resolution": 2**32}, "resolution"),
        ({"resolution": 2000}, "more bins"),
        ({"sampling": -1}, "sampling_ratio"),
    ],
    ids=str,
)
def test_arguments_that_do_not_belong_together_are_refused(change: dict, words: str) -> None:
    arguments = {
        "features": [torch.ones(1, 2, 3, 3)],
        "boxes": torch.zeros(1, 1, 4),
        "levels": torch.zeros(1, 1, dtype=torch.int64),
        "scales": [1.0],
        "resolution": 2,
        "sampling": 0,
        "aligned": True,
    }
    with pytest.raises(RuntimeError, match=words):
        operators().pyramid_roi_align(*(arguments | change).values())


@pytest.mark.parametrize(
    ("grad", "heights", "words"),
    [
        (torch.ones(1, 2, 3, 2), [3], "grad must be"),
        (torch.ones(2, 2, 3, 3), [3], "grad must be"),
        (torch.ones(1, 2, 3, 3), [3, 4], "a height and a width"),
        (torch.ones(1, 2, 3, 3), [-3], "sides must not be negative"),
    ],
)
def test_gradients_of_another_shape_are_refused(grad: Tensor, heights: list[int], words: str) -> None:
    numbers = (torch.zeros(1, 1, 4), torch.zeros(1, 1, dtype=torch.int64), [1.0], 0, True)
    with pytest.raises(RuntimeError, match=words):
        operators().pyramid_roi_align_backward(grad, *numbers, heights, [3])
