"""The operators as ONNX has them, beside the operators themselves, in PyTorch."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cascadezoo.exporting import lowering
from cascadezoo.ops.nms import _threshold
from cascadezoo.ops.rpn_select import rpn_select
from cascadezoo.providers import SPECS
from cascadezoo.spec.conventions import Nms

from tiny import tiny

RULES = [
    Nms(iou=0.5, extent=0, inclusive=False, rounded_shift=True),
    Nms(iou=0.5, extent=1, inclusive=True, rounded_shift=False),
    Nms(iou=0.7, extent=0, inclusive=False, rounded_shift=False),
]


def random_boxes(*shape: int) -> Tensor:
    corner, side = torch.rand(*shape, 2) * 60, torch.rand(*shape, 2) * 40 + 1
    return torch.cat((corner, corner + side), -1)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("most", [7, 400])
def test_grouped_nms(rule: Nms, most: int) -> None:
    torch.manual_seed(0)
    boxes, scores = random_boxes(2, 300), torch.randn(2, 300)
    groups, valid = torch.randint(0, 3, (2, 300)), torch.rand(2, 300) > 0.2
    valid[1] = False  # an image without candidates
    arguments = (boxes, scores, groups, valid, _threshold(rule), rule.extent, rule.rounded_shift, 3, 300, most)
    ours, theirs = torch.ops.cascadezoo.grouped_nms(*arguments), lowering._grouped_nms(*arguments)
    assert ours[1].tolist()[1] == 0 < ours[1].tolist()[0]
    assert all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("own", [1, 4])
def test_class_nms(rule: Nms, own: int) -> None:
    torch.manual_seed(0)
    boxes, scores, valid = random_boxes(2, 90, own), torch.rand(2, 90, 4), torch.rand(2, 90) > 0.2
    arguments = (boxes, scores, valid, 0.1, _threshold(rule), rule.extent, rule.rounded_shift, 60)
    ours, theirs = torch.ops.cascadezoo.class_nms(*arguments), lowering._class_nms(*arguments)
    assert int(ours[1].min()) > 10
    assert all(map(torch.equal, ours, theirs))


def test_an_overlap_equal_to_the_threshold_counts_where_the_publisher_counts_it() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0]]])  # an IoU of one half
    scores, groups, valid = torch.tensor([[2.0, 1.0]]), torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2).bool()
    for inclusive, count in ((False, 2), (True, 1)):
        iou = _threshold(Nms(iou=0.5, extent=0, inclusive=inclusive, rounded_shift=False))
        assert lowering._grouped_nms(boxes, scores, groups, valid, iou, 0, False, 1, 2, 2)[1].tolist() == [count]


@pytest.mark.parametrize("publisher", ["mmdet", "detectron"])
def test_rpn_select_of_levels_smaller_and_larger_than_what_is_taken(publisher: str) -> None:
    torch.manual_seed(0)
    spec = tiny("cascade_r50_fpn", publisher)
    grid, rule = spec.conventions.anchors, spec.conventions.proposals
    shapes = [(12, 9), (6, 5), (3, 3), (2, 2), (1, 1)]
    counts = [h * w * grid.per_cell for h, w in shapes]
    assert min(counts) < rule.pre_nms_top_n < max(counts)
    logits, deltas = [torch.randn(2, n) for n in counts], [torch.randn(2, n, 4) for n in counts]
    sizes = torch.tensor([[40.0, 33.0], [48.0, 36.0]])
    taken: list[tuple[Tensor, ...]] = []
    call = torch.ops.cascadezoo.rpn_select

    def noted(*arguments: object) -> tuple[Tensor, ...]:
        taken.append(lowering._rpn_select(*arguments))
        return call(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.ops.cascadezoo, "rpn_select", noted)
        ours = rpn_select(logits, deltas, [w for _, w in shapes], sizes, grid, rule)
    (theirs,) = taken
    assert torch.equal(ours.valid, theirs[3])
    assert torch.equal(ours.levels, theirs[2])
    for mine, other in zip(ours[:2], theirs[:2], strict=True):
        assert torch.equal(mine[ours.valid], other[ours.valid])


def test_dcnv3() -> None:
    torch.manual_seed(0)
    x, offset, mask = torch.randn(2, 13, 17, 8), torch.randn(2, 13, 17, 36) * 3, torch.rand(2, 13, 17, 18)
    arguments = (x, offset, mask, [3, 3], [1, 1], [1, 1], [1, 1], 2, 1.5)
    # float32: coordinates pass through -1..1 and back
    torch.testing.assert_close(lowering._dcnv3(*arguments), torch.ops.cascadezoo.dcnv3(*arguments), atol=2e-5, rtol=0)


@pytest.mark.parametrize("other", [7, -3, 2.5])
def test_remainder(other: float) -> None:
    x = torch.arange(-20, 21)
    assert torch.equal(lowering._remainder(x, other), x % other)


def test_attention() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 9, 8)  # twice four heads of nine cells
    for mask, scale in ((torch.randn(1, 4, 9, 9), None), (None, 0.3)):
        ours = lowering._attention(q, k, v, mask, scale=scale)
        theirs = F.scaled_dot_product_attention(q, k, v, mask, scale=scale)
        torch.testing.assert_close(ours, theirs)
        assert ours.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize(("kernel", "stride", "groups"), [(3, 1, 1), (3, 2, 4), (1, 1, 1)])
def test_deform_conv2d(kernel: int, stride: int, groups: int) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 13, 18, 8), torch.randn(12, 8 // groups, kernel, kernel), torch.randn(12)
    sides = [(side - 1) // stride + 1 for side in (13, 18)]
    offset = torch.randn(2, *sides, 2 * kernel**2) * 3  # some points leave the map
    for given in (bias, None):
        arguments = (x, offset, weight, given, stride, kernel // 2, groups)
        ours, theirs = lowering._deform_conv2d(*arguments), torch.ops.cascadezoo.deform_conv2d(*arguments)
        # float32: coordinates pass through -1..1 and back
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=0)


def test_every_operator_of_a_network_is_lowered_or_translated() -> None:
    lowered = {str(op).split(".")[1] for op in lowering._TABLE if "cascadezoo" in str(op)}
    assert lowered == {"class_nms", "dcnv3", "deform_conv2d", "grouped_nms", "rpn_select"}
    assert {spec.backbone.kind for specs in SPECS.values() for spec in specs.values()} == {
        "resnet", "internimage", "convnext", "swin", "vit",
    }  # fmt: skip
