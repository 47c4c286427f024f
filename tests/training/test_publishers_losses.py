"""Paddle's and Detectron's losses, worked by hand from their fact sheets: no recorded step of theirs exists."""

import pytest
import torch

from cascadezoo.objectives import Normaliser
from cascadezoo.providers import SPECS
from cascadezoo.training.cascade_loss import RoIs, _box_losses, _slow_gradient, _weigh
from cascadezoo.training.rpn_loss import _normalise
from cascadezoo.training.targets import Targets

PADDLE = SPECS["paddle"]["cascade_mask_r50_fpn"]
DETECTRON = SPECS["detectron"]["cascade_mask_r50_fpn"]


def test_rpn_sums_are_divided_as_each_publisher_does() -> None:
    sums, sampled = torch.tensor([512.0, 128.0]), torch.tensor([256.0, 64.0])
    rule = PADDLE.objective.rpn
    assert rule.sampling.size == 256
    assert _normalise(sums, sampled, Normaliser.SAMPLED, rule).item() == pytest.approx(640 / 320)
    assert _normalise(sums, sampled, Normaliser.NOMINAL, rule).item() == pytest.approx(640 / 512)
    assert _normalise(sums, sampled, Normaliser.PICTURE, rule).item() == pytest.approx((2 + 2) / 2)
    assert (rule.objectness_normaliser, rule.box_normaliser) == (Normaliser.NOMINAL, Normaliser.NOMINAL)
    theirs = DETECTRON.objective.rpn
    assert (theirs.objectness_normaliser, theirs.box_normaliser) == (Normaliser.NOMINAL, Normaliser.PICTURE)


@pytest.mark.parametrize(
    ("spec", "expected"),
    # deltas of 0 where (2, 0, 0, 0) raw would be right: |2| for Paddle; 2 - 1/2 for Detectron's beta of 1; two RoIs
    [(PADDLE, 2 / 2), (DETECTRON, 1.5 / 2)],
    ids=["paddle", "detectron"],
)
def test_box_loss_of_one_positive_box(spec, expected: float) -> None:
    coder = spec.stages[0]  # dx of 2 raw is 0.2 widths
    width = 10 + coder.extent
    box = torch.tensor([[10.0, 10, 20, 20]])
    goal = box + torch.tensor([0.2 * width, 0, 0.2 * width, 0])
    rois = RoIs(torch.cat((box, box + 40)), torch.tensor([3, 80]), torch.tensor([0]), torch.tensor([False, False]))
    targets = Targets(goal, torch.tensor([3]), None, torch.tensor([False]))
    classes, moves = _box_losses(torch.zeros(2, 81), torch.zeros(2, 1, 4), [rois], [targets], coder, spec.objective.box)
    assert classes.item() == pytest.approx(torch.tensor(81.0).log().item())
    assert moves.item() == pytest.approx(expected, rel=1e-4)


def test_detectrons_heads_learn_at_full_speed_and_what_lies_below_at_the_stages_weight() -> None:
    rule = DETECTRON.objective.box
    stage = rule.stages[2]
    assert stage.weight == 0.25
    below, head = torch.tensor([3.0], requires_grad=True), torch.tensor([2.0], requires_grad=True)
    loss = _weigh((_slow_gradient(below, stage.weight) * head).sum(), stage, rule)
    loss.backward()
    assert loss.item() == 0.25 * 6
    assert head.grad.item() == 3
    assert below.grad.item() == 0.25 * 2


def test_paddles_stages_weigh_a_third_and_masks_learn_at_the_first() -> None:
    rule = PADDLE.objective
    assert [(stage.iou, stage.weight) for stage in rule.box.stages] == [(0.5, 1 / 3), (0.6, 1 / 3), (0.7, 1 / 3)]
    assert [(mask.stage, mask.weight) for mask in rule.masks] == [(0, 1)]
    assert _weigh(torch.tensor(6.0), rule.box.stages[0], rule.box).item() == pytest.approx(2.0)
    assert [(mask.stage, mask.weight) for mask in DETECTRON.objective.masks] == [(2, 1)]
