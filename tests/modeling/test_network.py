"""The cascade between its heads, on numbers worked by hand: heads that answer the same whatever they are shown."""

import pytest
import torch
from torch import Tensor, nn

from cascadezoo.modeling.network import Network, _of_best_class
from cascadezoo.modeling.rpn import Proposals
from cascadezoo.spec.conventions import ScoreFusion

from tiny import lively, tiny


class Answers(nn.Module):
    """A box head of given logits (C + 1,) and deltas (4,) for every box."""

    def __init__(self, logits: list[float], deltas: list[float]) -> None:
        super().__init__()
        self.logits, self.deltas = torch.tensor(logits), torch.tensor(deltas)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        return self.logits.expand(len(pooled), -1), self.deltas.expand(len(pooled), 1, -1)


def cascade(heads: list[Answers], **conventions: dict) -> Network:
    """A tiny cascade of mmdetection's with other heads; ``conventions``: changed fields by record."""
    spec = tiny("cascade_r50_fpn")
    own = spec.conventions
    changed = {name: getattr(own, name).model_copy(update=fields) for name, fields in conventions.items()}
    stage = spec.stages[0].model_copy(update={"stds": (1.0, 1.0, 1.0, 1.0)})
    model = lively(spec)
    model.box_heads = nn.ModuleList(heads)
    model.spec = spec.model_copy(update={"conventions": own.model_copy(update=changed), "stages": (stage,) * 3})
    return model


def refine(model: Network, boxes: list[list[float]], counts: int | None = None):
    features = [torch.zeros(1, 16, 64 // s, 64 // s) for s in (4, 8, 16, 32, 64)]
    rows = torch.tensor([boxes])
    proposals = Proposals(rows, torch.zeros(1, len(boxes)), torch.tensor([len(boxes) if counts is None else counts]))
    with torch.inference_mode():
        return model.refine(features, proposals, torch.tensor([[64.0, 64.0]]))


EVEN = [0.0] * 6
RIGHT, STILL = [1.0, 0.0, 0.0, 0.0], [0.0] * 4  # one width to the right; nowhere


@pytest.mark.parametrize(
    ("clip", "first", "second"),
    # 40..60 moves to 60..80, of which 60..64 lies inside; the second stage moves that by its own width, 4 or 20
    [(True, [60.0, 0.0, 64.0, 20.0], [64.0, 0.0, 64.0, 20.0]), (False, [60, 0, 80, 20], [80, 0, 100, 20])],
)
def test_boxes_between_stages_are_clipped_where_the_rule_says_so(clip: bool, first: list, second: list) -> None:
    for steps, expected in (([RIGHT, STILL], first), ([RIGHT, RIGHT], second)):
        heads = [Answers(EVEN, step) for step in (*steps, STILL)]
        predictions = refine(cascade(heads, cascade={"clip_stages": clip}), [[40.0, 0.0, 60.0, 20.0]])
        assert predictions.boxes[0, 0].tolist() == expected


@pytest.mark.parametrize("skip_empty", [True, False])
def test_boxes_that_lose_their_area_on_the_way_are_skipped_where_the_rule_says_so(skip_empty: bool) -> None:
    """50..60 ends as 64..64 after the first stage; 0..10 stays inside; the third row holds no proposal."""
    heads = [Answers(EVEN, [1.5, 0.0, 0.0, 0.0]), Answers(EVEN, STILL), Answers(EVEN, STILL)]
    model = cascade(heads, cascade={"clip_stages": True}, roi_align={"skip_empty": skip_empty})
    predictions = refine(model, [[50.0, 0.0, 60.0, 20.0], [0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 10.0]], counts=2)
    assert predictions.boxes[0, :2].tolist() == [[64, 0, 64, 20], [15, 0, 25, 10]]
    assert predictions.valid.tolist() == [[not skip_empty, True, False]]


def test_the_last_stages_deltas_are_left_to_apply() -> None:
    heads = [Answers(EVEN, STILL), Answers(EVEN, STILL), Answers(EVEN, RIGHT)]
    predictions = refine(cascade(heads), [[0.0, 0.0, 10.0, 10.0]])
    assert predictions.boxes.tolist() == [[[0, 0, 10, 10]]]
    assert predictions.deltas.tolist() == [[[RIGHT]]]


@pytest.mark.parametrize(
    ("fusion", "expected"),
    # class 0's logit is ln 9, ln 4 and 0 against 0 of one other and far less of the rest: probabilities 0.9, 0.8, 0.5;
    # the mean of the logits is ln 36 / 3, e to that is 3.3019
    [
        (ScoreFusion.MEAN_LOGITS, 3.3019 / 4.3019),
        (ScoreFusion.MEAN_PROBABILITIES, 2.2 / 3),
        (ScoreFusion.LAST_FEATURES, 2.2 / 3),
    ],
)
def test_the_stages_scores_become_one(fusion: ScoreFusion, expected: float) -> None:
    record = tiny("cascade_r50_fpn").model_dump()
    record["conventions"]["cascade"]["fusion"] = fusion
    model = lively(tiny("cascade_r50_fpn", conventions=record["conventions"]))
    logits = [[odds, 0.0, -99.0, -99.0, -99.0, -99.0] for odds in torch.tensor([9.0, 4.0, 1.0]).log().tolist()]
    model.box_heads = nn.ModuleList(Answers(row, STILL) for row in logits)
    predictions = refine(model, [[0.0, 0.0, 10.0, 10.0]])
    assert predictions.probabilities[0, 0, :2].tolist() == pytest.approx([expected, 1 - expected], abs=1e-5)


def test_every_head_reads_the_last_boxes_where_the_features_are_the_last() -> None:
    """What a head is shown: the pooled boxes of its own stage, or of the last for all."""

    class Shown(Answers):
        def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
            _, deltas = super().forward(pooled)
            means = pooled.mean((1, 2, 3))[:, None]
            return torch.cat((means, means.expand(-1, 5) * 0), 1), deltas

    for fusion, fused in ((ScoreFusion.MEAN_LOGITS, (2.0 + 6.0 + 6.0) / 3), (ScoreFusion.LAST_FEATURES, 6.0)):
        record = tiny("cascade_r50_fpn").model_dump()
        record["conventions"]["cascade"]["fusion"] = fusion
        model = lively(tiny("cascade_r50_fpn", conventions=record["conventions"]))
        model.box_heads = nn.ModuleList(Shown(EVEN, deltas) for deltas in (RIGHT, STILL, STILL))
        model.spec = model.spec.model_copy(
            update={"stages": (model.spec.stages[0].model_copy(update={"stds": (1.0,) * 4}),) * 3}
        )
        ramp = torch.arange(16.0).expand(1, 16, 16, 16).contiguous()  # a value is its column, of 4 pixels
        proposals = Proposals(torch.tensor([[[2.0, 2.0, 18.0, 18.0]]]), torch.zeros(1, 1), torch.tensor([1]))
        with torch.inference_mode():
            predictions = model.refine([ramp] * 5, proposals, torch.tensor([[64.0, 64.0]]))
        # the middles of 2..18 and 18..34 pixels, 10 / 4 - 0.5 = 2 and 26 / 4 - 0.5 = 6 as columns
        odds = predictions.probabilities[0, 0, 0] / predictions.probabilities[0, 0, 1]
        assert odds.log().item() == pytest.approx(fused, abs=1e-4)


def test_the_best_foreground_class_moves_a_box_on() -> None:
    """Background wins both rows; class 1 is the better of the others in the first, class 0 in the second."""
    logits = torch.tensor([[0.1, 0.2, 9.0], [0.4, 0.3, 9.0]])
    deltas = torch.arange(16.0).view(2, 2, 4)
    assert _of_best_class(logits, deltas).tolist() == [[4, 5, 6, 7], [8, 9, 10, 11]]
    assert _of_best_class(logits, deltas[:, :1]).tolist() == deltas[:, 0].tolist()
