"""Input that no detector makes, but files, users and overflowing weights do: the same numbers everywhere or a sentence.

`make asan` runs these with the compiled operators under the sanitizers of memory and of undefined behaviour.
"""

import math
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

import cascadezoo.ops.roi_align  # noqa: F401  (it registers the operators)
from cascadezoo.errors import UsageError
from cascadezoo.ops import dcnv3 as dcnv3_module
from cascadezoo.ops import mask_paste, nms
from cascadezoo.ops.library import COMPILED
from cascadezoo.ops.mask_paste import PASTE, paste
from cascadezoo.ops.nms import grouped_nms
from cascadezoo.ops.roi_align import box_levels, pyramid_roi_align
from cascadezoo.spec.conventions import LevelRule, Nms, RoIAlign

from cuda_emulation.building import EMULATED, operators

ops = torch.ops.cascadezoo
LONG = 2**24 + 4  # a float32 does not tell its last cells apart
refused = (UsageError, RuntimeError)  # of the reference and of a compiled operator
RULE = Nms(iou=0.5, extent=0, inclusive=False, rounded_shift=False)


LEVEL = torch.zeros(1, 1, dtype=torch.int64)


def pool(feature: Tensor, box: list[float], **changes: float) -> Tensor:
    """``feature`` (1, C, H, W) pooled for one box."""
    numbers = {"scale": 1.0, "resolution": 1, "sampling_ratio": 0, "aligned": True} | changes
    scale, *rest = numbers.values()
    return ops.pyramid_roi_align([feature], torch.tensor([[box]], dtype=feature.dtype), LEVEL, [scale], *rest)


def spread(grad: Tensor, box: list[float], h: int, w: int, *, sampling_ratio: int = 0, aligned: bool = True) -> Tensor:
    some = torch.tensor([[box]], dtype=grad.dtype)
    return ops.pyramid_roi_align_backward(grad, some, LEVEL, [1.0], sampling_ratio, aligned, [h], [w])[0]


@pytest.mark.parametrize("size", [(0, 3), (3, 0), (0, 0)], ids=str)
@pytest.mark.parametrize("ratio", [0, 1, 2])
def test_roi_align_of_a_map_without_cells_is_zero(size: tuple[int, int], ratio: int) -> None:
    for box in ([-1.0, -1, 0, 0], [-0.5, -0.5, 0.5, 0.5], [0.0, 0, 4, 4]):
        pooled = pool(torch.ones(1, 20, *size), box, resolution=2, sampling_ratio=ratio)
        assert torch.equal(pooled, torch.zeros(1, 20, 2, 2))
        back = spread(torch.ones(1, 20, 2, 2), box, *size, sampling_ratio=ratio)
        assert back.shape == (1, 20, *size)


def test_roi_align_of_a_map_with_more_cells_than_float32_counts() -> None:
    """The one point lies at 2^24 + 4, which is the far edge: the last cell."""
    feature = torch.zeros(1, 1, 1, LONG)
    feature[..., -1] = 5
    box = [2.0**24, 0, 2**24 + 8, 1]
    assert pool(feature, box, sampling_ratio=1, aligned=False).item() == 5
    back = spread(torch.ones(1, 1, 1, 1), box, 1, LONG, sampling_ratio=1, aligned=False)
    assert (back[..., -1].item(), back.sum().item()) == (1, 1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("corner", range(4))
def test_roi_align_of_a_box_that_is_no_number_is_zero(value: float, corner: int) -> None:
    box = [1.0, 1, 6, 6]
    box[corner] = value
    for ratio in (0, 2):
        assert not pool(torch.ones(1, 3, 8, 8), box, resolution=3, sampling_ratio=ratio).any()
        assert not spread(torch.ones(1, 3, 2, 2), box, 8, 8, sampling_ratio=ratio).any()


@pytest.mark.parametrize("far", [2e5, 1e9, 2.0**31, 1e20, 3e38])
def test_roi_align_of_a_box_with_more_points_than_memory_or_time_is_refused(far: float) -> None:
    for box in ([0.0, 0, far, far], [-far, -far, far, far]):
        with pytest.raises(refused, match="clip boxes to their image"):
            pool(torch.ones(1, 1, 8, 8), box, resolution=7)
        with pytest.raises(refused, match="clip boxes to their image"):
            spread(torch.ones(1, 1, 7, 7), box, 8, 8)


def test_roi_align_of_a_huge_box_and_few_points_has_them_outside() -> None:
    assert not pool(torch.ones(1, 1, 8, 8), [0.0, 0, 3e38, 3e38], resolution=7, sampling_ratio=2).any()
    with pytest.raises(refused, match="clip boxes to their image"):  # its width is no float32
        pool(torch.ones(1, 1, 8, 8), [-3e38, -3e38, 3e38, 3e38], resolution=7, sampling_ratio=2)


def test_roi_align_of_a_large_box_counts_every_point() -> None:
    """2008 points along a side at -1000, -999, ... 1007; the ten from -1 to 8 lie on the map of ones."""
    pooled = pool(torch.ones(1, 1, 8, 8), [-1000.0, -1000, 1008, 1008])
    assert pooled.item() == pytest.approx((10 / 2008) ** 2, rel=1e-4)


@pytest.mark.parametrize("images", [0, 1, 3])
def test_roi_align_of_images_that_are_not_there_is_refused(images: int) -> None:
    if images < 2 or "cpu" in COMPILED:  # the reference minds missing images alone
        with pytest.raises(refused, match="image"):
            ops.pyramid_roi_align(
                [torch.ones(images, 3, 8, 8)], torch.ones(2, 1, 4), LEVEL.expand(2, 1), [1.0], 2, 0, True
            )


@pytest.mark.parametrize(
    "change",
    [
        {"sampling_ratio": -1},
        {"sampling_ratio": 2**40},
        {"resolution": 0},
        {"resolution": -7},
        {"resolution": 2**32},
        {"scale": math.nan},
        {"scale": math.inf},
    ],
    ids=str,
)
def test_roi_align_with_numbers_out_of_range_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(refused, match=next(iter(change))):
        pool(torch.ones(1, 1, 8, 8), [1.0, 1, 5, 5], **change)


def test_roi_align_with_nothing_to_pool() -> None:
    for channels, boxes in ((0, 2), (3, 0), (0, 0)):
        some, levels = torch.tensor([1.0, 1, 5, 5]).expand(1, boxes, 4), LEVEL.expand(1, boxes)
        pooled = ops.pyramid_roi_align([torch.ones(1, channels, 8, 8)], some, levels, [1.0], 2, 0, True)
        assert pooled.shape == (boxes, channels, 2, 2)
        grad = torch.ones(boxes, channels, 2, 2)
        (back,) = ops.pyramid_roi_align_backward(grad, some, levels, [1.0], 0, True, [8], [8])
        assert torch.equal(back, torch.zeros(1, channels, 8, 8))


def test_a_pyramid_pools_boxes_of_no_level_to_zeros() -> None:
    rule = LevelRule(size=32, level=0, epsilon=1e-6, extent=0)
    boxes = torch.tensor([[[1.0, 1, 9, 9], [9, 1, 1, 9], [math.nan, 1, 9, 9], [1, 1, math.inf, 9], [0, 0, 0, 0]]])
    assert box_levels(boxes, rule, 2).tolist() == [[0, -1, -1, 1, 0]]
    for ratio in (0, 2):
        align = RoIAlign(sampling_ratio=ratio, aligned=True, skip_empty=False)
        levels = [torch.ones(1, 2, side, side, requires_grad=True) for side in (8, 4)]
        pooled = pyramid_roi_align(levels, boxes, [4, 8], rule, align, 2)
        assert torch.equal(pooled[0], torch.ones(2, 2, 2))
        assert not pooled[1:4].any()
        pooled.sum().backward()
        assert all(level.grad is not None and level.grad.isfinite().all() for level in levels)


NUMBERS = {"kernel": [3, 3], "stride": [1, 1], "pad": [1, 1], "dilation": [1, 1], "groups": 1, "offset_scale": 1.0}


@pytest.fixture(params=["registered", EMULATED])
def of_dcnv3(request) -> Any:
    """The operators as registered, compiled where built, and the CUDA kernels, emulated."""
    return ops if request.param == "registered" else operators()


def sample(of_dcnv3: Any, input: Tensor, offset: Tensor, mask: Tensor, **changes: object) -> list[Tensor]:
    """The output and the gradients for one of ones."""
    numbers = list((NUMBERS | changes).values())
    output = of_dcnv3.dcnv3(input, offset, mask, *numbers)
    return [output, *of_dcnv3.dcnv3_backward(torch.ones_like(output), input, offset, mask, *numbers)]


@pytest.mark.parametrize(
    "change",
    [
        {"kernel": [2**32, 2**32], "pad": [2**31, 2**31]},  # 2^64 points: 0 in 64 bits
        {"kernel": [2**16, 2**16], "pad": [2**15, 2**15]},  # 2^32 points: 0 in 32 bits
        {"kernel": [2**62, 4], "pad": [2**61, 2]},
        {"pad": [2**62, 2**62]},
        {"stride": [2**63 - 1, 1]},
        {"dilation": [2**62, 2**62], "pad": [2**62, 2**62]},
        {"groups": 2**40},
        {"kernel": [0, 3]},
        {"stride": [0, 1]},
        {"pad": [-1, 0]},
        {"groups": 0},
        {"groups": -2},
    ],
    ids=str,
)
def test_dcnv3_with_numbers_out_of_range_is_refused(change: dict[str, object], of_dcnv3) -> None:
    for points in (0, 9):
        offset, mask, grad = torch.zeros(1, 4, 4, 2 * points), torch.zeros(1, 4, 4, points), torch.ones(1, 4, 4, 2)
        with pytest.raises(refused, match="dcnv3"):
            of_dcnv3.dcnv3(torch.ones(1, 3, 3, 2), offset, mask, *(NUMBERS | change).values())
        with pytest.raises(refused, match="dcnv3"):
            of_dcnv3.dcnv3_backward(grad, torch.ones(1, 3, 3, 2), offset, mask, *(NUMBERS | change).values())


@pytest.mark.parametrize("shape", [(1, 0, 3, 8), (1, 3, 0, 8), (2, 4, 5, 0), (0, 4, 5, 8), (1, 0, 0, 0)], ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_dcnv3_of_nothing_is_zero(shape: tuple[int, ...], groups: int, of_dcnv3) -> None:
    n, h, w, channels = shape
    points = 9 * groups
    offset, mask = torch.zeros(n, h + 2, w + 2, 2 * points) - 0.5, torch.ones(n, h + 2, w + 2, points)
    output, *grads = sample(of_dcnv3, torch.ones(shape), offset, mask, pad=[2, 2], groups=groups)
    assert output.shape == (n, h + 2, w + 2, channels)
    assert not output.any()
    assert [g.shape for g in grads] == [shape, offset.shape, mask.shape]
    assert not any(g.any() for g in grads)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38, -3e38, 2.0**63])
def test_dcnv3_of_a_point_that_is_nowhere_is_zero(value: float, of_dcnv3) -> None:
    output, *grads = sample(of_dcnv3, torch.ones(1, 3, 3, 4), torch.full((1, 3, 3, 18), value), torch.ones(1, 3, 3, 9))
    assert not output.any()
    assert not any(g.any() for g in grads)


def test_dcnv3_of_a_map_with_more_pixels_than_float32_counts(of_dcnv3) -> None:
    """Output pixel 1 lies at 2^24: two further is a pixel, three are taken for four, beyond the far edge."""
    input = torch.zeros(1, 1, LONG, 1)
    input[0, 0, 2**24 + 2] = 7
    for shift, expected in ((2.0, 7.0), (3.0, 0.0)):
        output, *_ = sample(
            of_dcnv3, input, torch.tensor([[[[0.0, 0], [shift, 0]]]]), torch.ones(1, 1, 2, 1),
            kernel=[1, 1], pad=[0, 0], stride=[1, 2**24],
        )  # fmt: skip
        assert output.flatten().tolist() == [0.0, expected]


@pytest.mark.emulated
def test_dcnv3_on_a_gpu_is_refused_where_32_bits_do_not_count_numbers_or_pixels() -> None:
    many, offset, mask = (torch.zeros(1).expand(2**16, 2**7, 2**8, channels) for channels in (1, 18, 9))
    with pytest.raises(RuntimeError, match="fewer images at a time"):
        operators().dcnv3(many, offset, mask, *NUMBERS.values())
    far = NUMBERS | {"kernel": [1, 1], "stride": [2**30, 2**30], "pad": [2**30, 2**30]}
    with pytest.raises(RuntimeError, match="pixels along a padded side"):
        operators().dcnv3(torch.ones(1, 1, 1, 1), torch.zeros(1, 3, 3, 2), torch.ones(1, 3, 3, 1), *far.values())


def test_dcnv3_of_other_types_is_refused(of_dcnv3) -> None:
    offset, mask = torch.zeros(1, 3, 3, 18), torch.ones(1, 3, 3, 9)
    with pytest.raises(refused, match="floating point"):
        of_dcnv3.dcnv3(torch.ones(1, 3, 3, 2, dtype=torch.int64), offset, mask, *NUMBERS.values())
    with pytest.raises(UsageError, match="floating point"):
        dcnv3_module.dcnv3(torch.ones(1, 3, 3, 2, dtype=torch.int64), offset, mask, 3, 1, 1, 1, 1, 1.0)


def test_nms_of_nothing() -> None:
    for images, boxes in ((0, 3), (2, 0), (0, 0)):
        empty = torch.zeros(images, boxes)
        keep, count = grouped_nms(torch.zeros(images, boxes, 4), empty, empty.long(), empty > -1, RULE, 5)
        assert torch.equal(keep, torch.zeros(images, 5, dtype=torch.int64))
        assert torch.equal(count, torch.zeros(images, dtype=torch.int64))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rounded", [False, True])
def test_nms_keeps_the_others_apart_where_a_box_is_no_number(value: float, rounded: bool) -> None:
    """0 and 1 are one box, 2 the same in another group, 3 is no number and overlaps nothing."""
    boxes = torch.tensor([[[0.0, 0, 10, 10]] * 3 + [[value] * 4]])
    rule = Nms(iou=0.5, extent=0, inclusive=False, rounded_shift=rounded)
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.6]])
    keep, count = grouped_nms(boxes, scores, torch.tensor([[0, 0, 1, 0]]), torch.ones(1, 4) > 0, rule, 4)
    assert (keep[0, : int(count)].tolist(), count.item()) == ([0, 2, 3], 3)


def test_nms_of_huge_boxes() -> None:
    boxes = torch.tensor([[[0.0, 0, 3e38, 3e38], [0, 0, 3e38, 3e38]]])
    rows = torch.tensor([[0.9, 0.8]]), torch.zeros(1, 2).long(), torch.ones(1, 2) > 0
    keep, count = grouped_nms(boxes, *rows, RULE, 4)
    assert (keep[0, 0].item(), count.item()) == (0, 1)


def test_nms_in_pieces_keeps_what_torchvision_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    corner = torch.rand(700, 2, generator=torch.Generator().manual_seed(0)) * 90
    boxes = torch.cat((corner, corner + 12), 1)
    scores = torch.randint(1, 9, (700,), generator=torch.Generator().manual_seed(1)).float()  # many are equal
    monkeypatch.setattr(nms, "_PIECE", 50)
    monkeypatch.setattr(nms, "_PAIRS", 900)
    for iou in (0.1, 0.5, 0.7):
        assert torch.equal(nms._greedy(boxes, scores, iou), torchvision.ops.nms(boxes, scores, iou))


NOWHERE = [[math.nan] * 4, [0, 0, math.nan, 9], [math.inf] * 4, [-math.inf, 0, math.inf, 9], [-3e38, -3e38, 3e38, 3e38]]


@pytest.mark.parametrize("method", PASTE.values(), ids=lambda method: method.__name__)
@pytest.mark.parametrize("box", [*NOWHERE[:4], [3e38] * 4, [-3e38, 0, -2e38, 9], [1e6, 1e6, 1e6 + 9, 1e6 + 9]], ids=str)
def test_pasting_a_box_that_is_nowhere_sets_nothing(method: mask_paste.PasteMethod, box: list[float]) -> None:
    assert not paste(torch.ones(1, 28, 28), torch.tensor([box]), 20, 30, method).any()


@pytest.mark.parametrize("method", PASTE.values(), ids=lambda method: method.__name__)
@pytest.mark.parametrize("size", [(0, 30), (20, 0), (0, 0)], ids=str)
def test_pasting_into_an_image_without_pixels(method: mask_paste.PasteMethod, size: tuple[int, int]) -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9], [-5, -5, 50, 50], [3e38, 0, 3e38, 9], *NOWHERE])
    assert paste(torch.ones(len(boxes), 28, 28), boxes, *size, method).shape == (len(boxes), *size)
    assert paste(torch.ones(0, 28, 28), torch.zeros(0, 4), *size, method).shape == (0, *size)


@pytest.mark.parametrize("method", PASTE.values(), ids=lambda method: method.__name__)
@pytest.mark.parametrize("reach", [3e4, 1e6, 2.0**31, 1e20])
def test_pasting_a_huge_box_takes_no_more_than_its_image(method: mask_paste.PasteMethod, reach: float) -> None:
    """The upper half of the mask is set; the image lies about the box's middle."""
    cells = torch.zeros(1, 28, 28)
    cells[0, :14] = 1
    box = torch.tensor([[-reach, -reach + 20, reach, reach + 20]], dtype=torch.float64)
    assert paste(torch.ones(1, 28, 28), box, 40, 30, method).all()
    assert not paste(cells, box + torch.tensor([0, -reach / 2, 0, -reach / 2]), 40, 30, method).any()
    assert paste(cells, box + torch.tensor([0, reach / 2, 0, reach / 2]), 40, 30, method).all()


def test_a_part_of_a_resized_mask_is_opencvs() -> None:
    cells = np.random.default_rng(0).random((30, 30), dtype=np.float32)
    for height, width in ((61, 47), (500, 30), (7, 900), (1, 1)):
        rows, columns = slice(height // 3, height), slice(0, width // 2 + 1)
        part = mask_paste._resized(cells, height, width, rows, columns, 0)
        np.testing.assert_allclose(part, cv2.resize(cells, (width, height))[rows, columns], atol=1e-4)
