"""From the RPN's outputs to proposals, worked by hand."""

import math

import pytest
import torch

from cascadezoo.modeling.rpn import RPN, Proposals, _best_of_level, propose, valid_rows
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


def level(logits: list[float]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits (1, K), deltas (1, K, 4) and anchors (K, 4) that carry their own number."""
    number = torch.arange(float(len(logits)))[:, None].expand(-1, 4)
    return torch.tensor([logits]), number[None] + 100, number


def test_a_level_of_at_most_the_limit_keeps_all_its_anchors() -> None:
    scores, deltas, anchors, present = _best_of_level(*level([0.1, 0.9, 0.5]), RULE)
    assert present.tolist() == [[True, True, True]]
    assert scores[0].tolist() == pytest.approx([0.9, 0.5, 0.1])
    assert deltas[0, :, 0].tolist() == [101, 102, 100]
    assert anchors[0, :, 0].tolist() == [1, 2, 0]
    scores, deltas, anchors, present = _best_of_level(*level([0.5, 0.5]), RULE)
    assert present.tolist() == [[True, True, False]]  # the rest are repeated
    assert scores[0, :2].tolist() == [0.5, 0.5]
    assert anchors[0, :2, 0].tolist() == [0, 1]


def test_a_larger_level_gives_its_best_in_order() -> None:
    scores, deltas, anchors, _ = _best_of_level(*level([0.1, 0.9, 0.5, 0.7, 0.9]), RULE)
    assert scores[0].tolist() == pytest.approx([0.9, 0.9, 0.7])
    assert deltas[0, :, 0].tolist() == [101, 104, 103]
    assert anchors[0].tolist() == [[1] * 4, [4] * 4, [3] * 4]
    logits, deltas, anchors = level([0.1, 0.9, 0.5, 0.7, 0.9])
    _, deltas, anchors, _ = _best_of_level(torch.cat((logits, -logits)), deltas.expand(2, -1, -1), anchors, RULE)
    assert deltas[:, :, 0].tolist() == [[101, 104, 103], [100, 102, 103]]
    assert anchors[:, :, 3].tolist() == [[1, 4, 3], [0, 2, 3]]


def test_saturated_probabilities_tie_where_logits_do_not() -> None:
    """The probability of a logit of 30, 40 or 50 is 1 in float32: the first ones stay, in their order."""
    saturated = [0.0, 30.0, 40.0, 50.0, 30.0]
    by_probability = _best_of_level(*level(saturated), changed(score=RpnScore.PROBABILITY))
    assert by_probability[0].tolist() == [[1, 1, 1]]
    assert by_probability[2][0, :, 0].tolist() == [1, 2, 3]
    by_logit = _best_of_level(*level(saturated), RULE)
    assert by_logit[0].tolist() == [[50, 40, 30]]
    assert by_logit[2][0, :, 0].tolist() == [3, 2, 1]
    (small,) = _best_of_level(*level([0.0, math.log(3)]), changed(score=RpnScore.PROBABILITY))[:1]
    assert small[0, :2].tolist() == pytest.approx([0.75, 0.5])


def still(logits: list[float], images: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """A level's output for boxes that are their anchors."""
    return torch.tensor([logits] * images), torch.zeros(images, len(logits), 4)


SIZE = torch.tensor([[100.0, 200.0]])  # height, width
FINE = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [50.0, 50.0, 60.0, 60.0]])
COARSE = torch.tensor([[0.0, 0.0, 10.0, 10.0]])


def test_levels_do_not_suppress_each_other_and_the_best_of_all_come_first() -> None:
    """The second box of the fine level overlaps the first (90 / 110); the coarse level's is equal to the first."""
    made = propose([still([0.5, 0.4, 0.2]), still([0.9])], [FINE, COARSE], SIZE, RULE)
    assert made.counts.tolist() == [3]
    assert made.scores[0].tolist() == pytest.approx([0.9, 0.5, 0.2, 0])
    assert made.boxes[0].tolist() == [[0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 0, 0]]
    assert made.valid.tolist() == [[True, True, True, False]]
    two = propose([still([0.5, 0.4, 0.2]), still([0.9])], [FINE, COARSE], SIZE, changed(post_nms_top_n=2))
    assert two.counts.tolist() == [2]
    assert two.scores[0].tolist() == pytest.approx([0.9, 0.5])


def test_deltas_move_the_anchors_and_boxes_are_clipped_to_their_image() -> None:
    """The first moves by 1.5 widths, the second stays, the last grows to 14 widths, -15..125, and is cut."""
    deltas = torch.tensor([[[1.5, 0.0, 0.0, 0.0], [0.0] * 4, [0.0, 0.0, math.log(14), 0.0]]] * 2)
    sizes = torch.tensor([[100.0, 200.0], [55.0, 58.0]])
    made = propose([(torch.tensor([[0.5, 0.1, 0.3]] * 2), deltas)], [FINE], sizes, RULE)
    assert made.boxes[0, :3].flatten().tolist() == pytest.approx([15, 0, 25, 10, 0, 50, 125, 60, 1, 0, 11, 10])
    assert made.boxes[1, :3].flatten().tolist() == pytest.approx([15, 0, 25, 10, 0, 50, 58, 55, 1, 0, 11, 10])


@pytest.mark.parametrize(("extent", "width", "count"), [(0, 20.0, 1), (0, 19.5, 0), (1, 19.0, 1), (1, 18.5, 0)])
def test_boxes_must_be_as_large_as_the_smallest_side_after_clipping(extent: int, width: float, count: int) -> None:
    coder = CODER.model_copy(update={"extent": extent})
    rule = changed(min_size=20, coder=coder, nms=RULE.nms.model_copy(update={"extent": extent}))
    anchors = torch.tensor([[0.0, 0.0, 50.0, 50.0]])
    sizes = torch.tensor([[90.0, width + extent]])
    assert propose([still([0.9])], [anchors], sizes, rule).counts.tolist() == [count]


def test_a_small_box_leaves_its_place_to_the_next() -> None:
    anchors = torch.tensor([[0.0, 0.0, 4.0, 40.0], [50.0, 50.0, 70.0, 70.0]])
    made = propose([still([0.9, 0.1])], [anchors], SIZE, changed(min_size=5, post_nms_top_n=1))
    assert made.boxes.tolist() == [[[50, 50, 70, 70]]]
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


def test_half_precision_ends_with_the_heads_maps() -> None:
    logits, deltas = make(RULE).to(torch.bfloat16).head(torch.ones(1, 2, 1, 1, dtype=torch.bfloat16))
    assert logits.dtype == deltas.dtype == torch.float32


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
