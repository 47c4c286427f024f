"""RoIAlign of one level, forward and backward: the kernel, where it is built, against torchvision's operator."""

import math

import pytest
import torch
from torchvision.ops import roi_align as torchvision_roi_align

from cascadezoo.ops import roi_align as module
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
    return torch.cat((torch.cat((corner, corner + reach), 1), special)).view(-1, 2, 4).transpose(0, 1)


def pool(features: list[torch.Tensor], some: torch.Tensor, *numbers: float) -> torch.Tensor:
    """All boxes of the first level, scaled by one quarter."""
    return ops.pyramid_roi_align(features, some, torch.zeros(some.shape[:2], dtype=torch.int64), [0.25], *numbers)


def spread(grad: torch.Tensor, some: torch.Tensor, ratio: int, aligned: bool, h: int, w: int) -> torch.Tensor:
    levels = torch.zeros(some.shape[:2], dtype=torch.int64)
    return ops.pyramid_roi_align_backward(grad, some, levels, [0.25], ratio, aligned, [h], [w])[0]


@pytest.mark.parametrize("channels", [1, 5, 48])
@pytest.mark.parametrize(("sampling_ratio", "aligned"), SETTINGS)
def test_equals_torchvision_with_its_gradient(sampling_ratio: int, aligned: bool, channels: int) -> None:
    some = boxes(61)
    feature = torch.randn(2, channels, 20, 24, generator=torch.Generator().manual_seed(0), requires_grad=True)
    expected = torchvision_roi_align(feature, list(some), 7, 0.25, sampling_ratio, aligned)
    torch.testing.assert_close(pool([feature.detach()], some, 7, sampling_ratio, aligned), expected)
    up = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad(expected, feature, up)
    back = spread(up, some, sampling_ratio, aligned, 20, 24)
    torch.testing.assert_close(back, gradient, rtol=1e-5, atol=1e-5)


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
    none = torch.zeros(1, 0, 4)
    assert pool([torch.randn(1, 3, 8, 8)], none, 7, 0, True).shape == (0, 3, 7, 7)
    assert not spread(torch.zeros(0, 3, 7, 7), none, 0, True, 8, 8).any()


def test_channels_lie_side_by_side_in_what_is_pooled() -> None:
    """By the reference too: what is exported with one version may run with the other."""
    pooled = pool([torch.ones(2, 3, 20, 24)], boxes(61), 7, 0, True)
    assert pooled.is_contiguous(memory_format=torch.channels_last)


def test_many_boxes_are_pooled_in_calls_of_bounded_length(monkeypatch: pytest.MonkeyPatch) -> None:
    some, features = boxes(61), [torch.randn(2, 3, 20, 24), torch.randn(2, 3, 10, 12)]
    rule = LevelRule(size=32, level=0, epsilon=1e-6, extent=0)
    arguments = features, some, [4, 8], rule, RoIAlign(sampling_ratio=0, aligned=True, skip_empty=False), 3
    whole = pyramid_roi_align(*arguments)
    monkeypatch.setattr(module, "_ROIS", 7)
    assert torch.equal(pyramid_roi_align(*arguments), whole)


@pytest.mark.skipif("cpu" not in COMPILED, reason="not built: `cascadezoo build-ops`")
class TestKernel:
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_box_that_is_no_number_pools_to_zeros(self, value: float) -> None:
        assert not pool([torch.ones(1, 3, 8, 8)], torch.tensor([[[1.0, 2.0, value, 20.0]]]), 7, 0, True).any()

    @pytest.mark.parametrize("level", [-1, 1, 2**62])
    def test_a_box_of_a_level_that_is_not_there_pools_to_zeros(self, level: int) -> None:
        box, levels = torch.tensor([[[1.0, 2, 10, 20]]]), torch.tensor([[level]])
        assert not ops.pyramid_roi_align([torch.ones(1, 3, 8, 8)], box, levels, [0.25], 7, 0, True).any()

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"features": []}, "no levels"),
            ({"features": [torch.ones(2, 8, 8)]}, "must be \\(N, C, H, W\\)"),
            ({"features": [torch.ones(2, 3, 8, 8, dtype=torch.int64)]}, "floating point"),
            ({"features": [torch.ones(1, 3, 8, 8)]}, "different images or channels"),
            ({"features": [torch.ones(2, 3, 8, 8), torch.ones(2, 3, 4, 4).half()]}, "different types or devices"),
            (
                {"features": [torch.ones(2, 3, 8, 8), torch.ones(2, 4, 4, 4)], "scales": [1.0, 0.5]},
                "images or channels",
            ),
            ({"scales": [1.0, 0.5]}, "a scale for each"),
            ({"boxes": torch.zeros(2, 3, 5)}, "boxes must be \\(N, R, 4\\)"),
            ({"boxes": torch.zeros(2, 3, 4, dtype=torch.float64)}, "boxes must be of float32"),
            ({"levels": torch.zeros(2, 4).long()}, "levels must be"),
            ({"levels": torch.zeros(2, 3)}, "of int64"),
        ],
        ids=str,
    )
    def test_arguments_that_do_not_belong_together_are_refused(self, change: dict, words: str) -> None:
        arguments = {
            "features": [torch.ones(2, 3, 8, 8)],
            "boxes": torch.zeros(2, 3, 4),
            "levels": torch.zeros(2, 3).long(),
            "scales": [1.0],
            "resolution": 2,
            "sampling_ratio": 0,
            "aligned": True,
        }
        with pytest.raises(RuntimeError, match=words):
            ops.pyramid_roi_align(*(arguments | change).values())

    @pytest.mark.parametrize(
        ("grad", "sides", "words"),
        [
            (torch.ones(5, 3, 2, 2), ([8], [8]), "grad must be"),
            (torch.ones(6, 3, 2, 3), ([8], [8]), "grad must be"),
            (torch.ones(6, 3, 2, 2), ([8], [8, 4]), "as many heights"),
            (torch.ones(6, 3, 2, 2), ([-8], [8]), "negative sides"),
        ],
        ids=str,
    )
    def test_a_gradient_that_does_not_belong_is_refused(self, grad: torch.Tensor, sides: tuple, words: str) -> None:
        levels = torch.zeros(2, 3).long()
        with pytest.raises(RuntimeError, match=words):
            ops.pyramid_roi_align_backward(grad, torch.zeros(2, 3, 4), levels, [1.0], 0, True, *sides)

    def test_results_do_not_depend_on_the_threads(self) -> None:
        feature, some = torch.randn(2, 70, 20, 24), boxes(41)
        up, before = torch.randn(some.shape[0] * some.shape[1], 70, 7, 7), torch.get_num_threads()
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append((pool([feature], some, 7, 0, True), spread(up, some, 0, True, 20, 24)))
        torch.set_num_threads(before)
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
