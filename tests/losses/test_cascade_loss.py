"""Losses of the heads, worked by hand; features and heads are stand-ins that say what the test wants."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cascadezoo.losses import cascade_loss
from cascadezoo.losses.cascade_loss import RoIs, _box_losses, _mask_loss, _move, _pool, _sample_rois, cascade_losses
from cascadezoo.losses.masks import Masks
from cascadezoo.losses.targets import Targets
from cascadezoo.spec.conventions import BoxCoder
from cascadezoo.spec.objective import BoxObjective, GIoU, MaskObjective, Objective, Sampling, SmoothL1, StageObjective

CLASSES = 3
CODER = BoxCoder(stds=(0.5, 0.5, 1, 1), log_scale=(-4, 4), extent=0)
LN4 = math.log(4)  # cross entropy of equal scores of three classes and background


def rule(*ious: float, **changes: Any) -> BoxObjective:
    values: dict[str, Any] = {
        "stages": tuple(StageObjective(iou=iou, weight=1) for iou in ious or (0.5,)),
        "sampling": Sampling(size=100, positive_fraction=0.5),
        "resample": False,
        "truth_everywhere": False,
        "forget_truth": False,
        "forget_empty": False,
        "loss": SmoothL1(beta=0),
    }
    return BoxObjective.model_validate({**values, **changes})


def target(boxes: list[list[float]], labels: list[int], masks: Masks | None = None) -> Targets:
    count = len(boxes)
    return Targets(
        torch.tensor(boxes).float().view(-1, 4), torch.tensor(labels).long(), masks, torch.zeros(count).bool()
    )


def rois(boxes: list[list[float]], labels: list[int], objects: list[int], truth: list[bool] | None = None) -> RoIs:
    marks = [False] * len(boxes) if truth is None else truth
    return RoIs(torch.tensor(boxes).float(), torch.tensor(labels), torch.tensor(objects).long(), torch.tensor(marks))


# --- which boxes take part ---------------------------------------------------------------------------------------


def take(boxes: list[list[float]], given: Targets, index: int, objective: BoxObjective, extent: int = 0) -> RoIs:
    return _sample_rois(torch.tensor(boxes).float(), given, index, objective, extent, CLASSES, None)


def test_ground_truth_comes_first_and_keeps_its_own_object() -> None:
    # two objects of different classes share one box: each keeps its own label, the proposal takes the first's
    given = target([[0, 0, 10, 10], [0, 0, 10, 10]], [2, 1])
    taken = take([[0, 0, 10, 9], [50, 50, 60, 60]], given, 0, rule())
    assert taken.boxes.tolist() == [[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]]
    assert taken.labels.tolist() == [2, 1, 2, CLASSES]
    assert taken.objects.tolist() == [0, 1, 0]
    assert taken.positive == 3
    assert taken.truth.tolist() == [True, True, False, False]


@pytest.mark.parametrize(("index", "everywhere", "added"), [(0, False, 1), (1, False, 0), (1, True, 1), (0, True, 1)])
def test_at_which_stages_ground_truth_is_added(index: int, everywhere: bool, added: int) -> None:
    given = target([[0, 0, 10, 10]], [1])
    taken = take([[50, 50, 60, 60]], given, index, rule(0.5, 0.6, truth_everywhere=everywhere))
    assert len(taken.boxes) == 1 + added
    assert taken.truth.tolist() == [True] * added + [False]


def test_each_stage_has_its_own_iou_and_no_box_lies_between() -> None:
    # IoUs of 0.5, 0.6 and 0.7 with the object, at thresholds of exactly 0.5 and a little over 0.6
    given, boxes = target([[0, 0, 10, 10]], [1]), [[0, 0, 10, 5], [0, 0, 10, 6], [0, 0, 10, 7]]
    assert take(boxes, given, 0, rule(0.5, 0.61)).labels.tolist() == [1, 1, 1, 1]
    assert take(boxes, given, 1, rule(0.5, 0.61)).labels.tolist() == [1, CLASSES, CLASSES]
    # where x2 and y2 are the last pixels inside, 11 x 6 of 11 x 11 pixels is more than a half
    assert take([[0, 0, 10, 5]], given, 1, rule(0.9, 0.54), extent=1).labels.tolist() == [1]
    assert take([[0, 0, 10, 5]], given, 1, rule(0.9, 0.54), extent=0).labels.tolist() == [CLASSES]


@pytest.mark.parametrize(("index", "resample", "count"), [(0, False, 4), (1, False, 9), (1, True, 4), (0, True, 4)])
def test_at_which_stages_boxes_are_sampled(index: int, resample: bool, count: int) -> None:
    objective = rule(0.5, 0.6, resample=resample, sampling=Sampling(size=4, positive_fraction=0.5))
    nothing = target([], [])
    taken = take([[0, 0, 10, 10]] * 9, nothing, index, objective)
    assert len(taken.boxes) == len(taken.labels) == len(taken.truth) == count
    assert taken.labels.tolist() == [CLASSES] * count


def test_samples_follow_the_generator() -> None:
    boxes = torch.arange(40).float().view(10, 4)
    objective = rule(sampling=Sampling(size=3, positive_fraction=0.5))
    taken = _sample_rois(boxes, target([], []), 0, objective, 0, CLASSES, torch.Generator().manual_seed(4))
    assert torch.equal(taken.boxes, boxes[torch.randperm(10, generator=torch.Generator().manual_seed(4))[:3]])


# --- losses of boxes ----------------------------------------------------------------------------------------------


def test_the_last_class_is_no_background() -> None:
    # label 2 of three classes is an object, 3 is background; dx of 1 raw is half a width
    given = target([[5, 0, 15, 10]], [2])
    taken = rois([[0, 0, 10, 10], [50, 50, 60, 60]], [2, 3], [0])
    scores = torch.tensor([[0.0, 0, 5, 0], [0, 0, 0, 0]])
    classes, moves = _box_losses(scores, torch.zeros(2, 1, 4), [taken], [given], CODER, rule())
    assert classes.item() == pytest.approx((math.log(3 + math.exp(5)) - 5 + LN4) / 2)
    assert moves.item() == pytest.approx(1 / 2)


@pytest.mark.parametrize("columns", [1, CLASSES])
def test_deltas_of_the_boxs_own_class(columns: int) -> None:
    given = target([[0, 0, 10, 10], [20, 20, 30, 30]], [0, 2])
    taken = [rois([[20, 20, 30, 30], [0, 0, 10, 10]], [2, 0], [1, 0]), rois([[60, 60, 70, 70]], [3], [])]
    deltas = torch.zeros(3, columns, 4)
    deltas[0, 2 % columns] = torch.tensor([1.0, 0, 0, 0])
    deltas[1, 0] = torch.tensor([0.0, 3, 0, 0])
    deltas[2] = 1000  # background
    if columns > 1:
        deltas[0, :2], deltas[1, 1:] = 1000, 1000  # other classes
    nothing = target([], [])
    _, moves = _box_losses(torch.zeros(3, 4), deltas, taken, [given, nothing], CODER, rule())
    assert moves.item() == pytest.approx((1 + 3) / 3)  # of three boxes, background too


def test_smooth_l1_is_quadratic_below_beta() -> None:
    given, taken = target([[0, 0, 10, 10]], [0]), rois([[0, 0, 10, 10]], [0], [0])
    deltas = torch.tensor([[[0.1, 0, 0, 0.6]]])
    _, moves = _box_losses(torch.zeros(1, 4), deltas, [taken], [given], CODER, rule(loss=SmoothL1(beta=0.5)))
    assert moves.item() == pytest.approx(0.1**2 / (2 * 0.5) + 0.6 - 0.25)


def test_giou_of_decoded_boxes() -> None:
    """A box one half to the right of its object: IoU 1/3, and the hull of both has nothing else: 1 - 1/3, times 10.
    Apart by a box's width, IoU 0 and a third of the hull is empty: 1 + 1/3."""
    given = target([[0, 0, 10, 10], [0, 0, 10, 10]], [0, 0])
    taken = rois([[0, 0, 10, 10], [0, 0, 10, 10]], [0, 0], [0, 1])
    deltas = torch.tensor([[[1.0, 0, 0, 0]], [[4.0, 0, 0, 0]]])  # moved by 5 and by 20 pixels
    _, moves = _box_losses(torch.zeros(2, 4), deltas, [taken], [given], CODER, rule(loss=GIoU(weight=10)))
    assert moves.item() == pytest.approx(10 * (2 / 3 + 4 / 3) / 2, rel=1e-6)
    # of boxes so small that a larger eps than 1e-6 would show: 0.01 x 0.01 pixels, IoU 1/3
    small = target([[0, 0, 0.01, 0.01]], [0])
    _, moves = _box_losses(
        torch.zeros(1, 4), deltas[:1], [rois([[0, 0, 0.01, 0.01]], [0], [0])], [small], CODER, rule(loss=GIoU(weight=1))
    )
    union, hull = 1.5e-4, 1.5e-4
    expected = 1 - 0.5e-4 / (union + 1e-6) + (hull - union) / (hull + 1e-6)
    assert moves.item() == pytest.approx(expected, rel=1e-3)


# --- losses of masks ----------------------------------------------------------------------------------------------


def mask_network(logits: torch.Tensor, pooled_from: list[Any]) -> SimpleNamespace:
    """Mask heads that answer ``logits`` (heads, F, C, M, M); what is pooled, and how finely, is noted."""

    def pool(features: Any, boxes: torch.Tensor, resolution: int) -> torch.Tensor:
        pooled_from.append((boxes, resolution))
        return boxes.flatten(0, 1)

    def head(answer: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        def answered(pooled: torch.Tensor) -> torch.Tensor:
            assert len(pooled) == answer.shape[0]
            return answer

        return answered

    return SimpleNamespace(
        spec=SimpleNamespace(
            mask=SimpleNamespace(resolution=14), stages=(CODER,), objective=SimpleNamespace(drawing=None)
        ),
        pool=pool,
        mask_features=lambda pooled, mask: pooled,
        mask_heads=[head(answer) for answer in logits],
    )


def columns(*marked: int) -> Masks:
    bitmap = torch.zeros(8, 8, dtype=torch.uint8)
    bitmap[:, list(marked)] = 1
    return Masks.of([bitmap], (8, 8))


def test_mask_loss_of_two_images() -> None:
    """Masks of two pixels a side.  Of the first image's box the left half is object, of the second's everything; the
    logits are right by 2 on the left and wrong by 2 on the right of the first, 0 on the second."""
    targets = [target([[0, 0, 4, 4]], [1], columns(0, 1)), target([[0, 0, 4, 4]], [0], columns(0, 1, 2, 3))]
    taken = [rois([[0, 0, 4, 4], [4, 4, 8, 8]], [1, 3], [0]), rois([[0, 0, 4, 4]], [0], [0])]
    logits = torch.full((2, 2, CLASSES, 2, 2), 50.0)  # the first head is asked nothing
    logits[1, 0, 1] = 2.0
    logits[1, 1, 0] = 0.0
    pooled: list[Any] = []
    loss = _mask_loss(mask_network(logits, pooled), 1, MaskObjective(stage=0, weight=3), [], taken, targets)
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert loss.item() == pytest.approx(3 * (2 * right + 2 * wrong + 4 * math.log(2)) / (2 * 4))
    (boxes, resolution) = pooled[0]
    assert resolution == 14
    assert boxes.tolist() == [[[0, 0, 4, 4]], [[0, 0, 4, 4]]]  # the positive ones alone


def test_mask_loss_without_positive_boxes_is_zero() -> None:
    taken = [rois([[0, 0, 4, 4]], [3], [])]
    network = mask_network(torch.zeros(1, 0, CLASSES, 2, 2), [])
    loss = _mask_loss(network, 0, MaskObjective(stage=0, weight=1), [], taken, [target([], [], columns())])
    assert loss.item() == 0


def test_networks_and_targets_without_masks_have_no_mask_loss() -> None:
    taken, network = [rois([[0, 0, 4, 4]], [1], [0])], mask_network(torch.zeros(1, 1, CLASSES, 2, 2), [])
    with pytest.raises(ValueError, match="targets without masks"):
        _mask_loss(network, 0, MaskObjective(stage=0, weight=1), [], taken, [target([[0, 0, 4, 4]], [1])])
    network.spec.mask = None
    with pytest.raises(ValueError, match="without mask heads"):
        _mask_loss(network, 0, MaskObjective(stage=0, weight=1), [], taken, [target([[0, 0, 4, 4]], [1])])


# --- which boxes move on ------------------------------------------------------------------------------------------


def move(
    scores: torch.Tensor, deltas: torch.Tensor, taken: list[RoIs], objective: BoxObjective, *, clip: bool = False
) -> list[list[list[float]]]:
    cascade = SimpleNamespace(clip_stages=clip)
    spec = SimpleNamespace(objective=SimpleNamespace(box=objective), conventions=SimpleNamespace(cascade=cascade))
    sizes = torch.tensor([[30.0, 40], [100, 100]])
    found = _move(scores, deltas, taken, CODER, SimpleNamespace(spec=spec), sizes)
    return [[[round(x, 4) for x in box] for box in boxes.tolist()] for boxes in found]


def test_the_true_labels_deltas_move_positive_boxes_and_the_best_classes_move_background() -> None:
    """Raw dx of 1, 2, 3 for the classes 0, 1, 2 are 5, 10, 15 pixels.  The scores prefer class 0, or background."""
    deltas = torch.zeros(5, CLASSES, 4)
    deltas[:, :, 0] = torch.tensor([1.0, 2, 3])
    boxes = [[0, 0, 10, 10], [0, 10, 10, 20], [0, 20, 10, 30], [0, 30, 10, 40], [0, 40, 10, 50]]
    taken = [rois(boxes, [2, 1, 3, 3, 3], [0, 1])]
    scores = torch.tensor([[9.0, 0, 0, 0], [9, 0, 0, 0], [0, 4, 3, 9], [5, 4, 3, 0], [1, 2, 6, 9]])
    moved = [[[15, 0, 25, 10], [10, 10, 20, 20], [10, 20, 20, 30], [5, 30, 15, 40], [15, 40, 25, 50]]]
    assert move(scores, deltas, taken, rule()) == moved


def test_the_only_deltas_move_every_box_of_its_own_image() -> None:
    deltas = torch.tensor([1.0, 2, 3])[:, None, None] * torch.tensor([1.0, 0, 0, 0])
    taken = [rois([[0, 0, 10, 10]], [2], [0]), rois([[0, 0, 10, 10], [50, 50, 60, 60]], [0, 3], [0])]
    assert move(torch.zeros(3, 4), deltas, taken, rule()) == [
        [[5, 0, 15, 10]],
        [[10, 0, 20, 10], [65, 50, 75, 60]],
    ]


@pytest.mark.parametrize("clip", [True, False])
def test_moved_boxes_are_clipped_to_their_own_image_or_not(clip: bool) -> None:
    # images of 40 x 30 and of 100 x 100: the same move leaves the first alone
    deltas = torch.tensor([2.0, 0, 0, 0]).expand(2, 1, 4)
    taken = [rois([[25, 25, 35, 35]], [0], [0]), rois([[25, 25, 35, 35]], [0], [0])]
    first = [35, 25, 40, 30] if clip else [35, 25, 45, 35]
    assert move(torch.zeros(2, 4), deltas, taken, rule(), clip=clip) == [[first], [[35, 25, 45, 35]]]


@pytest.mark.parametrize(
    ("forget_truth", "forget_empty", "kept"),
    [(False, False, [0, 1, 2, 3]), (True, False, [1, 2, 3]), (False, True, [0, 1]), (True, True, [1])],
)
def test_which_boxes_are_left_behind(forget_truth: bool, forget_empty: bool, kept: list[int]) -> None:
    """The first is a true box, the third has no width and the fourth no height."""
    boxes = [[0, 0, 10, 10], [5, 5, 15, 15], [20, 20, 20, 30], [20, 20, 30, 20]]
    taken = [rois(boxes, [0, 3, 3, 3], [0], [True, False, False, False])]
    objective = rule(forget_truth=forget_truth, forget_empty=forget_empty)
    assert move(torch.zeros(4, 4), torch.zeros(4, 1, 4), taken, objective) == [[boxes[i] for i in kept]]


def test_a_box_of_the_smallest_width_is_not_empty() -> None:
    taken = [rois([[0, 0, 2e-38, 10], [0, 0, 1e-45, 10]], [3, 3], [])]
    moved = move(torch.zeros(2, 4), torch.zeros(2, 1, 4), taken, rule(forget_empty=True))
    assert len(moved[0]) == 1


# --- pooling and the cascade as a whole ----------------------------------------------------------------------------


def test_images_with_different_numbers_of_boxes_are_pooled_together() -> None:
    def pool(features: str, boxes: torch.Tensor, resolution: int) -> torch.Tensor:
        assert (features, resolution, tuple(boxes.shape)) == ("levels", 7, (3, 2, 4))
        return boxes.flatten(0, 1).sum(1)

    boxes = [torch.ones(2, 4), torch.zeros(0, 4), torch.full((1, 4), 3.0)]
    pooled = _pool(SimpleNamespace(pool=pool), "levels", boxes, 7)  # type: ignore[arg-type]
    assert pooled.tolist() == [4, 4, 12]


class TwoStages:
    """A cascade whose heads say 0 for every class, and a dx of 1 (5 pixels) and of 2 (10 pixels) for every box."""

    def __init__(self, objective: BoxObjective, masks: tuple[MaskObjective, ...] = (), stages: int = 2) -> None:
        self.spec = SimpleNamespace(
            stages=(CODER,) * stages,
            num_classes=CLASSES,
            objective=Objective.model_construct(rpn=None, box=objective, masks=masks),
            conventions=SimpleNamespace(cascade=SimpleNamespace(clip_stages=False)),
            box_head=SimpleNamespace(resolution=7),
            mask=SimpleNamespace(resolution=14),
        )
        self.boxes: list[torch.Tensor] = []
        self.inputs: list[torch.Tensor] = []
        self.box_heads = [self.head(i + 1) for i in range(stages)]
        self.mask_heads = [lambda pooled: torch.zeros(len(pooled), CLASSES, 3, 3)] * len(masks)
        self.weight = torch.ones(1, requires_grad=True)

    def head(self, dx: int) -> Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        def answer(pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            self.inputs.append(pooled)
            deltas = torch.tensor([dx, 0.0, 0, 0]) * pooled.mean(1)[:, None]
            return torch.zeros(len(pooled), CLASSES + 1), deltas[:, None]

        return answer

    def pool(self, features: list[torch.Tensor], boxes: torch.Tensor, resolution: int) -> torch.Tensor:
        self.boxes.append(boxes)
        return features[0].expand(boxes.shape[0] * boxes.shape[1], 4)

    def mask_features(self, pooled: torch.Tensor, mask: Any) -> torch.Tensor:
        return pooled


def run(network: Any, features: torch.Tensor, given: Targets, boxes: list[list[float]]) -> dict[str, torch.Tensor]:
    proposals, sizes = [torch.tensor(boxes).float()], torch.tensor([[100.0, 100]])
    return cascade_losses(network, [features], proposals, sizes, [given], [None])


def test_each_stage_pools_the_boxes_that_the_one_before_has_moved() -> None:
    """The object is a true box and the one proposal lies on it; both move by 5 pixels, then they are 1/3 off."""
    network = TwoStages(rule(0.5, 0.6))
    losses = run(network, torch.ones(1, 4), target([[0, 0, 10, 10]], [1]), [[0, 0, 10, 10]])
    assert [boxes.tolist() for boxes in network.boxes] == [[[[0, 0, 10, 10]] * 2], [[[5, 0, 15, 10]] * 2]]
    assert {name: round(loss.item(), 5) for name, loss in losses.items()} == {
        "loss_classifier_1": round(LN4, 5),
        "loss_box_reg_1": 1.0,  # both off by a raw dx of 1
        "loss_classifier_2": round(LN4, 5),
        "loss_box_reg_2": 0.0,  # an IoU of 1/3: background
    }


@pytest.mark.parametrize("stages", [1, 2])
def test_boxes_move_between_stages_only(monkeypatch, stages: int) -> None:
    moves = []
    monkeypatch.setattr(cascade_loss, "_move", lambda *given: moves.append(given) or _move(*given))
    network = TwoStages(rule(*(0.5, 0.3)[:stages]), stages=stages)
    run(network, torch.ones(1, 4), target([[0, 0, 10, 10]], [1]), [[0, 0, 10, 10]])
    assert len(moves) == stages - 1


def test_one_stage_has_no_number_and_weights_count() -> None:
    network = TwoStages(rule(stages=(StageObjective(iou=0.5, weight=0.25),)), stages=1)
    losses = run(network, torch.ones(1, 4), target([[0, 0, 10, 10]], [1]), [[0, 0, 10, 10]])
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(
        {"loss_classifier": 0.25 * LN4, "loss_box_reg": 0.25}
    )


def test_masks_learn_at_their_own_stages() -> None:
    # at the second stage, where the moved boxes are still positive at an IoU of 0.3
    network = TwoStages(rule(0.5, 0.3), masks=(MaskObjective(stage=1, weight=2),))
    given = target([[0, 0, 10, 10]], [1], Masks.of([torch.ones(20, 20, dtype=torch.uint8)], (20, 20)))
    losses = run(network, torch.ones(1, 4), given, [[0, 0, 10, 10]])
    assert list(losses) == [
        "loss_classifier_1", "loss_box_reg_1", "loss_classifier_2", "loss_box_reg_2", "loss_mask_2"
    ]  # fmt: skip
    assert losses["loss_mask_2"].item() == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize("full", [True, False])
def test_a_stages_weight_slows_what_lies_below_and_its_own_head_or_not(full: bool) -> None:
    """Of the box loss |dx * mean|, 1 at the first stage, the gradient of the features is the weight; that of what the
    head sees is the weight too, or 1 where heads have their full gradients."""
    stages = (StageObjective(iou=0.5, weight=0.25), StageObjective(iou=0.6, weight=0.5))
    network = TwoStages(rule(stages=stages, full_head_gradients=full))
    features = torch.ones(1, 4, requires_grad=True)
    losses = run(network, features, target([[0, 0, 10, 10]], [1]), [[0, 0, 10, 10]])
    assert losses["loss_box_reg_1"].item() == pytest.approx(0.25)
    below, head = torch.autograd.grad(losses["loss_box_reg_1"], [features, network.inputs[0]])
    assert below.sum().item() == pytest.approx(0.25)
    assert head.sum().item() == pytest.approx(1 if full else 0.25)
    assert losses["loss_classifier_2"].item() == pytest.approx(0.5 * LN4)


def test_boxes_leave_the_graph_between_stages() -> None:
    network = TwoStages(rule(0.5, 0.3))
    features = torch.ones(1, 4, requires_grad=True)
    run(network, features, target([[0, 0, 10, 10]], [1]), [[0, 0, 10, 10]])
    assert network.inputs[1].requires_grad
    assert [boxes.requires_grad for boxes in network.boxes] == [False, False]
