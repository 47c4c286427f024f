"""The CUDA kernels of suppression, emulated: the same candidates in the same order as the reference's."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cascadezoo.ops.nms import _threshold
from cascadezoo.spec.conventions import Nms

from cuda_emulation.building import fail_next_launch, operators, shared_memory

pytestmark = pytest.mark.emulated
registered = torch.ops.cascadezoo
COORDINATE = st.one_of(
    st.integers(0, 320).map(lambda eighths: eighths / 8),  # IoUs that equal thresholds
    st.floats(0, 1333, width=32),
    st.sampled_from([0.0, 7.0, 16777216.0, 3e38, math.inf, -math.inf, math.nan]),
)
SCORE = st.one_of(st.integers(-2, 5).map(lambda n: n / 5), st.sampled_from([-0.0, math.inf, -math.inf, math.nan]))


@st.composite
def rules(draw) -> Nms:
    return Nms(
        iou=draw(st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0])),
        extent=draw(st.sampled_from([0, 1])),
        inclusive=draw(st.booleans()),
        rounded_shift=draw(st.booleans()),
    )


def numbers(rule: Nms) -> tuple[float, int, bool]:
    return _threshold(rule), rule.extent, rule.rounded_shift


def tensor(draw, of, dtype: torch.dtype, *shape: int) -> Tensor:
    count = math.prod(shape)
    return torch.tensor(draw(st.lists(of, min_size=count, max_size=count)), dtype=dtype).view(shape)


def same(found: list[Tensor], right: list[Tensor]) -> None:
    assert found[1].tolist() == right[1].tolist()
    assert torch.equal(found[0], right[0])


@settings(derandomize=True, deadline=None, database=None, max_examples=150)
@given(st.data(), rules(), st.integers(1, 3), st.integers(0, 70), st.integers(1, 4), st.integers(0, 80))
def test_drawn_candidates_are_kept_as_by_the_reference(data, rule, images, count, groups, keep) -> None:
    few = data.draw(st.integers(1, 8))  # boxes that many candidates share, so that there is much to suppress
    some = tensor(data.draw, COORDINATE, torch.float32, few, 4)
    some = torch.cat((some[:, :2].minimum(some[:, 2:]), some[:, :2].maximum(some[:, 2:])), 1)
    noise = torch.Generator().manual_seed(count)
    boxes = some[torch.randint(few, (images, count), generator=noise)]
    scores = tensor(data.draw, SCORE, torch.float32, images, 1).expand(images, count).clone()
    scores += torch.randint(4, (images, count), generator=noise) / 8
    of_group = torch.randint(groups, (images, count), generator=noise)
    valid = torch.rand(images, count, generator=noise) < data.draw(st.sampled_from([0.0, 0.7, 1.0]))
    most = data.draw(st.sampled_from([count, 2 * count]))
    arguments = (boxes, scores, of_group, valid, *numbers(rule), groups, most, keep)
    same(operators().grouped_nms(*arguments), registered.grouped_nms(*arguments))


@settings(derandomize=True, deadline=None, database=None, max_examples=80)
@given(st.data(), rules(), st.integers(1, 2), st.integers(0, 40), st.integers(0, 5), st.booleans(), st.integers(0, 60))
def test_drawn_classes_are_kept_as_by_the_reference(data, rule, images, rows, classes, own, keep) -> None:
    noise = torch.Generator().manual_seed(rows)
    low = torch.randint(0, 60, (images, rows, classes if own else 1, 2), generator=noise) / 2
    boxes = torch.cat((low, low + torch.randint(0, 40, low.shape, generator=noise) / 2), -1)
    probabilities = torch.randint(9, (images, rows, classes + 1), generator=noise) / 8
    if rows and classes:
        probabilities[0, 0, 0] = data.draw(SCORE)
    valid = torch.rand(images, rows, generator=noise) < 0.8
    least = data.draw(st.sampled_from([0.0, 0.05, 0.25, 1.0]))
    for scores in (probabilities[..., :-1], probabilities[..., :-1].contiguous()):  # in place, and by themselves
        arguments = (boxes, scores, valid, least, *numbers(rule), keep)
        same(operators().class_nms(*arguments), registered.class_nms(*arguments))


def proposals(count: int, size: float, images: int = 1) -> Tensor:
    noise = torch.Generator().manual_seed(count)
    centre = torch.rand(images, count, 2, generator=noise) * torch.tensor([1344.0, 800.0])
    sides = torch.rand(images, count, 2, generator=noise) * size + 4
    return torch.cat(((centre - sides / 2).clamp(min=0), centre + sides / 2), -1)


@pytest.mark.parametrize("rule", [(0.7, False), (0.7, True)], ids=["mmdet's", "rounded"])
def test_the_candidates_of_267_000_anchors(rule: tuple[float, bool]) -> None:
    """800 x 1344 pixels: 1000 of each of four levels, all 819 of the fifth."""
    sizes = (1000, 1000, 1000, 1000, 819)
    levels = torch.cat([torch.full((2, size), level) for level, size in enumerate(sizes)], 1)
    scores = torch.rand(2, sum(sizes), generator=torch.Generator().manual_seed(0)).mul(2000).round().div(2000)  # ties
    boxes, valid = proposals(sum(sizes), 200, images=2), scores > 0.01
    arguments = (boxes, scores, levels, valid, rule[0], 0, rule[1], len(sizes), 1000, 1000)
    same(operators().grouped_nms(*arguments), registered.grouped_nms(*arguments))


@pytest.mark.parametrize("rounded", [True, False])
def test_80_000_scores_of_80_classes(rounded: bool) -> None:
    logits = torch.randn(1, 1000, 81, generator=torch.Generator().manual_seed(0)) * 2
    boxes, scores = proposals(1000, 300)[:, :, None], logits.softmax(-1)[..., :-1]
    assert int((scores > 0.05).sum()) > 4000
    arguments = (boxes, scores, torch.ones(1, 1000, dtype=torch.bool), 0.05, 0.5, 0, rounded, 100)
    same(operators().class_nms(*arguments), registered.class_nms(*arguments))


@pytest.mark.parametrize("kilobytes", [163, 227], ids=["sm_80", "sm_90"])
@pytest.mark.parametrize("most", [6000, 20_000, 40_000], ids=["boxes", "a GPU's most", "ranks too"])
@pytest.mark.parametrize("rounded", [True, False])
def test_what_has_no_room_in_shared_memory_lies_in_global(most: int, rounded: bool, kilobytes: int) -> None:
    """One level of 6000 candidates, C4's: 64 KB of ranks, and 117 or, in double, 234 KB of boxes.  Both fit on sm_90
    where the boxes are floats, and never on sm_80; the ranks of 40,000 fit on neither."""
    boxes, scores = proposals(most, 200), torch.rand(1, most, generator=torch.Generator().manual_seed(1))
    scores, groups = scores.mul(100).round(), torch.zeros(1, most, dtype=torch.int64)
    valid = torch.rand(1, most, generator=torch.Generator().manual_seed(2)) < 2000 / most
    arguments = (boxes, scores, groups, valid, 0.7, 0, rounded, 1, most, 2 * most)
    with shared_memory(kilobytes):
        found = operators().grouped_nms(*arguments)
    same(found, registered.grouped_nms(*arguments))


def test_the_same_candidates_are_kept_wherever_they_lie() -> None:
    """4100 candidates have 64 KB of ranks: of 48 KB none fits, of 96 KB the ranks do."""
    boxes, scores = proposals(4100, 200), torch.rand(1, 4100, generator=torch.Generator().manual_seed(3))
    valid, groups = torch.ones(1, 4100, dtype=torch.bool), torch.zeros(1, 4100, dtype=torch.int64)
    arguments = (boxes, scores, groups, valid, 0.7, 0, True, 1, 4100, 4100)
    for kilobytes in (48, 96, 227):
        with shared_memory(kilobytes):
            same(operators().grouped_nms(*arguments), registered.grouped_nms(*arguments))


def test_a_launch_that_fails_is_an_error() -> None:
    boxes, scores = proposals(3, 20), torch.ones(1, 3)
    arguments = (boxes, scores, torch.zeros(1, 3, dtype=torch.int64), scores > 0, 0.5, 0, True, 1, 3, 3)
    fail_next_launch()
    with pytest.raises(RuntimeError, match=r"nms: the error that a test asked for .*cascadezoo build-ops --cuda"):
        operators().grouped_nms(*arguments)
    same(operators().grouped_nms(*arguments), registered.grouped_nms(*arguments))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"boxes": torch.zeros(1, 3, 5)}, "boxes must be"),
        ({"boxes": torch.zeros(1, 3, 4, dtype=torch.float64)}, "must be float32"),
        ({"scores": torch.zeros(1, 3, dtype=torch.float16)}, "must be float32"),
        ({"scores": torch.zeros(1, 2)}, "must be \\(N, K\\)"),
        ({"valid": torch.zeros(1, 3)}, "valid must be bool"),
        ({"groups": torch.zeros(1, 3)}, "groups must be int64"),
        ({"extent": 2}, "extent must be 0 or 1"),
        ({"group_count": -1}, "must not be negative"),
        ({"group_count": 2**31 - 1}, "below 2\\^30"),
        ({"keep": -1}, "max_keep must lie"),
    ],
    ids=str,
)
def test_arguments_that_do_not_belong_together_are_refused(change: dict, words: str) -> None:
    arguments = {
        "boxes": torch.zeros(1, 3, 4),
        "scores": torch.zeros(1, 3),
        "groups": torch.zeros(1, 3, dtype=torch.int64),
        "valid": torch.ones(1, 3, dtype=torch.bool),
        "iou": 0.5,
        "extent": 0,
        "rounded": True,
        "group_count": 1,
        "group_size": 3,
        "keep": 3,
    }
    with pytest.raises(RuntimeError, match=words):
        operators().grouped_nms(*(arguments | change).values())


@pytest.mark.parametrize(
    ("boxes", "scores", "valid", "words"),
    [
        ((1, 3, 2, 4), (1, 3, 5), (1, 3), "boxes must be"),
        ((1, 2, 1, 4), (1, 3, 5), (1, 3), "boxes must be"),
        ((1, 3, 1, 4), (3, 5), (1, 3), "scores must be"),
        ((1, 3, 1, 4), (1, 3, 5), (1, 2), "valid must be"),
    ],
    ids=str,
)
def test_shapes_of_classes_that_do_not_belong_together_are_refused(boxes, scores, valid, words) -> None:
    tensors = torch.zeros(boxes), torch.zeros(scores), torch.ones(valid, dtype=torch.bool)
    with pytest.raises(RuntimeError, match=words):
        operators().class_nms(*tensors, 0.05, 0.5, 0, True, 3)
