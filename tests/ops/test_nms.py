"""Suppression of a fixed size against a loop written out by hand."""

import numpy as np
import pytest
import torch

from cascadezoo.errors import UsageError
from cascadezoo.ops.nms import class_nms, grouped_nms
from cascadezoo.spec.conventions import Nms

RULE = Nms(iou=0.5, extent=0, inclusive=False, rounded_shift=True)


def greedy(boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray, iou: float, extent: int) -> list[int]:
    """Candidates kept, best first, by the definition, group by group."""
    area = (boxes[:, 2] - boxes[:, 0] + extent) * (boxes[:, 3] - boxes[:, 1] + extent)
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        for j in kept:
            w = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0]) + extent
            h = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1]) + extent
            inter = max(w, 0) * max(h, 0)
            if groups[i] == groups[j] and inter / (area[i] + area[j] - inter) > iou:
                break
        else:
            kept.append(int(i))
    return kept


def random_boxes(rng: np.random.Generator, n: int) -> np.ndarray:
    low = rng.uniform(0, 60, (n, 2))
    return np.concatenate([low, low + rng.uniform(5, 40, (n, 2))], 1).astype(np.float32)


@pytest.mark.parametrize("rounded_shift", [False, True])
@pytest.mark.parametrize("extent", [0, 1])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_definition_and_pads(seed: int, extent: int, rounded_shift: bool, device: str) -> None:
    rule = Nms(iou=0.5, extent=extent, inclusive=False, rounded_shift=rounded_shift)
    rng = np.random.default_rng(seed)
    boxes, scores = random_boxes(rng, 120), rng.permutation(120).astype(np.float32) / 120
    groups, valid = rng.integers(0, 3, 120), rng.random(120) < 0.8
    expected = [int(np.flatnonzero(valid)[i]) for i in greedy(boxes[valid], scores[valid], groups[valid], 0.5, extent)]
    inputs = [torch.from_numpy(a)[None].to(device) for a in (boxes, scores, groups, valid)]
    for size in (7, 200):
        keep, count = grouped_nms(*inputs, rule, size)
        assert keep.shape == (1, size)
        assert count.tolist() == [min(size, len(expected))]
        assert keep[0, : count[0]].tolist() == expected[:size]
        assert (keep[0, count[0] :] == 0).all()


@pytest.mark.parametrize(("inclusive", "kept"), [(False, 2), (True, 1)])
def test_equality_with_the_threshold(inclusive: bool, kept: int, device: str) -> None:
    # 10 x 10 beside 10 x 5 inside it: IoU is exactly one half
    boxes = torch.tensor([[[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0]]], device=device)
    scores, groups = torch.tensor([[0.9, 0.8]], device=device), torch.zeros(1, 2, dtype=torch.int64, device=device)
    valid = torch.ones(1, 2, dtype=torch.bool, device=device)
    for rounded_shift in (False, True):
        rule = Nms(iou=0.5, extent=0, inclusive=inclusive, rounded_shift=rounded_shift)
        assert grouped_nms(boxes, scores, groups, valid, rule, 2)[1].tolist() == [kept]
    # 7 of 10 pixels, where no binary fraction is exact
    boxes = torch.tensor([[[0.0, 0.0, 9.0, 0.0], [0.0, 0.0, 6.0, 0.0]]], device=device)
    rule = Nms(iou=0.7, extent=1, inclusive=inclusive, rounded_shift=False)
    assert grouped_nms(boxes, scores, groups, valid, rule, 2)[1].tolist() == [1 if inclusive else 2]


def test_the_rounded_shift_decides_as_float32_does(device: str) -> None:
    """Two boxes whose IoU is just above one half part in group 79, where coordinates are rounded to 1/128 pixel."""
    boxes = torch.tensor([[[0.0, 0.0, 1333.0, 10.0], [0.0, 0.0, 666.5 + 0.003, 10.0]]], device=device)
    scores, valid = torch.tensor([[0.9, 0.8]], device=device), torch.ones(1, 2, dtype=torch.bool, device=device)
    for group, rounded_shift, kept in [(0, True, 1), (79, True, 2), (79, False, 1)]:
        groups = torch.full((1, 2), group, device=device)
        rule = Nms(iou=0.5, extent=0, inclusive=False, rounded_shift=rounded_shift)
        assert grouped_nms(boxes, scores, groups, valid, rule, 2)[1].tolist() == [kept], (group, rounded_shift)


def test_more_boxes_than_the_limit_are_not_shifted(device: str) -> None:
    """As above, with boxes elsewhere that count too; each image by its own number, of those that are candidates."""
    rule = Nms(iou=0.5, extent=0, inclusive=False, rounded_shift=True, shift_limit=4)
    pair = [[0.0, 0.0, 1333.0, 10.0], [0.0, 0.0, 666.5 + 0.003, 10.0]]
    boxes = torch.tensor([pair + [[0.0, 20.0 * i, 9.0, 20.0 * i + 9] for i in range(1, 5)]] * 3, device=device)
    scores = torch.linspace(0.9, 0.1, 6, device=device).expand(3, 6)
    groups = torch.full((3, 6), 79, device=device)
    number = torch.tensor([4, 5, 6], device=device)
    valid = torch.arange(6, device=device) < number[:, None]
    keep, count = grouped_nms(boxes, scores, groups, valid, rule, 6)
    assert count.tolist() == [4, 4, 5]  # of the pair both, one, one
    assert keep.tolist() == [[0, 1, 2, 3, 0, 0], [0, 2, 3, 4, 0, 0], [0, 2, 3, 4, 5, 0]]
    without = rule.model_copy(update={"shift_limit": None})
    assert grouped_nms(boxes, scores, groups, valid, without, 6)[1].tolist() == [4, 5, 6]

    of_class = torch.zeros(3, 6, 80, device=device)
    of_class[..., 79] = scores
    of_class[:, 0, 3] = 0.05  # not above the threshold: no candidate
    keep, count = class_nms(boxes[:, :, None], of_class, valid, 0.05, rule, 6)
    assert count.tolist() == [4, 4, 5]
    assert (keep[1, :4] // 80).tolist() == [0, 2, 3, 4]
    assert class_nms(boxes[:, :, None], of_class, valid, 0.05, without, 6)[1].tolist() == [4, 5, 6]
    of_class[:, 1, 3] = 0.06  # one more
    assert class_nms(boxes[:, :, None], of_class, valid, 0.05, rule, 6)[1].tolist() == [4, 5, 6]


def test_the_limit_of_shifted_boxes_leaves_one_graph() -> None:
    rule = Nms(iou=0.5, extent=0, inclusive=False, rounded_shift=True, shift_limit=4)
    boxes, scores = torch.rand(2, 6, 1, 4).cumsum(3) * 50, torch.rand(2, 6, 3)
    valid = torch.arange(6) < torch.tensor([[1], [6]])
    expected = class_nms(boxes, scores, valid, 0.2, rule, 8)
    torch.compiler.reset()
    compiled = torch.compile(class_nms, fullgraph=True, backend="aot_eager")(boxes, scores, valid, 0.2, rule, 8)
    assert all(torch.equal(one, other) for one, other in zip(expected, compiled, strict=True))


@pytest.mark.parametrize(
    ("largest", "extent", "kept"), [(2046.0, 0, 1), (2047.0, 0, 2), (2044.0, 1, 1), (2045.0, 1, 2)]
)
def test_groups_are_shifted_by_the_largest_coordinate_and_one_pixel(largest: float, extent: int, kept: int) -> None:
    """Below 2048 float32 has steps of 2**-13, above it of 2**-12, where 2**-13 rounds off and the IoU is no longer
    above the threshold.  Group 1 is shifted by largest + 1 + extent.

    extent 0: 0.5 + 2**-13 of a pixel in 1; the shift 2047 keeps the sum below 2048, the shift 2048 does not.
    extent 1: 1.125 + 2**-13 in 1.5; the last pixel's far edge is 1 more: 2046 keeps it below 2048, 2047 does not.
    """
    pair = [[0.0, 0.0, 0.5, 0.0], [0.0, 0.0, 0.125 + 2**-13, 0.0]] if extent else [[0.0, 0.0, 1.0, 1.0]] * 2
    boxes = torch.tensor([[*pair, [2000.0, 2000.0, largest, largest]]])
    if not extent:
        boxes[0, 1, 2] = 0.5 + 2**-13
    scores, groups, valid = torch.tensor([[0.9, 0.8, 0.7]]), torch.tensor([[1, 1, 0]]), torch.ones(1, 3) > 0
    rule = Nms(iou=0.75 if extent else 0.5, extent=extent, inclusive=False, rounded_shift=True)
    assert grouped_nms(boxes, scores, groups, valid, rule, 3)[1].tolist() == [kept + 1]


@pytest.mark.parametrize("groups", [1, 7, 90, 3000])
@pytest.mark.parametrize("rounded_shift", [False, True])
def test_p14_any_number_of_groups_is_a_loop_over_the_groups(groups: int, rounded_shift: bool) -> None:
    """Scores of few values, so that equal ones come in the candidates' order; sizes from one group's worth to many."""
    rng = np.random.default_rng(groups)
    boxes, scores = random_boxes(rng, 3000), (rng.integers(0, 40, 3000) / 40).astype(np.float32)
    of_group = rng.integers(0, groups, 3000)
    rule = Nms(iou=0.4, extent=0, inclusive=False, rounded_shift=rounded_shift)
    inputs = [torch.from_numpy(a)[None] for a in (boxes, scores, of_group, np.ones(3000, bool))]
    keep, count = grouped_nms(*inputs, rule, 3000)
    kept = []
    for group in range(groups):
        rows = np.flatnonzero(of_group == group)
        kept += [int(rows[i]) for i in greedy(boxes[rows], scores[rows], np.zeros(len(rows)), 0.4, 0)]
    kept.sort(key=lambda row: (-scores[row], row))
    assert keep[0, : count[0]].tolist() == kept


@pytest.mark.parametrize("rounded_shift", [False, True])
def test_boxes_without_area_are_neither_suppressed_nor_suppress(rounded_shift: bool, device: str) -> None:
    """A square, a line on its border, the same line again, and a point of it: the IoU of two lines is 0 / 0."""
    boxes = torch.tensor([[[0.0, 0, 9, 9], [9, 0, 9, 9], [9, 0, 9, 9], [9, 9, 9, 9]]], device=device)
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.6]], device=device)
    groups, valid = torch.zeros(1, 4, dtype=torch.int64, device=device), torch.ones(1, 4, dtype=bool, device=device)
    rule = Nms(iou=0.0, extent=0, inclusive=False, rounded_shift=rounded_shift)
    keep, count = grouped_nms(boxes, scores, groups, valid, rule, 9, group_count=1)
    assert keep[0, : int(count)].tolist() == [0, 1, 2, 3]


def test_images_are_independent_and_nothing_valid_gives_nothing(device: str) -> None:
    boxes = torch.tensor([[[0.0, 0.0, 10.0, 10.0]] * 2] * 2)
    scores, groups = torch.tensor([[0.1, 0.2]] * 2), torch.zeros(2, 2, dtype=torch.int64)
    valid = torch.tensor([[True, True], [False, False]])
    keep, count = grouped_nms(*(x.to(device) for x in (boxes, scores, groups, valid)), RULE, 3)
    assert count.tolist() == [1, 0]
    assert keep.tolist() == [[1, 0, 0], [0, 0, 0]]


@pytest.mark.timeout(10)
def test_p14_every_candidate_a_group_of_its_own() -> None:
    """32,000 groups took a pass each, 7 s and more: the bound is for a return of that.  Each box stays in its group."""
    boxes = torch.tensor([0.0, 0.0, 10.0, 10.0]).expand(1, 32_000, 4).contiguous()
    scores = torch.linspace(0, 1, 32_000)[None]
    rule = Nms(iou=0.5, extent=0, inclusive=False, rounded_shift=False)
    keep, count = grouped_nms(boxes, scores, torch.arange(32_000)[None], torch.ones(1, 32_000).bool(), rule, 32_000)
    assert count.tolist() == [32_000]
    assert torch.equal(keep[0], torch.arange(31_999, -1, -1))


def test_each_class_is_suppressed_by_itself_and_its_candidates_exceed_the_threshold(device: str) -> None:
    """Rows 0 and 1 are one box, row 2 stands alone, row 3 is not valid; candidates count row by row, class by class.

    Class 0: row 0 with 0.9 suppresses row 1 with 0.6; row 2's 0.5 is not above the threshold.  Class 1: row 1 with 0.8
    suppresses row 0 with 0.7; row 2 has 0.75.  Best first: 0.9 (row 0, class 0: candidate 0), 0.8 (row 1, class 1: 3),
    0.75 (row 2, class 1: 5).
    """
    rows = [[0.0, 0, 10, 10], [0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]]
    scores = torch.tensor([[[0.9, 0.7], [0.6, 0.8], [0.5, 0.75], [0.99, 0.99]]], device=device)
    valid = torch.tensor([[True, True, True, False]], device=device)
    boxes = torch.tensor(rows, device=device)[None, :, None]
    for b in (boxes, boxes.expand(1, 4, 2, 4)):
        keep, count = class_nms(b, scores, valid, 0.5, RULE, 4)
        assert keep.tolist() == [[0, 3, 5, 0]]
        assert count.tolist() == [3]
    own = boxes.expand(1, 4, 2, 4).clone()
    own[0, 1, 0] = own[0, 1, 0] + 100  # of row 1, class 0's box alone lies elsewhere now, and 0.6 comes last
    assert class_nms(own, scores, valid, 0.5, RULE, 4)[0].tolist() == [[0, 3, 5, 2]]


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"group_count": 2}, "a candidate of group 2, where there are 2 groups"),
        ({"group_size": 1}, "a group of more than 1 candidates"),
    ],
)
def test_groups_beyond_what_was_named_are_refused(numbers: dict, words: str) -> None:
    boxes, scores = torch.zeros(1, 4, 4), torch.ones(1, 4)
    groups = torch.tensor([[0, 0, 2, 5]])
    valid = torch.tensor([[True, True, True, False]])
    enough = {"group_count": 3, "group_size": 2}
    assert grouped_nms(boxes, scores, groups, valid, RULE, 4, **enough)[1].tolist() == [3]
    with pytest.raises((UsageError, RuntimeError), match=words):  # of the reference and of the compiled operator
        grouped_nms(boxes, scores, groups, valid, RULE, 4, **(enough | numbers))
