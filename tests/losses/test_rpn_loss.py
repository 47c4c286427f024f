"""Losses of the proposal network, worked by hand."""

import math

import pytest
import torch

from cascadezoo.losses import rpn_loss
from cascadezoo.losses.rpn_loss import Head, mean_count, rpn_losses
from cascadezoo.losses.targets import Targets
from cascadezoo.spec.conventions import BoxCoder
from cascadezoo.spec.objective import Matching, Normaliser, RpnObjective, Sampling, SmoothL1

CODER = BoxCoder(stds=(0.5, 0.5, 1, 1), log_scale=(-4, 4), extent=0)
# 10 x 10 each: the first lies on the object, the second half a width to its right, the last two across the edges
ANCHORS = torch.tensor([[20.0, 20, 30, 30], [25, 20, 35, 30], [40, 40, 50, 50], [-1, 40, 9, 50], [60, 60, 70, 70]])
LEVELS = [ANCHORS[:2], ANCHORS[2:]]
SIZES = torch.tensor([[64.0, 64]])


def rule(**changes: object) -> RpnObjective:
    values = {
        "matching": Matching(positive=0.7, negative=0.3),
        "sampling": Sampling(size=8, positive_fraction=0.5),
        "inside": False,
        "box_loss": SmoothL1(beta=0),
        "objectness_normaliser": Normaliser.NOMINAL,
        "box_normaliser": Normaliser.NOMINAL,
        "pre_nms_top_n": 10,
        "post_nms_top_n": 10,
    }
    return RpnObjective.model_validate({**values, **changes})


def objects(*boxes: list[float]) -> Targets:
    count = len(boxes)
    return Targets(torch.tensor(boxes).view(-1, 4), torch.zeros(count).long(), None, torch.zeros(count).bool())


def saying(logits: torch.Tensor, deltas: torch.Tensor) -> Head:
    """A head whose outputs are logits (N, A) and deltas (N, A, 4)."""
    return lambda images, rows: (logits[images, rows], deltas[images, rows])


def losses(
    given: RpnObjective, *targets: Targets, logits: torch.Tensor | None = None, deltas: torch.Tensor | None = None
) -> tuple[float, float]:
    """Objectness and box loss of a head that says 0 everywhere unless told otherwise; over two levels."""
    count = len(targets)
    logits = torch.zeros(count, 5) if logits is None else logits
    deltas = torch.zeros(count, 5, 4) if deltas is None else deltas
    result = rpn_losses(saying(logits, deltas), LEVELS, SIZES.repeat(count, 1), targets, CODER, given, [None] * count)
    assert list(result) == ["loss_objectness", "loss_rpn_box_reg"]
    return result["loss_objectness"].item(), result["loss_rpn_box_reg"].item()


LN2 = math.log(2)


def test_an_anchor_between_the_thresholds_takes_no_part() -> None:
    # IoUs with the object: 1, 1/3 (between 0.3 and 0.7), 0, 0, 0: four anchors of the nominal eight, ln 2 each
    scored, moved = losses(rule(), objects([20, 20, 30, 30]))
    assert scored == pytest.approx(4 * LN2 / 8)
    assert moved == 0


def test_positive_logits_are_right_for_positive_anchors_alone() -> None:
    # ln(1 + e^-3) where the sign is right, ln(1 + e^3) where it is not
    right, wrong = math.log(1 + math.exp(-3)), math.log(1 + math.exp(3))
    logits = torch.tensor([[3.0, 3, -3, -3, 3]])
    scored, _ = losses(rule(), objects([20, 20, 30, 30]), logits=logits)
    assert scored == pytest.approx((3 * right + wrong) / 8)


@pytest.mark.parametrize(("beta", "expected"), [(0.0, 0.2 + 0.6), (0.5, 0.2**2 / (2 * 0.5) + 0.6 - 0.25)])
def test_box_loss_of_the_positive_anchor(beta: float, expected: float) -> None:
    # the object lies 0.1 widths to the right, raw 0.2 at a deviation of 0.5; dx 0 and dy 0.6 are said, dy 0 is right
    deltas = torch.zeros(1, 5, 4)
    deltas[0, 0, 1] = 0.6
    deltas[0, 1:] = 100  # of anchors that are not positive
    _, moved = losses(rule(box_loss=SmoothL1(beta=beta)), objects([21, 20, 31, 30]), deltas=deltas)
    assert moved == pytest.approx(expected / 8, rel=1e-4)


def test_each_image_has_its_own_targets_and_outputs() -> None:
    logits = torch.tensor([[9.0, 0, 0, 0, 0], [0, 0, 9, 0, 0]])
    first, second = objects([20, 20, 30, 30]), objects([40, 40, 50, 50])
    scored, _ = losses(rule(), first, second, logits=logits)
    # two anchors with the right 9; of the first image three others at 0 (one between the thresholds), of the second 4
    assert scored == pytest.approx((2 * math.log(1 + math.exp(-9)) + 7 * LN2) / 16)


@pytest.mark.parametrize(
    ("normaliser", "expected"),
    # 4 and 5 anchors are sampled, and none positive in the second image
    [(Normaliser.SAMPLED, 9 / 9), (Normaliser.NOMINAL, 9 / 16), (Normaliser.IMAGE, (4 / 4 + 5 / 5) / 2)],
)
def test_normalisers(normaliser: Normaliser, expected: float) -> None:
    deltas = torch.ones(2, 5, 4)  # |1| four times, where 0 is right: one positive anchor
    given = rule(objectness_normaliser=normaliser, box_normaliser=Normaliser.SAMPLED)
    scored, moved = losses(given, objects([20, 20, 30, 30]), objects(), deltas=deltas)
    assert scored == pytest.approx(expected * LN2)
    assert moved == pytest.approx(4 / 9)
    swapped = rule(objectness_normaliser=Normaliser.SAMPLED, box_normaliser=normaliser)
    per = {Normaliser.SAMPLED: 9, Normaliser.NOMINAL: 16, Normaliser.IMAGE: 2 * 4}
    assert losses(swapped, objects([20, 20, 30, 30]), objects(), deltas=deltas)[1] == pytest.approx(4 / per[normaliser])


def test_an_image_of_which_nothing_is_sampled_counts_as_an_image() -> None:
    # an image of 5 x 5 pixels holds no anchor; of the other, one anchor alone lies inside 15 x 15 pixels
    given = rule(inside=True, objectness_normaliser=Normaliser.IMAGE)
    anchors = [torch.tensor([[2.0, 2, 12, 12]])]
    head = saying(torch.zeros(2, 1), torch.zeros(2, 1, 4))
    sizes = torch.tensor([[15.0, 15], [5, 5]])
    result = rpn_losses(head, anchors, sizes, [objects(), objects()], CODER, given, [None, None])
    assert result["loss_objectness"].item() == pytest.approx((LN2 / 1 + 0) / 2)
    assert result["loss_rpn_box_reg"].item() == 0


def test_without_any_anchor_the_losses_are_zero() -> None:
    head, sizes = saying(torch.zeros(1, 1), torch.zeros(1, 1, 4)), torch.tensor([[5.0, 5]])
    for normaliser in Normaliser:
        given = rule(inside=True, objectness_normaliser=normaliser, box_normaliser=normaliser)
        anchors = [torch.tensor([[2.0, 2, 12, 12]])]
        result = rpn_losses(head, anchors, sizes, [objects()], CODER, given, [None])
        assert [loss.item() for loss in result.values()] == [0, 0]


@pytest.mark.parametrize(
    ("anchor", "is_inside"),
    [
        ((0.0, 0.0, 19.5, 9.5), True),  # of an image of 20 columns and 10 rows
        ((-0.5, 0, 8, 8), False),
        ((0, -0.5, 8, 8), False),
        ((8, 0, 20, 8), False),  # x2 is not below the width
        ((0, 2, 8, 10), False),
        ((12, 0, 19.5, 8), True),
        ((2, 0, 10.5, 9.5), True),  # neither does the width bound rows nor the height columns
    ],
)
def test_which_anchors_lie_inside(anchor: tuple[float, ...], is_inside: bool) -> None:
    head = saying(torch.zeros(1, 1), torch.zeros(1, 1, 4))
    given = [rule(inside=inside) for inside in (True, False)]
    sizes, box = torch.tensor([[10.0, 20]]), [torch.tensor([anchor])]
    inside, everywhere = (rpn_losses(head, box, sizes, [objects()], CODER, r, [None]) for r in given)
    assert everywhere["loss_objectness"].item() == pytest.approx(LN2 / 8)
    assert inside["loss_objectness"].item() == pytest.approx(LN2 / 8 if is_inside else 0)


def test_inside_anchors_are_matched_to_the_right_objects() -> None:
    # the anchor across the edge is left out; those behind it keep their objects
    target = objects([60, 60, 70, 70], [20, 20, 30, 30])
    deltas = torch.zeros(1, 5, 4)
    assert losses(rule(inside=True), target, deltas=deltas)[1] == 0
    scored, _ = losses(rule(inside=True), target)
    # inside 64 x 64: two positive at most, the one at 60 is across the edge; the second has an IoU of 1/3
    assert scored == pytest.approx(2 * LN2 / 8)


def test_samplers_draw_from_their_images_generators() -> None:
    given = rule(sampling=Sampling(size=2, positive_fraction=0.5))
    logits = torch.tensor([[0.0, 1, 2, 3, 4]])
    head = saying(logits, torch.zeros(1, 5, 4))

    def scored(seed: int) -> float:
        generator = torch.Generator().manual_seed(seed)
        return rpn_losses(head, [ANCHORS], SIZES, [objects()], CODER, given, [generator])["loss_objectness"].item()

    assert scored(0) == scored(0)
    rows = torch.randperm(5, generator=torch.Generator().manual_seed(0))[:2]
    assert scored(0) == pytest.approx(logits[0, rows].exp().log1p().sum().item() / 2)


@pytest.mark.parametrize(("count", "mean"), [(0, 1), (0.25, 1), (1, 1), (1.5, 1.5), (7, 7)])
def test_counts_are_at_least_one(count: float, mean: float) -> None:
    assert mean_count(count, torch.zeros(())).item() == mean
    assert mean_count(torch.tensor(count), torch.zeros(())).item() == mean


def test_counts_are_the_mean_over_processes(monkeypatch) -> None:
    monkeypatch.setattr(rpn_loss, "processes", lambda: 4)
    monkeypatch.setattr(rpn_loss, "sum_of_processes", lambda own: own + 9)  # those of the other three
    result = mean_count(torch.tensor(3), torch.zeros((), dtype=torch.float64))
    assert (result.item(), result.dtype) == (3, torch.float32)
    monkeypatch.setattr(rpn_loss, "sum_of_processes", lambda own: own)
    assert mean_count(0, torch.zeros(())).item() == 1 / 4  # one in all processes together
