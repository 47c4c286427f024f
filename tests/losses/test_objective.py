"""A step's losses as a whole: their names, images without objects, and that gradients are those of the values."""

import pytest
import torch

from cascadezoo.errors import BadTarget
from cascadezoo.loading import build
from cascadezoo.losses import objective
from cascadezoo.losses.cascade_loss import RoIs, _box_losses, _slow_gradient, _weigh
from cascadezoo.losses.rpn_loss import rpn_losses
from cascadezoo.losses.targets import Targets
from cascadezoo.providers import SPECS

from tiny import tiny

RPN = ("loss_objectness", "loss_rpn_box_reg")
STAGES = [name for i in (1, 2, 3) for name in (f"loss_classifier_{i}", f"loss_box_reg_{i}")]
NAMES = {
    ("mmdet", "cascade_r50_fpn"): STAGES,
    ("mmdet", "cascade_mask_r50_fpn"): [*STAGES, "loss_mask_1", "loss_mask_2", "loss_mask_3"],
    ("internimage", "cascade_mask_internimage_l_fpn"): [*STAGES, "loss_mask_1", "loss_mask_2", "loss_mask_3"],
    ("internimage", "mask_internimage_t_fpn"): ["loss_classifier", "loss_box_reg", "loss_mask"],
    ("paddle", "cascade_mask_r50_fpn"): [*STAGES, "loss_mask_1"],
    ("paddle", "mask_r50_c4"): ["loss_classifier", "loss_box_reg", "loss_mask"],
    ("detectron", "faster_r50_fpn"): ["loss_classifier", "loss_box_reg"],
    ("detectron", "mask_r50_fpn"): ["loss_classifier", "loss_box_reg", "loss_mask"],
    ("detectron", "cascade_mask_r50_fpn"): [*STAGES, "loss_mask_3"],
    ("detectron2", "cascade_mask_r50_fpn"): [*STAGES, "loss_mask_1"],
    ("detectron2", "cascade_mask_vitdet_b"): [*STAGES, "loss_mask_1"],
    ("detectron2", "cascade_mask_swin_b"): [*STAGES, "loss_mask_1"],
}


def target(objects: int) -> dict[str, torch.Tensor]:
    masks = torch.zeros(objects, 64, 80, dtype=torch.uint8)
    masks[:, 10:40, 20:60] = 1
    boxes = torch.tensor([[20.0, 10, 60, 40]]).repeat(objects, 1)
    return {"boxes": boxes, "labels": torch.ones(objects, dtype=torch.int64), "masks": masks}


@pytest.mark.parametrize("objects", [(1, 0), (0, 0)], ids=["one-empty", "all-empty"])
@pytest.mark.parametrize(("publisher", "architecture"), NAMES, ids=lambda name: name)
def test_losses_have_torchvisions_names_and_need_no_objects(publisher, architecture, objects) -> None:
    torch.manual_seed(0)
    spec = tiny(architecture, publisher).model_dump()
    spec["objective"]["box"]["sampling"]["size"] = 8  # boxes; in a C4 network each goes through a ResNet's last stage
    model = build(type(tiny()).model_validate(spec)).train()
    images = [torch.randint(0, 255, (3, 64, 80), dtype=torch.uint8) for _ in objects]
    losses = model(images, [target(count) for count in objects])
    assert set(losses) == {*RPN, *NAMES[publisher, architecture]}
    assert all(loss.shape == () and loss.isfinite() for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    learning = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    # processes that train together wait for each other's gradients: every one must come
    assert [name for name, gradient in learning.items() if gradient is None] == []
    assert all(gradient.isfinite().all() for gradient in learning.values())
    without = [name for name in losses if "box_reg" in name or "mask" in name]
    assert any(objects) or all(losses[name] == 0 for name in without)


def given(*, count: int = 1, crowd: bool = False) -> dict[str, torch.Tensor]:
    return {**target(count), "iscrowd": torch.full((count,), crowd)}


def values(model, images, targets, **options) -> dict[str, float]:
    resized = [model.resize(image) for image in images]
    checked = [
        objective.checked_targets(t, image, i, model.spec)
        for i, (t, image) in enumerate(zip(targets, resized, strict=True))
    ]
    losses = objective.losses(model, model.prepare(resized), checked, **options)
    return {name: loss.item() for name, loss in losses.items()}


def test_crowds_teach_nothing() -> None:
    torch.manual_seed(0)
    model = build(tiny()).train()
    image = torch.randint(0, 255, (3, 64, 80), dtype=torch.uint8)
    torch.manual_seed(1)
    crowd = values(model, [image], [given(crowd=True)])
    torch.manual_seed(1)
    assert crowd == values(model, [image], [given(count=0)])
    assert crowd["loss_box_reg_1"] == 0


def test_each_image_has_a_generator_of_its_own() -> None:
    torch.manual_seed(0)
    rpn = {"sampling": {"size": 6, "positive_fraction": 0.5}}
    spec = tiny().model_dump()
    spec["objective"]["rpn"] |= rpn
    spec["objective"]["box"]["sampling"] |= {"size": 6}
    model = build(type(tiny()).model_validate(spec)).train()
    images = [torch.randint(0, 255, (3, 64, 80), dtype=torch.uint8) for _ in range(2)]

    def drawn(*seeds: int) -> dict[str, float]:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return values(model, images, [given(), given()], generators=generators)

    assert drawn(1, 2) == drawn(1, 2)
    assert drawn(1, 2) != drawn(1, 3) != drawn(2, 3)


def test_the_heads_learn_from_the_objectives_proposals_inside_the_images(monkeypatch) -> None:
    """Training has numbers of proposals of its own; anchors are held to the whole pixels of the resized image, boxes
    to what the publisher clips them to."""
    spec = tiny("cascade_mask_r50_fpn", "paddle").model_dump()
    spec["objective"]["rpn"] |= {"pre_nms_top_n": 31, "post_nms_top_n": 7}
    model = build(type(tiny()).model_validate(spec)).train()
    noted = {}

    def propose(outputs, widths, sizes, grid, rule):
        noted["propose"] = rule, sizes, [torch.is_grad_enabled(), len(outputs), len(widths)]
        return proposals(outputs, widths, sizes, grid, rule)

    def rpn(head, anchors, sizes, targets, coder, rule, generators):
        noted["rpn"] = sizes
        return {"loss_rpn": torch.zeros(())}

    def heads(model, features, boxes, sizes, targets, generators):
        noted["heads"] = boxes, sizes
        return {"loss_heads": torch.ones(())}

    proposals = objective.propose
    for name, stand_in in (("propose", propose), ("rpn_losses", rpn), ("cascade_losses", heads)):
        monkeypatch.setattr(objective, name, stand_in)
    images = [torch.randint(0, 255, (3, height, 80), dtype=torch.uint8) for height in (61, 47)]
    none = [{**target(0), "masks": torch.zeros(0, height, 80)} for height in (61, 47)]
    assert values(model, images, none) == {"loss_rpn": 0, "loss_heads": 1}

    rule, sizes, state = noted["propose"]
    assert (rule.pre_nms_top_n, rule.post_nms_top_n) == (31, 7)
    assert rule.nms == model.spec.conventions.proposals.nms
    assert state == [False, 5, 5]
    boxes, bounds = noted["heads"]
    assert [0 < len(b) <= 7 for b in boxes] == [True, True]
    assert (boxes[0][:, 2:] > boxes[0][:, :2]).all()  # rows that hold no proposal are left out
    # 61 x 80 at 64 is 83.93 pixels wide, 47 x 80 at 56.4 / 47 is 56.4 high: Paddle's bounds are not rounded
    scale = 64 / 61
    assert sizes[0].tolist() == pytest.approx([64, 80 * scale])
    assert sizes[1].tolist() == pytest.approx([47 * 1.2, 96])
    assert torch.equal(sizes, bounds)
    assert noted["rpn"].tolist() == [[64, 84], [56, 96]]


def test_what_does_not_fit_is_named_by_its_image() -> None:
    model = build(tiny()).train()
    images = [torch.zeros(3, 64, 80, dtype=torch.uint8)] * 2
    with pytest.raises(BadTarget, match=r"^2 images with 1 targets"):
        model(images, [target(1)])
    with pytest.raises(BadTarget, match=r"^image 1: labels"):
        model(images, [target(1), {**target(1), "labels": torch.zeros(3).long()}])


@pytest.mark.parametrize("publisher", ["mmdet", "paddle", "detectron"])
def test_gradients_of_the_proposal_network(publisher) -> None:
    spec = SPECS[publisher]["cascade_mask_r50_fpn"]
    coder = spec.conventions.proposals.coder
    grid = torch.tensor([[4.0, 4, 20, 20], [20, 4, 36, 20], [4, 20, 20, 36], [20, 20, 36, 36], [40, 40, 56, 56]])
    objects = [
        Targets(torch.tensor([[5.0, 4, 22, 21]]), torch.tensor([1]), None, torch.tensor([False])),
        Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), None, torch.zeros(0, dtype=torch.bool)),
    ]
    torch.manual_seed(0)
    logits = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    deltas = torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True)

    def total(logits, deltas):
        def head(images, rows):
            return logits[images, rows], deltas[images, rows]

        sizes = torch.tensor([[64.0, 64], [64, 64]])
        rule = spec.objective.rpn
        return tuple(rpn_losses(head, [grid], sizes, objects, coder, rule, [None, None]).values())

    assert torch.autograd.gradcheck(total, (logits, deltas))
    assert torch.autograd.grad(total(logits, deltas)[1], deltas)[0].abs().sum(-1).bool().tolist() == [
        [True, False, False, False, False],  # the positive anchor alone
        [False] * 5,
    ]


@pytest.mark.parametrize(
    ("publisher", "architecture", "columns"),
    [
        ("mmdet", "cascade_mask_r50_fpn", 1),
        ("internimage", "cascade_mask_internimage_l_fpn", 5),
        ("paddle", "cascade_mask_r50_fpn", 1),
        ("detectron", "mask_r50_fpn", 5),
    ],
)
def test_gradients_of_a_stage(publisher, architecture, columns) -> None:
    spec = SPECS[publisher][architecture]
    boxes = torch.tensor([[4.0, 4, 20, 20], [8, 6, 26, 24], [40, 40, 56, 56]], dtype=torch.float64)
    drawn = [RoIs(boxes, torch.tensor([2, 0, 5]), torch.tensor([1, 0]), torch.zeros(3, dtype=torch.bool))]
    goals = torch.tensor([[9.0, 7, 28, 22], [5, 4, 19, 21]], dtype=torch.float64)
    targets = [Targets(goals, torch.tensor([0, 2]), None, torch.tensor([False, False]))]
    torch.manual_seed(0)
    scores = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    deltas = torch.randn(3, columns, 4, dtype=torch.float64, requires_grad=True)

    def both(scores, deltas):
        return _box_losses(scores, deltas, drawn, targets, spec.stages[0], spec.objective.box)

    assert torch.autograd.gradcheck(both, (scores, deltas))
    rows = torch.autograd.grad(both(scores, deltas)[1], deltas)[0].abs().sum(-1).bool()
    own = [[2], [0], []] if columns > 1 else [[0], [0], []]  # of a positive box, the deltas of its own class
    assert [row.nonzero()[:, 0].tolist() for row in rows] == own


@pytest.mark.parametrize("publisher", ["mmdet", "paddle"])
def test_gradients_of_a_weighted_stage(publisher) -> None:
    rule = SPECS[publisher]["cascade_mask_r50_fpn"].objective.box
    x = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: _weigh(x.square().sum(), rule.stages[1], rule), (x,))


def test_a_slowed_gradient_is_not_the_values_own() -> None:
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    assert torch.equal(_slow_gradient(x, 0.25), x)
    assert torch.autograd.grad(_slow_gradient(x, 0.25).sum(), x)[0].tolist() == [0.25, 0.25]
