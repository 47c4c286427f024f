"""What holds for every box, mask and set of candidates, on examples that hypothesis chooses, the same in each run."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from torchvision.ops import box_iou

from cascadezoo.coco.rle import encode_crop
from cascadezoo.ops.anchors import grid_anchors
from cascadezoo.ops.boxes import clip, decode, encode, pairwise_iou
from cascadezoo.ops.mask_paste import PASTE, paste
from cascadezoo.ops.nms import grouped_nms
from cascadezoo.spec.conventions import AnchorGrid, BoxCoder, Nms

same_each_run = settings(derandomize=True, deadline=None, database=None, max_examples=60)
extents = st.sampled_from([0, 1])


@st.composite
def boxes(draw, most: int = 12, side: float = 100, smallest: float = 0.0) -> torch.Tensor:
    """(N, 4) float32 xyxy; corners are multiples of 1/8 pixel, so that sums of few of them are exact."""
    number = st.integers(0, int(8 * side)).map(lambda eighths: eighths / 8)
    rows = draw(st.lists(st.tuples(number, number, number, number), min_size=1, max_size=most))
    low = torch.tensor([[x, y] for x, y, _, _ in rows])
    return torch.cat((low, low + smallest + torch.tensor([[w, h] for _, _, w, h in rows])), 1)


@same_each_run
@given(boxes(smallest=1), boxes(smallest=1), extents, st.floats(0.05, 2))
def test_decode_undoes_encode(given_boxes, targets, extent, std) -> None:
    count = min(len(given_boxes), len(targets))
    coder = BoxCoder(stds=(std, std, std / 2, std / 2), log_scale=(-10, 10), extent=extent)
    pair = given_boxes[:count].double(), targets[:count].double()
    torch.testing.assert_close(decode(encode(pair[1], pair[0], coder), pair[0], coder), pair[1], atol=1e-9, rtol=0)


@same_each_run
@given(boxes(), st.integers(1, 120), st.integers(1, 120), extents)
def test_clipped_boxes_lie_inside_and_stay(some, height, width, extent) -> None:
    sizes = torch.tensor([[height, width]])
    clipped = clip(some[None] - 20, sizes, extent)
    assert clipped.min() >= 0
    assert clipped[..., 0::2].max() <= width - extent
    assert clipped[..., 1::2].max() <= height - extent
    assert torch.equal(clip(clipped, sizes, extent), clipped)


@same_each_run
@given(boxes(), boxes(), extents)
def test_iou_is_symmetric_and_a_share(some, others, extent) -> None:
    iou = pairwise_iou(some, others, extent)
    assert iou.shape == (len(some), len(others))
    assert bool(((iou >= 0) & (iou <= 1)).all())
    assert torch.equal(iou, pairwise_iou(others, some, extent).T)
    wider = torch.tensor([0, 0, extent, extent])
    assert torch.equal(iou, box_iou(some + wider, others + wider).nan_to_num(0))
    itself = pairwise_iou(some, some, 1).diagonal()
    assert torch.equal(itself, torch.ones(len(some)))


@st.composite
def candidates(draw, groups: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Boxes (1, K, 4), scores of few values, groups and valid rows, (1, K) each."""
    some = draw(boxes(most=30, side=40))
    count = len(some)
    scores = draw(st.lists(st.integers(1, 8), min_size=count, max_size=count))
    labels = draw(st.lists(st.integers(0, groups - 1), min_size=count, max_size=count))
    valid = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    return some[None], torch.tensor([scores]) / 8, torch.tensor([labels]), torch.tensor([valid])


@same_each_run
@given(candidates(), st.sampled_from([0.3, 0.5, 0.7]), extents, st.booleans(), st.booleans())
def test_kept_boxes_lie_apart_and_the_others_below_a_better_one(given_rows, iou, extent, inclusive, rounded) -> None:
    some, scores, groups, valid = given_rows
    rule = Nms(iou=iou, extent=extent, inclusive=inclusive, rounded_shift=rounded)
    keep, count = grouped_nms(some, scores, groups, valid, rule, some.shape[1])
    kept = keep[0, : int(count)].tolist()
    wider = torch.tensor([0, 0, extent, extent])
    overlap = box_iou(some[0] + wider, some[0] + wider).nan_to_num(0)  # exact enough: eighths of a pixel
    above = (overlap >= np.float32(iou)) if inclusive else (overlap > iou)
    above &= groups[0][:, None] == groups[0]
    order = [(-scores[0, i].item(), i) for i in kept]
    assert order == sorted(order)
    assert set(kept) <= set(valid[0].nonzero()[:, 0].tolist())
    for i in valid[0].nonzero()[:, 0].tolist():
        better = [j for j in kept if above[i, j] and (-scores[0, j], j) < (-scores[0, i], i)]
        assert bool(better) != (i in kept)


@same_each_run
@given(candidates(), st.integers(1, 50), st.permutations(range(4)))
def test_the_numbers_of_the_groups_do_not_matter(given_rows, step, order) -> None:
    some, scores, groups, valid = given_rows
    rule = Nms(iou=0.5, extent=0, inclusive=False, rounded_shift=False)
    renamed = torch.tensor(order)[groups] * step
    for ours, theirs in zip(
        grouped_nms(some, scores, groups, valid, rule, 20),
        grouped_nms(some, scores, renamed, valid, rule, 20),
        strict=True,
    ):
        assert torch.equal(ours, theirs)


@st.composite
def windows(draw) -> tuple[np.ndarray, int, int, int, int]:
    """A mask (h, w) at top, left in an image of height, width."""
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    h, w = draw(st.integers(0, height)), draw(st.integers(0, width))
    cells = draw(st.lists(st.booleans(), min_size=h * w, max_size=h * w))
    top, left = draw(st.integers(0, height - h)), draw(st.integers(0, width - w))
    return np.array(cells, bool).reshape(h, w), top, left, height, width


@same_each_run
@given(windows())
def test_a_window_encodes_as_pycocotools_encodes_the_whole(window) -> None:
    crop, top, left, height, width = window
    whole = np.zeros((height, width), np.uint8, order="F")
    whole[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    expected = coco_mask.encode(whole)
    assert encode_crop(crop, top, left, height, width) == {**expected, "counts": expected["counts"].decode()}


@same_each_run
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=2),
    st.lists(st.sampled_from([0.25, 0.5, 1.0, 2.0]), min_size=1, max_size=3, unique=True),
    extents,
)
def test_anchors_have_their_sizes_around_their_cells(shapes, ratios, extent) -> None:
    grid = AnchorGrid(sizes=((8, 12), (16, 24)), ratios=tuple(ratios), strides=(4, 8), extent=extent, rounded=False)
    for level, ((rows, columns), anchors) in enumerate(
        zip(shapes, grid_anchors(shapes, grid, torch.device("cpu")), strict=True)
    ):
        stride = grid.strides[level]
        expected = [
            (x * stride + extent * (stride - 1) / 2, y * stride + extent * (stride - 1) / 2, size**2, ratio)
            for y in range(rows)
            for x in range(columns)
            for size in grid.sizes[level]
            for ratio in ratios
        ]
        x1, y1, x2, y2 = anchors.double().unbind(1)
        w, h = x2 - x1 + extent, y2 - y1 + extent
        found = torch.stack(((x1 + x2) / 2, (y1 + y2) / 2, w * h, h / w), 1)
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=1e-3, rtol=1e-5)


@same_each_run
@given(boxes(most=4), st.integers(1, 60), st.integers(1, 60), st.integers(1, 6), st.sampled_from(sorted(PASTE)))
def test_pasted_masks_stay_inside_the_image_and_near_their_box(some, height, width, cells, method) -> None:
    some = some - 20
    crops = list(PASTE[method](torch.ones(len(some), cells, cells), some, height, width))
    for crop, (x1, y1, x2, y2) in zip(crops, some.tolist(), strict=True):
        rows, columns = crop.mask.shape
        assert not crop.mask.numel() or (crop.top >= 0 and crop.left >= 0)
        assert not crop.mask.numel() or (crop.top + rows <= height and crop.left + columns <= width)
        y, x = (index.numpy() for index in crop.mask.nonzero().T)
        reach_x, reach_y = ((high - low) / 2 * (1 + 2 / cells) + 1.5 for low, high in ((x1, x2), (y1, y2)))
        assert (np.abs(x + crop.left - (x1 + x2) / 2) <= reach_x).all()
        assert (np.abs(y + crop.top - (y1 + y2) / 2) <= reach_y).all()
    assert paste(torch.ones(len(some), cells, cells), some, height, width, PASTE[method]).shape == (
        len(some),
        height,
        width,
    )
