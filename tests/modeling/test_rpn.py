"""From the RPN's outputs to proposals, worked by hand."""

import math

import pytest
import torch

from cascadezoo.modeling.rpn import RPN, Proposals, propose, valid_rows
from cascadezoo.providers import SPECS
from cascadezoo.spec.conventions import AnchorGrid, BoxCoder, Nms, ProposalRule, RpnScore

CODER = BoxCoder(stds=(1, 1, 1, 1), log_scale=(-4, 4), extent=0)
RULE = ProposalRule(
    score=RpnScore.LOGIT,
    coder=CODER,
    nms=Nms(iou=0.5, extent=0, inclusive=False, rounded_shift=True),
    min_size=0,
    pre_nms_top_n=3,
    post_nms_top_n=4,
)


def changed(**fields) -> ProposalRule:
    return RULE.model_copy(update=fields)


SIZE = torch.tensor([[100.0, 200.0]])  # height, width
FINE = AnchorGrid(sizes=((10,),), ratios=(1,), strides=(10,), extent=0, rounded=False)
BOTH = AnchorGrid(sizes=((10,), (10,)), ratios=(1,), strides=(10, 20), extent=0, rounded=False)


def placed(logits: list[float], boxes: list[tuple[float, ...]], stride: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    """A level's output: anchors of 10 x 10 around (0, 0), (stride, 0), (2 * stride, 0) are moved to the boxes."""
    deltas = [
        [((x1 + x2) / 2 - i * stride) / 10, (y1 + y2) / 20, math.log((x2 - x1) / 10), math.log((y2 - y1) / 10)]
        for i, (x1, y1, x2, y2) in enumerate(boxes)
    ]
    return torch.tensor([logits]), torch.tensor([deltas])


def test_levels_do_not_suppress_each_other_and_the_best_of_all_come_first() -> None:
    """The second box of the fine level overlaps the first (90 / 110); the coarse level's is equal to the first."""
    fine = placed([0.5, 0.4, 0.2], [(0, 0, 10, 10), (1, 0, 11, 10), (50, 50, 60, 60)])
    coarse = placed([0.9], [(0, 0, 10, 10)], 20)
    made = propose([fine, coarse], [3, 1], SIZE, BOTH, RULE)
    assert made.counts.tolist() == [3]
    assert made.scores[0].tolist() == pytest.approx([0.9, 0.5, 0.2, 0])
    assert made.boxes[0].tolist() == [[0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 0, 0]]
    assert made.valid.tolist() == [[True, True, True, False]]
    two = propose([fine, coarse], [3, 1], SIZE, BOTH, changed(post_nms_top_n=2))
    assert two.counts.tolist() == [2]
    assert two.scores[0].tolist() == pytest.approx([0.9, 0.5])


def test_deltas_move_the_anchors_and_boxes_are_clipped_to_their_image() -> None:
    """The first moves by 1.5 widths and 2 heights, the second stays, the last grows to 14 widths and is cut."""
    deltas = torch.tensor([[[1.5, 2.0, 0.0, 0.0], [0.0] * 4, [0.0, 0.0, math.log(14), 0.0]]] * 2)
    sizes = torch.tensor([[100.0, 200.0], [18.0, 58.0]])
    made = propose([(torch.tensor([[0.5, 0.1, 0.3]] * 2), deltas)], [3], sizes, FINE, RULE)
    assert made.boxes[0, :3].flatten().tolist() == pytest.approx([10, 15, 20, 25, 0, 0, 90, 5, 5, 0, 15, 5])
    assert made.boxes[1, :3].flatten().tolist() == pytest.approx([10, 15, 20, 18, 0, 0, 58, 5, 5, 0, 15, 5])


@pytest.mark.parametrize(("extent", "width", "count"), [(0, 20.0, 1), (0, 19.5, 0), (1, 19.0, 1), (1, 18.5, 0)])
def test_boxes_must_be_as_large_as_the_smallest_side_after_clipping(extent: int, width: float, count: int) -> None:
    coder = CODER.model_copy(update={"extent": extent})
    rule = changed(min_size=20, coder=coder, nms=RULE.nms.model_copy(update={"extent": extent}))
    grid = AnchorGrid(sizes=((100,),), ratios=(1,), strides=(8,), extent=extent, rounded=False)
    sizes = torch.tensor([[90.0, width + extent]])  # the anchor reaches beyond it
    output = torch.tensor([[0.9]]), torch.zeros(1, 1, 4)
    assert propose([output], [1], sizes, grid, rule).counts.tolist() == [count]


def test_a_small_box_leaves_its_place_to_the_next() -> None:
    output = placed([0.9, 0.1], [(0, 0, 4, 40), (50, 50, 70, 70)])
    made = propose([output], [2], SIZE, FINE, changed(min_size=5, post_nms_top_n=1))
    assert made.boxes[0, 0].tolist() == pytest.approx([50, 50, 70, 70])
    assert made.scores.tolist() == [[pytest.approx(0.1)]]


def test_rows_up_to_the_count_are_valid() -> None:
    assert valid_rows(torch.tensor([0, 2, 3]), 3).tolist() == [[False] * 3, [True, True, False], [True] * 3]
    assert Proposals(torch.zeros(2, 2, 4), torch.zeros(2, 2), torch.tensor([1, 2])).valid.tolist() == [
        [True, False],
        [True, True],
    ]


def make(rule: ProposalRule) -> RPN:
    """Two channels and two anchors per cell; the hidden map is the input without its negative values.

    Logits are the two channels, one for each anchor; the deltas of anchor a are 4 * a + i times channel 0.
    """
    grid = AnchorGrid(sizes=((8,), (16,)), ratios=(0.25, 4.0), strides=(4, 8), extent=0, rounded=False)
    rpn = RPN(2, grid, rule)
    for parameter in rpn.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.dirac_(rpn.conv.weight)
    with torch.no_grad():
        rpn.objectness.weight[:, :, 0, 0] = torch.eye(2)
        rpn.deltas.weight[:, 0, 0, 0] = torch.arange(8.0)
    return rpn


def test_the_heads_maps_are_read_row_by_row_then_anchor_by_anchor() -> None:
    rpn = make(RULE)
    feature = torch.tensor([[[1.0, 2.0, -3.0], [4.0, 5.0, 6.0]], [[10.0, 20.0, 30.0], [40.0, 50.0, 60.0]]])[None]
    with torch.no_grad():
        logits, deltas = rpn.head(feature)
    assert logits.tolist() == [[1, 10, 2, 20, 0, 30, 4, 40, 5, 50, 6, 60]]
    assert deltas[0, 2].tolist() == [0, 2, 4, 6]
    assert deltas[0, 3].tolist() == [8, 10, 12, 14]
    assert deltas.shape == (1, 12, 4)


@pytest.mark.parametrize("convs", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_head_at_some_anchors_says_what_it_says_of_all(dtype: torch.dtype, convs: int) -> None:
    """Every anchor of two images and two levels, in any order; corners and edges are among them."""
    generator = torch.Generator().manual_seed(0)
    grid = AnchorGrid(sizes=((8,), (16,)), ratios=(0.25, 4.0), strides=(4, 8), extent=0, rounded=False)
    rpn = RPN(8, grid, RULE, convs)
    for conv in rpn.convs:
        torch.nn.init.constant_(conv.bias, 0.2)  # outside the map a convolution reads zeros, not what biases make there
    features = [torch.randn(2, 8, *sides, generator=generator).requires_grad_() for sides in ((4, 5), (2, 3))]
    order = torch.randperm(2 * 2 * (20 + 6), generator=generator)
    images, rows = order // 52, order % 52
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        logits, deltas = rpn.at(features, images, rows)
        whole = [torch.cat(parts, 1) for parts in zip(*map(rpn.head, features), strict=True)]
    assert (logits.dtype, deltas.dtype) == (torch.float32, dtype)
    close = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    torch.testing.assert_close(logits, whole[0][images, rows], **close)
    torch.testing.assert_close(deltas, whole[1][images, rows], **close)
    wanted = [*features, *rpn.parameters()]
    weights = torch.randn(104, generator=generator), torch.randn(104, 4, generator=generator)
    some = torch.autograd.grad((logits, deltas.float()), wanted, weights)
    everywhere = (whole[0][images, rows], whole[1].float()[images, rows])
    close = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 5e-2, "atol": 0.3}
    for one, other in zip(some, torch.autograd.grad(everywhere, wanted, weights), strict=True):
        torch.testing.assert_close(one, other, **close)


def test_the_head_at_no_anchors_says_nothing() -> None:
    rpn, none = make(RULE), torch.zeros(0, dtype=torch.int64)
    logits, deltas = rpn.at([torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 2, 2)], none, none)
    assert (logits.shape, deltas.shape) == ((0,), (0, 4))
    assert all(not g.any() for g in torch.autograd.grad(logits.sum() + deltas.sum(), list(rpn.parameters())))


def test_every_level_has_its_own_anchors() -> None:
    """Level of stride 4: 16 x 4 and 4 x 16 around (0, 0); of stride 8: 32 x 8 and 8 x 32; all cut at the corner."""
    rpn = make(changed(pre_nms_top_n=1, post_nms_top_n=2))
    fine, coarse = torch.tensor([[[[0.0]], [[5.0]]]]), torch.tensor([[[[0.0]], [[7.0]]]])
    with torch.no_grad():
        made = rpn([fine, coarse], SIZE)
    assert made.scores.tolist() == [[7, 5]]
    assert made.boxes.tolist() == [[[0, 0, 4, 16], [0, 0, 2, 8]]]


def test_anchors_follow_from_the_rows_and_columns_of_each_level() -> None:
    fine, coarse = make(RULE).anchors_of([torch.zeros(1, 2, 1, 2), torch.zeros(1, 2, 2, 1)])
    assert fine.tolist() == [[-8, -2, 8, 2], [-2, -8, 2, 8], [-4, -2, 12, 2], [2, -8, 6, 8]]
    assert coarse.tolist() == [[-16, -4, 16, 4], [-4, -16, 4, 16], [-16, 4, 16, 12], [-4, -8, 4, 24]]


def test_half_precision_ends_with_the_deltas() -> None:
    """They leave the head as its convolution made them, and the proposals are those of the widened ones."""
    rpn, feature = make(RULE).to(torch.bfloat16), torch.rand(1, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, deltas = rpn.head(feature.bfloat16())
        assert (logits.dtype, deltas.dtype) == (torch.float32, torch.bfloat16)
        made, widened = (propose([(logits, d)] * 2, [4, 4], SIZE, rpn.anchors, RULE) for d in (deltas, deltas.float()))
    assert made.counts.item() > 0
    for one, other in zip(made, widened, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@pytest.mark.parametrize("whole", [False, True])
def test_objectness_is_told_apart_where_half_precision_cannot(whole: bool) -> None:
    """Of 100 and 100.25 bfloat16 makes one number: under autocast, and where the whole network is in it."""
    rpn = RPN(2, SPECS["mmdet"]["cascade_r50_fpn"].conventions.anchors, RULE).requires_grad_(False)
    for convolution in (rpn.conv, rpn.objectness, rpn.deltas):
        convolution.weight.zero_()
        convolution.bias.zero_()
    rpn.conv.weight[:, :, 1, 1] = torch.eye(2)
    rpn.objectness.weight[:, :, 0, 0] = torch.tensor([100.0, 0.25])
    feature = torch.tensor([[1.0, 1.0], [0.0, 1.0]])[None, :, :, None]  # two cells, one below the other
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not whole):
        logits, _ = rpn.bfloat16().head(feature.bfloat16()) if whole else rpn.head(feature)
    assert logits.dtype == torch.float32
    assert logits[0].unique().tolist() == [100, 100.25]
