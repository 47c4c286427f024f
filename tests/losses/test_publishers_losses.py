"""Publishers' losses, worked by hand from their fact sheets: of Detectron's no recorded step exists."""

import math
from types import SimpleNamespace

import pytest
import torch
from pycocotools import mask as coco_mask

from cascadezoo.loading import build
from cascadezoo.losses.cascade_loss import RoIs, _box_losses, _move, _sample_rois, _slow_gradient, _weigh
from cascadezoo.losses.rpn_loss import _normalise, rpn_losses
from cascadezoo.losses.targets import Targets
from cascadezoo.providers import SPECS
from cascadezoo.spec.objective import BestBoxes, Drawing, Normaliser, SmoothL1

from tiny import tiny

PADDLE = SPECS["paddle"]["cascade_mask_r50_fpn"]
DETECTRON = SPECS["detectron"]["cascade_mask_r50_fpn"]
DETECTRON2 = SPECS["detectron2"]["cascade_mask_r50_fpn"]


def test_rpn_sums_are_divided_as_each_publisher_does() -> None:
    sums, sampled = torch.tensor([512.0, 128.0]), torch.tensor([256.0, 64.0])
    rule = PADDLE.objective.rpn
    assert rule.sampling.size == 256
    assert _normalise(sums, sampled, Normaliser.SAMPLED, rule).item() == pytest.approx(640 / 320)
    assert _normalise(sums, sampled, Normaliser.NOMINAL, rule).item() == pytest.approx(640 / 512)
    assert _normalise(sums, sampled, Normaliser.IMAGE, rule).item() == pytest.approx((2 + 2) / 2)
    assert (rule.objectness_normaliser, rule.box_normaliser) == (Normaliser.NOMINAL, Normaliser.NOMINAL)
    theirs = DETECTRON.objective.rpn
    assert (theirs.objectness_normaliser, theirs.box_normaliser) == (Normaliser.NOMINAL, Normaliser.IMAGE)


@pytest.mark.parametrize(
    ("spec", "expected"),
    # deltas of 0 where (2, 0, 0, 0) raw would be right: |2|, but 2 - 1/2 for Detectron's beta of 1; two RoIs
    [(PADDLE, 2 / 2), (DETECTRON, 1.5 / 2), (DETECTRON2, 2 / 2)],
    ids=["paddle", "detectron", "detectron2"],
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


def test_a_mask_rcnn_on_mmdetection_gives_an_object_its_best_proposals() -> None:
    # the only proposal overlaps the first object by 10 / 12, and the second, whose best it is, by 12 / 20; the objects'
    # own boxes, which are added, are no proposals, or each would be the best of its object
    plain, cascade = (SPECS["convnext"][f"{kind}_convnext_t_fpn"].objective for kind in ("mask", "cascade_mask"))
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 20]])
    given = Targets(boxes, torch.tensor([1, 2]), None, torch.tensor([False, False]))

    def labels(stage: int, rule) -> list[int]:
        return _sample_rois(torch.tensor([[0.0, 0, 10, 12]]), given, stage, rule, 0, 80, None).labels.tolist()

    assert labels(0, plain.box) == [1, 2, 2]
    assert labels(0, cascade.box) == labels(1, cascade.box) == [1, 2, 1]
    stricter = plain.box.stages[0].model_copy(update={"best": BestBoxes(least=0.7, taken=True)})
    assert labels(0, plain.box.model_copy(update={"stages": (stricter,)})) == [1, 2, 1]


def test_a_mask_rcnn_on_mmdetection_learns_by_absolute_differences_of_all_anchors() -> None:
    rule = SPECS["convnext"]["mask_convnext_t_fpn"].objective
    assert (rule.rpn.inside, rule.rpn.box_loss, rule.box.loss) == (False, SmoothL1(beta=0), SmoothL1(beta=0))
    assert (rule.rpn.pre_nms_top_n, rule.rpn.post_nms_top_n) == (2000, 1000)
    assert [(stage.iou, stage.weight) for stage in rule.box.stages] == [(0.5, 1)]
    assert [(mask.stage, mask.weight) for mask in rule.masks] == [(0, 1)]


def test_detectron2_trains_with_fewer_proposals_of_its_vitdets() -> None:
    kept = {name: spec.objective.rpn.post_nms_top_n for name, spec in SPECS["detectron2"].items()}
    assert kept == dict.fromkeys(SPECS["detectron2"], 1000) | {"cascade_mask_r50_fpn": 2000}
    assert {spec.objective.rpn.pre_nms_top_n for spec in SPECS["detectron2"].values()} == {2000}


def test_mask_targets_are_cropped_or_drawn() -> None:
    assert PADDLE.objective.drawing == Drawing(least_side=0.1, nearest=False)
    assert DETECTRON.objective.drawing == Drawing(least_side=1, nearest=True)
    for specs in (SPECS["mmdet"], SPECS["internimage"], SPECS["cascadezoo"], SPECS["swin"], SPECS["convnext"]):
        assert {spec.objective.drawing for spec in specs.values()} == {None}
    assert {spec.objective.drawing for spec in SPECS["detectron2"].values()} == {Drawing(least_side=0.1, nearest=False)}
    for specs in (SPECS["paddle"], SPECS["detectron"]):
        assert {spec.objective.drawing is None for spec in specs.values()} == {True, False}
        assert all((spec.objective.drawing is None) == (spec.mask is None) for spec in specs.values())


@pytest.mark.parametrize("publisher", ["paddle", "detectron", "detectron2", "mmdet"])
def test_polygons_are_what_a_network_with_masks_learns_from(publisher: str) -> None:
    """A box around a cross: publishers that draw have another target than bitmaps give, mmdetection the same."""
    model = build(tiny(publisher=publisher)).train()
    xs = (12.3, 20.6, 20.6, 38, 38, 20.6, 20.6, 12.3, 12.3, 3, 3, 12.3)
    ys = (4, 4, 17, 17, 24, 24, 41, 41, 24, 24, 17, 17)
    cross = [number for pair in zip(xs, ys, strict=True) for number in pair]
    bitmap = torch.from_numpy(coco_mask.decode(coco_mask.frPyObjects([cross], 48, 48)))
    image = torch.rand(3, 48, 48, generator=torch.Generator().manual_seed(0))
    target = {"boxes": torch.tensor([[3.0, 4, 38, 41]]), "labels": torch.tensor([1])}

    def masks_learn(masks: object) -> list[float]:
        torch.manual_seed(0)
        losses = model([image], [{**target, "masks": masks}])
        return [loss.item() for name, loss in losses.items() if name.startswith("loss_mask")]

    drawn, cropped = masks_learn([[cross]]), masks_learn(bitmap.permute(2, 0, 1))
    assert all(map(math.isfinite, drawn))
    assert (drawn == cropped) == (publisher == "mmdet")
    assert drawn == pytest.approx(cropped, rel=0.05)


def one_object(box: list[float], label: int = 3) -> Targets:
    return Targets(torch.tensor([box]), torch.tensor([label]), None, torch.tensor([False]))


def saying_zero(images: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(len(rows)), torch.zeros(len(rows), 4)


@pytest.mark.parametrize(
    ("spec", "objectness", "box"),
    # a head that says 0 everywhere: ln 2 an anchor; where dx is 0.1, |0.1| for Paddle, 0.1^2 / 2 * 9 for Detectron
    [
        (PADDLE, 3 * math.log(2) / 256, 0.1 / 256),  # of 3 anchors, by the nominal number
        (DETECTRON, 2 * math.log(2) / 256, 0.045 / 2),  # the one that leaves the image takes no part
        (DETECTRON2, 3 * math.log(2) / 256, 0.1 / 256),
    ],
    ids=["paddle", "detectron", "detectron2"],
)
def test_proposal_losses_of_three_anchors(spec, objectness: float, box: float) -> None:
    coder = spec.conventions.proposals.coder
    last = torch.tensor([0.0, 0, coder.extent, coder.extent])
    # 10 x 10 pixels each; the object lies one pixel to the right of the first: an IoU of 90 / 110, above 0.7
    anchors = torch.tensor([[20.0, 20, 30, 30], [40, 40, 50, 50], [-5, 40, 5, 50]]) - last
    target = one_object((torch.tensor([21.0, 20, 31, 30]) - last).tolist())
    sizes = torch.tensor([[64.0, 64]])
    found = rpn_losses(saying_zero, [anchors], sizes, [target], coder, spec.objective.rpn, [None])
    assert found["loss_objectness"].item() == pytest.approx(objectness, rel=1e-5)
    assert found["loss_rpn_box_reg"].item() == pytest.approx(box, rel=1e-5)


def test_detectron2s_features_get_a_third_of_the_stages_gradients() -> None:
    """The losses are whole, and so are the gradients of the heads."""
    found = []
    for part in (DETECTRON2.objective.box.feature_gradients, 1):
        spec = tiny("cascade_mask_r50_fpn", "detectron2")
        box = spec.objective.box.model_copy(update={"feature_gradients": part})
        torch.manual_seed(0)
        model = build(spec.model_copy(update={"objective": spec.objective.model_copy(update={"box": box})})).train()
        masks = torch.zeros(1, 64, 80, dtype=torch.uint8)
        objects = {"boxes": torch.tensor([[20.0, 10, 60, 40]]), "labels": torch.tensor([1]), "masks": masks}
        losses = model([torch.randint(0, 255, (3, 64, 80), dtype=torch.uint8)], [objects])
        of_stages = [loss for name, loss in losses.items() if name.startswith(("loss_classifier", "loss_box_reg"))]
        torch.stack(of_stages).sum().backward()
        below, head = model.neck.output[0].weight.grad, model.box_heads[2].fcs[0].weight.grad
        found.append((torch.stack(of_stages).detach(), head, below))
    (losses, head, below), (whole_losses, whole_head, whole_below) = found
    assert torch.equal(losses, whole_losses)
    torch.testing.assert_close(head, whole_head)
    torch.testing.assert_close(below, whole_below / 3)
    assert whole_below.abs().max() > 0


@pytest.mark.parametrize(
    ("spec", "added"),
    [(PADDLE, (1, 0)), (DETECTRON, (1, 1)), (DETECTRON2, (1, 0))],
    ids=["paddle", "detectron", "detectron2"],
)
def test_the_first_stage_samples_and_the_later_ones_take_every_box(spec, added: tuple[int, int]) -> None:
    rule, extent = spec.objective.box, spec.stages[0].extent
    target = one_object([0, 0, 20 - extent, 20 - extent])
    near = torch.tensor([[0.0, 0, 20 - extent, 11 - extent]]).repeat(200, 1)  # an IoU of 0.55: positive at 0.5 only
    far = torch.tensor([[50.0, 50, 60, 60]]).repeat(700, 1)
    drawn = [_sample_rois(torch.cat((near, far)), target, i, rule, extent, 80, None) for i in (0, 1)]
    assert (drawn[0].positive, len(drawn[0].boxes)) == (128, 512)
    assert (drawn[1].positive, len(drawn[1].boxes)) == (added[1], 900 + added[1])
    assert drawn[1].truth.sum() == added[1]
    assert (drawn[1].labels == 80).sum() == 900
    first = _sample_rois(near[:2], target, 0, rule, extent, 80, None)
    assert first.truth.tolist() == [True, False, False]  # the object itself is among the boxes
    assert first.labels.tolist() == [3, 3, 3]


def test_which_boxes_move_on() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [90, 20, 99, 30]])
    rois = RoIs(boxes, torch.tensor([3, 3, 80]), torch.tensor([0, 0]), torch.tensor([True, False, False]))
    deltas = torch.zeros(3, 1, 4)
    deltas[2, 0, 0] = 100.0  # of stage 1's deviation 0.1: ten widths to the right, out of an image of 100 x 100
    sizes = torch.tensor([[100.0, 100]])

    def moved(spec) -> list[list[float]]:
        found = _move(torch.zeros(3, 81), deltas, [rois], spec.stages[0], SimpleNamespace(spec=spec), sizes)
        return found[0].round().tolist()

    assert moved(PADDLE) == [[0, 0, 10, 10], [20, 20, 30, 30]]  # clipped to nothing, the third is dropped
    assert moved(DETECTRON2) == moved(PADDLE)
    assert moved(DETECTRON) == [[20, 20, 30, 30], [190, 20, 199, 30]]  # not clipped; the true box stays behind
