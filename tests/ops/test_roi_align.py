"""Pooling over a pyramid: levels worked by hand, values against a loop written from the paper."""

import math

import numpy as np
import pytest
import torch

from cascadezoo.ops import roi_align as module
from cascadezoo.ops.roi_align import box_levels, pyramid_roi_align
from cascadezoo.spec.conventions import LevelRule, RoIAlign

RULE = LevelRule(size=56, level=0, epsilon=1e-6, extent=0)
ALIGN = RoIAlign(sampling_ratio=0, aligned=True, skip_empty=False)


def square(side: float) -> list[float]:
    return [10.0, 10.0, 10.0 + side, 10.0 + side]


def test_levels_change_at_112_224_448_and_are_clamped() -> None:
    sides = (0.0, 4.0, 111.0, 112.0, 223.0, 224.0, 447.0, 448.0, 2000.0)
    levels = box_levels(torch.tensor([square(s) for s in sides]), RULE, 4)
    assert levels.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert levels.dtype == torch.int64


def test_levels_from_the_canonical_size_and_with_extent() -> None:
    rule = LevelRule(size=224, level=2, epsilon=1e-6, extent=1)
    sides = (110.0, 111.0, 222.0, 223.0, 447.0)  # one pixel more than x2 - x1
    assert box_levels(torch.tensor([square(s) for s in sides]), rule, 4).tolist() == [0, 1, 1, 2, 3]


def test_epsilon_lifts_a_box_just_below_the_next_level() -> None:
    """111.99997 / 56 is 2 - 5e-7: a millionth more lies above 2, the size at which level 1 begins."""
    boxes = torch.tensor([[0.0, 0.0, 111.99997, 111.99997]])
    assert box_levels(boxes, RULE, 4).tolist() == [1]
    assert box_levels(boxes, RULE.model_copy(update={"epsilon": 0.0}), 4).tolist() == [0]


def test_the_level_is_that_of_the_square_of_equal_area() -> None:
    # 28 x 448 has the area of 112 x 112, and with extent 27 x 447
    boxes = torch.tensor([[0.0, 0.0, 28.0, 448.0], [0.0, 0.0, 448.0, 28.0], [0.0, 0.0, 28.0, 447.0]])
    assert box_levels(boxes, RULE, 4).tolist() == [1, 1, 0]
    rule = RULE.model_copy(update={"extent": 1})
    assert box_levels(boxes - torch.tensor([0.0, 0, 1, 1]), rule, 4).tolist() == [1, 1, 0]


@pytest.mark.parametrize(("aligned", "left"), [(True, 1.5), (False, 2.0)])
def test_half_a_cell_lies_between_aligned_and_not(aligned: bool, left: float, device: str) -> None:
    """A ramp whose value is its column: two bins of 8 / 4 / 2 = 1 cell each, sampled once in their middle."""
    ramp = torch.arange(8.0, device=device).expand(1, 1, 8, 8).contiguous()
    align = RoIAlign(sampling_ratio=1, aligned=aligned, skip_empty=False)
    boxes = torch.tensor([[[8.0, 8.0, 16.0, 16.0]]], device=device)
    pooled = pyramid_roi_align([ramp], boxes, [4], RULE, align, 2)
    assert pooled[0, 0].tolist() == [[left + 0.5, left + 1.5]] * 2


def test_the_number_of_samples_of_a_bin(device: str) -> None:
    """One bin over columns 2..6 of the squares 0, 1, 4, 9, …: one sample at 4, or two at 3 and 5."""
    squares = torch.arange(8.0, device=device).square().expand(1, 1, 8, 8).contiguous()
    for ratio, expected in ((1, 16.0), (2, (9 + 25) / 2)):
        align = RoIAlign(sampling_ratio=ratio, aligned=False, skip_empty=False)
        boxes = torch.tensor([[[8.0, 8.0, 24.0, 24.0]]], device=device)
        pooled = pyramid_roi_align([squares], boxes, [4], RULE, align, 1)
        assert pooled.item() == expected


@pytest.mark.parametrize("compiled", [(), ("cpu",), ("cuda",)])
def test_levels_are_rearranged_for_the_kernel_that_reads_them(compiled: tuple, monkeypatch) -> None:
    monkeypatch.setattr(module, "COMPILED", compiled)
    plain = torch.arange(2.0 * 3 * 4 * 5).view(2, 3, 4, 5)
    for feature in (plain, plain.contiguous(memory_format=torch.channels_last)):
        pooled = module.as_pooled(feature)
        assert torch.equal(pooled, plain)
        assert pooled.is_contiguous(memory_format=torch.channels_last) == ("cpu" in compiled)


def bilinear(feature: np.ndarray, y: float, x: float) -> float:
    h, w = feature.shape
    if y < -1 or y > h or x < -1 or x > w:
        return 0.0
    y, x = min(max(y, 0), h - 1), min(max(x, 0), w - 1)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
    fy, fx = y - y0, x - x0
    top = feature[y0, x0] * (1 - fx) + feature[y0, x1] * fx
    bottom = feature[y1, x0] * (1 - fx) + feature[y1, x1] * fx
    return float(top * (1 - fy) + bottom * fy)


def pooled_by_loop(feature: np.ndarray, box: list[float], scale: float, resolution: int) -> np.ndarray:
    x1, y1, x2, y2 = (v * scale - 0.5 for v in box)
    bin_h, bin_w = (y2 - y1) / resolution, (x2 - x1) / resolution
    grid_h, grid_w = math.ceil(bin_h), math.ceil(bin_w)
    out = np.zeros((resolution, resolution))
    for i in range(resolution):
        for j in range(resolution):
            samples = [
                bilinear(feature, y1 + (i + (a + 0.5) / grid_h) * bin_h, x1 + (j + (b + 0.5) / grid_w) * bin_w)
                for a in range(grid_h)
                for b in range(grid_w)
            ]
            out[i, j] = np.mean(samples)
    return out


@pytest.mark.parametrize("ratio", [0, 2])
def test_a_box_without_width_or_height_is_pooled_to_zeros_where_points_are_counted_by_its_sides(
    ratio: int, device: str
) -> None:
    """Boxes clipped to a line at a border may be proposals.  A fixed number of points lies on the line itself."""
    line = [[0.0, 8, 0, 40], [64, 8, 64, 40], [8, 0, 40, 0], [8.3, 64, 40.7, 64], [64, 64, 64, 64]]
    align = RoIAlign(sampling_ratio=ratio, aligned=True, skip_empty=False)
    features = [torch.ones(1, 2, 64 // s, 64 // s, device=device) for s in (4, 8)]
    pooled = pyramid_roi_align(features, torch.tensor([line], device=device), [4, 8], RULE, align, 7)
    assert pooled.shape == (5, 2, 7, 7)
    if ratio:
        assert (pooled > 0.99).all()
    else:
        assert not pooled.any()


def test_each_box_is_pooled_from_its_own_level_of_its_own_image(device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    strides = [4, 8]
    features = [torch.randn(2, 3, 256 // s, 256 // s, generator=generator) for s in strides]
    boxes = torch.tensor(
        [
            [[3.3, 7.1, 60.9, 44.4], [20.0, 10.0, 200.0, 190.0], [0.0, 0.0, 0.0, 0.0]],
            [[100.0, 90.0, 255.0, 250.0], [240.0, 240.0, 256.0, 256.0], [30.0, 30.0, 31.0, 31.0]],
        ]
    )
    pooled = pyramid_roi_align([f.to(device) for f in features], boxes.to(device), strides, RULE, ALIGN, 7).cpu()
    assert pooled.shape == (6, 3, 7, 7)
    for row, (image, level, box) in enumerate([(0, 0, 0), (0, 1, 1), (0, None, 2), (1, 1, 0), (1, 0, 1), (1, 0, 2)]):
        for channel in range(3):
            if level is None:  # no area: no sample points
                expected = np.zeros((7, 7))
            else:
                feature = features[level][image, channel].double().numpy()
                expected = pooled_by_loop(feature, boxes[image, box].tolist(), 1 / strides[level], 7)
            np.testing.assert_allclose(pooled[row, channel].numpy(), expected, atol=2e-5)


def test_half_precision_features_keep_full_precision_coordinates(device: str) -> None:
    feature = torch.arange(400.0, device=device).expand(1, 1, 400, 400).contiguous() / 400
    boxes = torch.tensor([[[1301.3, 1301.3, 1325.7, 1325.7]]], device=device)  # float16 has a step of 1 pixel here
    full = pyramid_roi_align([feature], boxes, [4], RULE, ALIGN, 7)
    half = pyramid_roi_align([feature.half()], boxes, [4], RULE, ALIGN, 7)
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), full, atol=1e-3, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
def test_gradients_are_of_the_features_type(dtype: torch.dtype, device: str) -> None:
    """Boxes stay float32.  Every bin's samples weigh 1 together, so the gradient of the sum is the number of bins."""
    feature = torch.zeros(1, 2, 16, 16, dtype=dtype, device=device, requires_grad=True)
    boxes = torch.tensor([[[8.0, 8.0, 40.0, 40.0]]], device=device)
    pooled = pyramid_roi_align([feature], boxes, [4], RULE, ALIGN, 3)
    pooled.sum().backward()
    assert feature.grad.dtype == pooled.dtype == dtype
    assert feature.grad.sum((0, 2, 3)).tolist() == pytest.approx([9, 9], rel=2e-3)


@pytest.mark.parametrize("channels", [3, 16, 149, 256])
def test_bfloat16_is_read_and_written_as_it_is_and_summed_in_float32(channels: int, device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    feature = torch.randn(2, channels, 20, 24, generator=generator).bfloat16().to(device)
    corner, side = torch.rand(2, 2, 9, 2, generator=generator) * 60
    boxes = torch.cat((corner, corner + side), -1).to(device)
    pooled = pyramid_roi_align([feature], boxes, [4], RULE, ALIGN, 3)
    expected = pyramid_roi_align([feature.float()], boxes, [4], RULE, ALIGN, 3)
    assert pooled.dtype == torch.bfloat16
    assert ((pooled.float() - expected).abs() <= 2**-8 * expected.abs() + 1e-5).all()
