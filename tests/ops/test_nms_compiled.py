"""The CPU kernels of suppression: the same candidates in the same order as the reference's, in every type."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from cascadezoo.ops import nms
from cascadezoo.ops.library import COMPILED
from cascadezoo.ops.nms import Nms

pytestmark = pytest.mark.skipif("cpu" not in COMPILED, reason="not built: `cascadezoo build-ops`")
ops = torch.ops.cascadezoo
TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
SPECIAL = torch.tensor([0.0, -0.0, 7, 2**24, 3e38, math.inf, -math.inf, math.nan, 1e-40], dtype=torch.float64)


class Draw:
    """Candidates with much to suppress: drawn from a seed, with ties, and some numbers that no network makes."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def below(self, end: int, *shape: int) -> Tensor:
        return torch.randint(end, shape, generator=self.generator)

    def one(self, *values: Any) -> Any:
        return values[int(self.below(len(values)))]

    def share(self, share: float, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator) < share

    def numbers(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, dtype=torch.float64)

    def with_special(self, x: Tensor, share: float) -> Tensor:
        return torch.where(self.share(share, *x.shape), SPECIAL[self.below(len(SPECIAL), *x.shape)], x)

    def boxes(self, dtype: torch.dtype, *shape: int) -> Tensor:
        low = self.numbers(*shape, 2) * self.one(20, 1300)
        boxes = torch.cat((low, low + self.numbers(*shape, 2) * self.one(0, 10, 40, 300)), -1)
        kind = self.one("as drawn", "eighths", "any corner")
        if kind == "eighths":
            boxes = (boxes * 8).round() / 8
        if kind == "any corner" and boxes.numel():  # right edges left of left ones too
            boxes = boxes.flatten()[self.below(boxes.numel(), *boxes.shape)]
        return self.with_special(boxes, self.one(0, 0, 0.02)).to(dtype)

    def scores(self, dtype: torch.dtype, *shape: int) -> Tensor:
        scores = self.numbers(*shape)
        scores = self.one(scores, (scores * 5).round() / 5)
        return self.with_special(scores, self.one(0, 0, 0.05)).to(dtype)

    def rule(self, boxes: Tensor) -> tuple[float, int, bool]:
        """Threshold, extent and whether the shift is rounded, which the reference cannot do in half types."""
        rule = Nms(
            iou=self.one(0.0, 0.3, 0.5, 0.7, 1.0),
            extent=self.one(0, 1),
            inclusive=self.one(False, True),
            rounded_shift=self.one(False, True) and boxes.dtype.itemsize >= 4,
        )
        return nms._threshold(rule), rule.extent, rule.rounded_shift


def same(found: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> None:
    assert found[1].tolist() == right[1].tolist()
    assert torch.equal(found[0], right[0])


@pytest.mark.parametrize("boxes", TYPES, ids=str)
@pytest.mark.parametrize("scores", TYPES, ids=str)
def test_drawn_candidates_are_kept_as_by_the_reference(boxes: torch.dtype, scores: torch.dtype) -> None:
    for seed in range(25):
        draw = Draw(seed)
        images, count, groups = draw.one(0, 1, 2), draw.one(0, 1, 7, 40, 300), draw.one(1, 2, 7, 5000)
        some = draw.boxes(boxes, images, count)
        rows = draw.scores(scores, images, count), draw.below(groups, images, count) - draw.one(0, 1)
        valid = draw.share(draw.one(0, 0.7, 1), images, count)
        arguments = (some, *rows, valid, *draw.rule(some), groups, count, draw.one(0, 1, 5, 40, 300))
        same(ops.grouped_nms(*arguments), nms._reference(*arguments))


@pytest.mark.parametrize("boxes", TYPES, ids=str)
@pytest.mark.parametrize("scores", TYPES, ids=str)
def test_drawn_classes_are_kept_as_by_the_reference(boxes: torch.dtype, scores: torch.dtype) -> None:
    for seed in range(25):
        draw = Draw(seed)
        images, rows, classes = draw.one(0, 1, 2), draw.one(0, 1, 7, 40), draw.one(0, 1, 4, 30)
        some = draw.boxes(boxes, images, rows, draw.one(1, classes))
        all_scores = draw.scores(scores, images, rows, classes + 1)
        valid, least = draw.share(draw.one(0, 0.7, 1), images, rows), draw.one(0.05, 0.2, 0.0, 0.3, 1e-3)
        rule, keep = draw.rule(some), draw.one(0, 1, 5, 40, 300)
        # background's column in place, cut off, and the classes far apart in memory
        last = all_scores.transpose(0, 2).contiguous().transpose(0, 2)
        for own in (all_scores[..., :-1], all_scores[..., :-1].contiguous(), last[..., :-1]):
            right = nms._reference(
                some.expand(-1, -1, classes, -1).flatten(1, 2),
                own.flatten(1),
                torch.arange(classes).expand_as(own).flatten(1),
                ((own > least) & valid[..., None]).flatten(1),
                *rule,
                classes,
                rows,
                keep,
            )
            same(ops.class_nms(some, own, valid, least, *rule, keep), right)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"boxes": torch.zeros(1, 3, 5)}, "boxes must be"),
        ({"boxes": torch.zeros(1, 3, 4, dtype=torch.int64)}, "must be floating point"),
        ({"boxes": torch.zeros(1, 3, 4, dtype=torch.float16)}, "half type"),
        ({"scores": torch.zeros(1, 3, dtype=torch.int32)}, "must be floating point"),
        ({"scores": torch.zeros(1, 2)}, "must be \\(N, K\\)"),
        ({"valid": torch.zeros(1, 3)}, "valid must be bool"),
        ({"groups": torch.zeros(1, 3)}, "groups must be int64"),
        ({"extent": 2}, "extent must be 0 or 1"),
        ({"group_count": 0}, "a candidate of group 0, where there are 0 groups"),
        ({"group_size": 2}, "a group of more than 2 candidates"),
        ({"keep": -1}, "max_keep must not be negative"),
    ],
    ids=str,
)
def test_arguments_that_do_not_belong_together_are_refused(change: dict, words: str) -> None:
    arguments = {
        "boxes": torch.zeros(1, 3, 4),
        "scores": torch.zeros(1, 3),
        "groups": torch.zeros(1, 3, dtype=torch.int64),
        "valid": torch.ones(1, 3, dtype=torch.bool),
        "iou": 0.5,
        "extent": 0,
        "rounded": True,
        "group_count": 1,
        "group_size": 3,
        "keep": 3,
    }
    with pytest.raises(RuntimeError, match=words):
        ops.grouped_nms(*(arguments | change).values())


@pytest.mark.parametrize(
    ("boxes", "scores", "valid", "words"),
    [
        (torch.zeros(1, 3, 1, 4), torch.zeros(1, 3), torch.zeros(1, 3) > 0, "scores must be"),
        (torch.zeros(1, 3, 3, 4), torch.zeros(1, 3, 2), torch.zeros(1, 3) > 0, "boxes must be"),
        (torch.zeros(1, 3, 1, 4), torch.zeros(1, 3, 2), torch.zeros(1, 2) > 0, "valid must be"),
        (torch.zeros(1, 3, 1, 4), torch.zeros(1, 3, 2), torch.zeros(1, 3), "valid must be bool"),
    ],
    ids=["scores", "boxes", "valid", "type"],
)
def test_classes_that_do_not_belong_together_are_refused(
    boxes: Tensor, scores: Tensor, valid: Tensor, words: str
) -> None:
    with pytest.raises(RuntimeError, match=words):
        ops.class_nms(boxes, scores, valid, 0.05, 0.5, 0, True, 3)


def test_what_would_take_minutes_in_one_call_goes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is on the overlaps that a call may compute, candidates x kept; beyond it the reference runs."""
    draw = Draw(0)
    boxes, scores = draw.boxes(torch.float32, 1, 40), draw.scores(torch.float32, 1, 40)
    rule = Nms(iou=0.5, extent=0, inclusive=False, rounded_shift=False)
    calls: list[int] = []
    reference = nms._reference
    monkeypatch.setattr(nms, "_reference", lambda *arguments: (calls.append(arguments[-1]), reference(*arguments))[1])
    monkeypatch.setattr(nms, "_COMPARED", 400)
    rows = scores, torch.zeros(1, 40, dtype=torch.int64), torch.ones(1, 40, dtype=torch.bool), rule
    for keep in (10, 11, 40):
        nms.grouped_nms(boxes, *rows, keep, group_count=1)
    assert calls == [11, 40]
