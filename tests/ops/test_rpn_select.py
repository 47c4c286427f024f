"""The best anchors of each level, worked by hand."""

import math

import pytest
import torch
from torch import Tensor

from cascadezoo.ops.rpn_select import Candidates, rpn_select
from cascadezoo.spec.conventions import AnchorGrid, BoxCoder, Nms, ProposalRule, RpnScore

RULE = ProposalRule(
    score=RpnScore.LOGIT,
    coder=BoxCoder(stds=(1, 1, 1, 1), log_scale=(-4, 4), extent=0),
    nms=Nms(iou=0.5, extent=0, inclusive=False, rounded_shift=True),
    min_size=0,
    pre_nms_top_n=3,
    post_nms_top_n=4,
)
SIZE = torch.tensor([[1000.0, 1000.0]])


def changed(**fields) -> ProposalRule:
    return RULE.model_copy(update=fields)


def grid(*strides: int) -> AnchorGrid:
    """Squares of 10 pixels around the cells."""
    return AnchorGrid(sizes=((10,),) * len(strides), ratios=(1,), strides=strides, extent=0, rounded=False)


def selected(*logits: list[float], device: str, rule: ProposalRule = RULE) -> Candidates:
    """From one level of each image, a row of cells 10 pixels apart: boxes carry their anchor's number in x2, and its
    deltas' in y1."""
    scores = torch.tensor(logits, device=device)
    deltas = torch.zeros(*scores.shape, 4, device=device)
    deltas[..., 1] = 10 + torch.arange(scores.shape[1], device=device) / 10  # y1 = 95, 96, ...
    sizes = SIZE.to(device).expand(len(logits), -1)
    return rpn_select([scores], [deltas], [scores.shape[1]], sizes, grid(10), rule)


def numbers(found: Candidates) -> list[list[int]]:
    """The anchors of the rows of each image."""
    of_anchor, of_deltas = (found.boxes[..., 2] - 5) / 10, found.boxes[..., 1] - 95
    assert of_deltas.flatten().tolist() == pytest.approx(of_anchor.flatten().tolist(), abs=1e-4)
    return of_anchor.round().long().tolist()


def test_a_level_of_at_most_the_limit_keeps_all_its_anchors(device: str) -> None:
    found = selected([0.1, 0.9, 0.5], device=device)
    assert found.valid.tolist() == [[True, True, True]]
    assert found.scores[0].tolist() == pytest.approx([0.9, 0.5, 0.1])
    assert numbers(found) == [[1, 2, 0]]
    found = selected([0.5, 0.5], device=device)
    assert found.valid.tolist() == [[True, True, False]]  # the rest are repeated
    assert found.scores.tolist() == [[0.5, 0.5, 0.5]]
    assert numbers(found) == [[0, 1, 1]]


def test_a_larger_level_gives_its_best_in_order(device: str) -> None:
    found = selected([0.1, 0.9, 0.5, 0.7, 0.9], [-0.1, -0.9, -0.5, -0.7, -0.9], device=device)
    assert found.scores[0].tolist() == pytest.approx([0.9, 0.9, 0.7])
    assert numbers(found) == [[1, 4, 3], [0, 2, 3]]


def test_saturated_probabilities_tie_where_logits_do_not(device: str) -> None:
    """The probability of a logit of 30, 40 or 50 is 1 in float32: the first ones stay, in their order."""
    saturated = [0.0, 30.0, 40.0, 50.0, 30.0]
    by_probability = selected(saturated, device=device, rule=changed(score=RpnScore.PROBABILITY))
    assert by_probability.scores.tolist() == [[1, 1, 1]]
    assert numbers(by_probability) == [[1, 2, 3]]
    by_logit = selected(saturated, device=device)
    assert by_logit.scores.tolist() == [[50, 40, 30]]
    assert numbers(by_logit) == [[3, 2, 1]]
    small = selected([0.0, math.log(3)], device=device, rule=changed(score=RpnScore.PROBABILITY))
    assert small.scores[0, :2].tolist() == pytest.approx([0.75, 0.5])


def test_what_is_no_number_comes_first_and_infinity_next(device: str) -> None:
    found = selected([1.0, -math.inf, math.nan, math.inf, 0.0], device=device, rule=changed(pre_nms_top_n=5))
    assert numbers(found) == [[2, 3, 0, 4, 1]]
    assert found.scores[0].isnan().tolist() == [True, False, False, False, False]


def test_a_box_that_is_no_number_is_not_valid(device: str) -> None:
    deltas = torch.tensor([[[math.nan, 0.0, 0.0, 0.0], [0.0] * 4]], device=device)
    logits = torch.tensor([[1.0, 0.0]], device=device)
    found = rpn_select([logits], [deltas], [2], SIZE.to(device), grid(10), changed(pre_nms_top_n=2))
    assert found.valid.tolist() == [[False, True]]


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize(("min_size", "kept"), [(0, [1, 1, 1, 1]), (1.17549435e-38, [1, 0, 0, 0]), (5.5, [0, 0, 0, 0])])
def test_boxes_clipped_to_a_line_are_kept_where_no_side_is_too_small(
    min_size: float, kept: list[int], gradients: bool, device: str
) -> None:
    """Squares of 10 pixels from a cell each: a quarter inside; left of the image; above it; beyond its far corner."""
    deltas = torch.zeros(1, 4, 4, device=device)
    deltas[0, 1, 0], deltas[0, 2, 1] = -3, -3
    deltas[0, 3] = torch.tensor([1.0, 5, 0, 0])
    deltas.requires_grad_(gradients)
    logits, size = torch.tensor([[4.0, 3, 2, 1]], device=device), torch.tensor([[40.0, 32.0]], device=device)
    found = rpn_select([logits], [deltas], [4], size, grid(10), changed(pre_nms_top_n=4, min_size=min_size))
    assert found.boxes[0].tolist() == [[0, 0, 5, 5], [0, 0, 0, 5], [15, 0, 25, 0], [32, 40, 32, 40]]
    assert found.valid.int().tolist() == [kept]


def test_the_rows_of_the_levels_follow_one_another(device: str) -> None:
    """The second level has two rows of one cell each; its stride is its own."""
    logits: list[Tensor] = [torch.tensor([[0.2, 0.3]], device=device), torch.tensor([[0.7, 0.1]], device=device)]
    deltas = [torch.zeros(1, 2, 4, device=device), torch.zeros(1, 2, 4, device=device)]
    found = rpn_select(logits, deltas, [2, 1], SIZE.to(device), grid(10, 30), changed(pre_nms_top_n=2))
    assert found.scores[0].tolist() == pytest.approx([0.3, 0.2, 0.7, 0.1])
    assert found.levels.tolist() == [[0, 0, 1, 1]]
    assert found.boxes.tolist() == [[[5, 0, 15, 5], [0, 0, 5, 5], [0, 0, 5, 5], [0, 25, 5, 35]]]
    assert found.valid.all()


def test_gradients_reach_the_deltas_of_what_is_selected(device: str) -> None:
    """Of 10 pixels, moved by dx: each x1 and x2 by 10 times the delta's change."""
    deltas = torch.zeros(1, 3, 4, device=device).requires_grad_()
    logits = torch.tensor([[0.1, 0.9, 0.5]], device=device)
    rule = changed(pre_nms_top_n=2)
    found = rpn_select([logits], [deltas], [3], SIZE.to(device), grid(10), rule)
    (found.boxes[..., 2] * torch.tensor([1.0, 2.0], device=device)).sum().backward()
    assert deltas.grad[0, :, 0].tolist() == [0, 10, 20]
    with torch.no_grad():
        assert not rpn_select([logits], [deltas], [3], SIZE.to(device), grid(10), rule).boxes.requires_grad
