"""RoIAlign of one level, forward and backward: the kernel, where it is built, against torchvision's operator."""

import math

import pytest
import torch
from torchvision.ops import roi_align as torchvision_roi_align

from cascadezoo.ops.library import COMPILED
from cascadezoo.ops.roi_align import pyramid_roi_align
from cascadezoo.spec.conventions import LevelRule, RoIAlign

ops = torch.ops.cascadezoo
SETTINGS = [(0, True), (2, False), (1, True), (3, True), (0, False)]


def boxes(count: int) -> torch.Tensor:
    """Over two images of 80 x 96 pixels: small, large, partly and wholly outside, without area, turned over."""
    generator = torch.Generator().manual_seed(3)
    corner = torch.rand(count, 2, generator=generator) * 110 - 15
    reach = torch.rand(count, 2, generator=generator).pow(3) * 120 - 2
    special = torch.tensor(
        [[0.0, 0, 96, 80], [10, 10, 10, 10], [-40, -40, -8, -8], [96, 80, 200, 200], [50, 40, 20, 10]]
    )
    both = torch.cat((torch.cat((corner, corner + reach), 1), special))
    return torch.cat((torch.arange(len(both))[:, None] % 2, both), 1)


@pytest.mark.parametrize("channels", [1, 5, 48])
@pytest.mark.parametrize(("sampling_ratio", "aligned"), SETTINGS)
def test_equals_torchvision_with_its_gradient(sampling_ratio: int, aligned: bool, channels: int) -> None:
    rois = boxes(60)
    feature = torch.randn(2, channels, 20, 24, generator=torch.Generator().manual_seed(0), requires_grad=True)
    expected = torchvision_roi_align(feature, rois, 7, 0.25, sampling_ratio, aligned)
    found = ops.roi_align(feature.detach().permute(0, 2, 3, 1), rois, 0.25, 7, sampling_ratio, aligned)
    torch.testing.assert_close(found, expected)
    up = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad(expected, feature, up)
    back = ops.roi_align_backward(up, rois, 0.25, sampling_ratio, aligned, 2, 20, 24)
    torch.testing.assert_close(back.permute(0, 3, 1, 2), gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("sampling_ratio", "aligned"), SETTINGS)
def test_gradcheck_over_a_pyramid(sampling_ratio: int, aligned: bool) -> None:
    rule, align = (
        LevelRule(size=32, level=0, epsilon=1e-6, extent=0),
        RoIAlign(sampling_ratio=sampling_ratio, aligned=aligned, skip_empty=False),
    )
    found = torch.tensor([[[1.0, 2, 30, 40], [5, 5, 60, 60]], [[0, 0, 10, 10], [0, 0, 0, 0]]], dtype=torch.float64)
    levels = [torch.randn(2, 2, side, side, dtype=torch.float64, requires_grad=True) for side in (16, 8)]
    assert torch.autograd.gradcheck(lambda *f: pyramid_roi_align(list(f), found, [4, 8], rule, align, 2), levels)


def test_boxes_get_no_gradient() -> None:
    rule, align = (
        LevelRule(size=32, level=0, epsilon=0, extent=0),
        RoIAlign(sampling_ratio=0, aligned=True, skip_empty=False),
    )
    box = torch.tensor([[[1.0, 2, 30, 40]]], requires_grad=True)
    feature = torch.randn(1, 2, 16, 16, requires_grad=True)
    pyramid_roi_align([feature], box, [4], rule, align, 7).sum().backward()
    assert box.grad is None
    assert feature.grad is not None


def test_no_boxes_pool_to_nothing() -> None:
    rois = torch.zeros(0, 5)
    assert ops.roi_align(torch.randn(1, 8, 8, 3), rois, 0.25, 7, 0, True).shape == (0, 3, 7, 7)
    assert not ops.roi_align_backward(torch.zeros(0, 3, 7, 7), rois, 0.25, 0, True, 1, 8, 8).any()


@pytest.mark.skipif("cpu" not in COMPILED, reason="not built: `cascadezoo build-ops`")
class TestKernel:
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_box_that_is_no_number_pools_to_zeros(self, value: float) -> None:
        rois = torch.tensor([[0, 1.0, 2.0, value, 20.0]])
        assert not ops.roi_align(torch.ones(1, 8, 8, 3), rois, 0.25, 7, 0, True).any()

    @pytest.mark.parametrize("image", [-1.0, 2.0, math.nan])
    def test_an_image_that_is_not_there_is_refused(self, image: float) -> None:
        rois = torch.tensor([[image, 1.0, 2.0, 10.0, 20.0]])
        with pytest.raises(RuntimeError, match="image that is not there"):
            ops.roi_align(torch.ones(2, 8, 8, 3), rois, 0.25, 7, 0, True)

    def test_other_types_are_refused(self) -> None:
        with pytest.raises(RuntimeError, match="float32 or float64"):
            ops.roi_align(torch.ones(1, 8, 8, 3, dtype=torch.int64), torch.zeros(1, 5), 0.25, 7, 0, True)

    def test_results_do_not_depend_on_the_threads(self) -> None:
        feature, rois = torch.randn(2, 20, 24, 70), boxes(40)
        up, before = torch.randn(len(rois), 70, 7, 7), torch.get_num_threads()
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            pooled = ops.roi_align(feature, rois, 0.25, 7, 0, True)
            results.append((pooled, ops.roi_align_backward(up, rois, 0.25, 0, True, 2, 20, 24)))
        torch.set_num_threads(before)
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
