"""Matching and sampling, worked by hand."""

import random

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cascadezoo.losses import assign
from cascadezoo.losses.assign import BACKGROUND, NEITHER, everything, match, sample
from cascadezoo.spec.objective import BestBoxes, Matching, Sampling

# two objects; overlaps with the first 10 x 10 box: 1, 0.8, 0.5, 0.2; the last box lies over the second object by 0.4
OBJECTS = torch.tensor([[0.0, 0, 10, 10], [100, 100, 110, 110]])
BOXES = torch.tensor(
    [[0.0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 5], [0, 0, 10, 2], [50, 50, 60, 60], [100, 100, 110, 104]]
)


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_positive_from_the_threshold_on_background_below_and_neither_between() -> None:
    rule = Matching(positive=0.8, negative=0.3)
    assert match(BOXES, OBJECTS, rule, 0).tolist() == [0, 0, NEITHER, BACKGROUND, BACKGROUND, NEITHER]


def test_an_iou_equal_to_a_threshold_is_positive_or_neither() -> None:
    # 50 / 100 and 25 / 100 pixels: numbers that float32 holds exactly
    boxes = torch.tensor([[0.0, 0, 10, 5], [0, 0, 5, 5]])
    assert match(boxes, OBJECTS, Matching(positive=0.5, negative=0.25), 0).tolist() == [0, NEITHER]
    assert match(boxes, OBJECTS, Matching(positive=0.51, negative=0.26), 0).tolist() == [NEITHER, BACKGROUND]


def test_an_objects_best_box_is_positive_from_its_least_iou_on() -> None:
    enough = Matching(positive=0.7, negative=0.5, best=BestBoxes(least=0.4, taken=True))
    assert match(BOXES, OBJECTS, enough, 0).tolist() == [0, 0, NEITHER, BACKGROUND, BACKGROUND, 1]
    too_much = Matching(positive=0.7, negative=0.5, best=BestBoxes(least=0.41, taken=True))
    assert match(BOXES, OBJECTS, too_much, 0).tolist()[-1] == BACKGROUND


def test_a_best_box_may_have_exactly_the_least_iou_and_ties_are_all_best() -> None:
    halves = torch.tensor([[0.0, 0, 10, 5], [0, 5, 10, 10], [0, 0, 5, 5]])  # two halves and a quarter of the object
    rule = Matching(positive=0.7, negative=0.6, best=BestBoxes(least=0.5, taken=False))
    assert match(halves, OBJECTS[:1], rule, 0).tolist() == [0, 0, BACKGROUND]


@pytest.mark.parametrize("taken", [True, False])
def test_an_object_that_no_box_touches_has_no_best_box(taken: bool) -> None:
    # every box has the second object's highest IoU, which is 0
    rule = Matching(positive=0.9, negative=0.3, best=BestBoxes(least=0, taken=taken))
    boxes = torch.tensor([[0.0, 0, 10, 8], [0, 0, 10, 2], [50, 50, 60, 60]])
    assert match(boxes, OBJECTS, rule, 0).tolist() == [0, BACKGROUND, BACKGROUND]
    assert match(boxes[2:], OBJECTS, rule, 0).tolist() == [BACKGROUND]


def test_a_best_box_is_taken_from_the_object_that_it_overlaps_more_or_not() -> None:
    # one box is the best of both objects: 1.0 with the first, 0.5 with the second
    objects, boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]]), torch.tensor([[0.0, 0, 10, 10]])
    for taken, expected in ((True, 1), (False, 0)):
        rule = Matching(positive=0.7, negative=0.3, best=BestBoxes(least=0.3, taken=taken))
        assert match(boxes, objects, rule, 0).tolist() == [expected]


def test_extent_counts_the_last_pixel() -> None:
    # 10 x 10 against 10 x 9 pixels where x2, y2 lie inside the box: 0.9
    boxes, objects = torch.tensor([[0.0, 0, 9, 8]]), torch.tensor([[0.0, 0, 9, 9]])
    assert match(boxes, objects, Matching(positive=0.9, negative=0.9), 1).tolist() == [0]
    assert match(boxes, objects, Matching(positive=0.9, negative=0.9), 0).tolist() == [BACKGROUND]
    # an object's best box is compared in the same way: 0.9 of it, from 0.9 on
    rule = Matching(positive=0.95, negative=0.95, best=BestBoxes(least=0.9, taken=True))
    assert match(boxes, objects, rule, 1).tolist() == [0]
    assert match(boxes, objects, rule, 0).tolist() == [BACKGROUND]


def test_without_objects_or_boxes() -> None:
    rule = Matching(positive=0.5, negative=0.5, best=BestBoxes(least=0, taken=True))
    assert match(BOXES, OBJECTS[:0], rule, 0).tolist() == [BACKGROUND] * 6
    assert match(BOXES[:0], OBJECTS, rule, 0).tolist() == []
    assert match(BOXES[:0], OBJECTS, rule, 0).dtype == torch.int64


def iou(a: list[int], b: list[int]) -> float:
    wide, high = (max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    # float32 numbers, so that ties and thresholds are those of the package
    return float(torch.tensor(float(wide * high)) / torch.tensor(float(sum(areas) - wide * high)))


def matched_one_by_one(boxes: list[list[int]], objects: list[list[int]], rule: Matching) -> list[int]:
    """What ``match`` returns, pair by pair."""
    table = [[iou(box, thing) for thing in objects] for box in boxes]
    result = []
    for row in table:
        most = max(row)
        known = row.index(most) if most >= rule.positive else NEITHER
        result.append(BACKGROUND if most < rule.negative else known)
    for j in range(len(objects)):
        best = max(row[j] for row in table)
        if best == 0 or best < rule.best.least:
            continue
        for i, row in enumerate(table):
            if row[j] == best:
                result[i] = j if rule.best.taken else row.index(max(row))
    return result


@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("least", [0.0, 0.25])
@pytest.mark.parametrize("pairs", [1, 7, 30, 10**6])
def test_any_number_of_boxes_at_once_gives_the_same(monkeypatch, pairs: int, least: float, taken: bool) -> None:
    """Boxes on a coarse grid, so that many IoUs are equal, in one chunk, in several, and box by box."""
    monkeypatch.setattr(assign, "_PAIRS", pairs)
    draw = random.Random(pairs)
    rule = Matching(positive=0.5, negative=0.25, best=BestBoxes(least=least, taken=taken))

    def boxes(count: int) -> list[list[int]]:
        corners = [
            (draw.randint(0, 8), draw.randint(0, 8), draw.randint(1, 4), draw.randint(1, 4)) for _ in range(count)
        ]
        return [[x, y, x + w, y + h] for x, y, w, h in corners]

    for _ in range(20):
        own, objects = boxes(25), boxes(4)
        expected = matched_one_by_one(own, objects, rule)
        assert match(torch.tensor(own).float(), torch.tensor(objects).float(), rule, 0).tolist() == expected


def test_all_boxes_take_part_that_are_matched_or_background() -> None:
    positive, negative = everything(torch.tensor([NEITHER, 0, BACKGROUND, 3, NEITHER, BACKGROUND]))
    assert (positive.tolist(), negative.tolist()) == ([1, 3], [2, 5])


def test_samples_fill_up_with_background_and_follow_the_generator() -> None:
    matched = torch.tensor([0] * 10 + [BACKGROUND] * 100 + [NEITHER] * 50)
    rule = Sampling(size=16, positive_fraction=0.25)
    sampled = [sample(matched, rule, dice(seed)) for seed in (1, 1, 2)]
    assert (len(sampled[0].positive), len(sampled[0].negative)) == (4, 12)
    assert (matched[sampled[0].negative] == BACKGROUND).all()
    assert torch.equal(sampled[0].negative, sampled[1].negative)
    assert not torch.equal(sampled[0].negative, sampled[2].negative)
    few = sample(matched[8:], rule, None)
    assert (len(few.positive), len(few.negative)) == (2, 14)


def test_the_number_of_positive_boxes_is_rounded_down() -> None:
    # 10 * 0.35 is 3.5 and 10 * 0.25 is 2.5: 3 and 2, whether halves are rounded up or to even
    matched = torch.tensor([0] * 8 + [BACKGROUND] * 20)
    for fraction, positive in ((0.35, 3), (0.25, 2), (0.0, 0), (1.0, 8)):
        sampled = sample(matched, Sampling(size=10, positive_fraction=fraction), None)
        assert (len(sampled.positive), len(sampled.negative)) == (positive, 10 - positive)


def test_samples_are_the_first_of_a_permutation() -> None:
    matched = torch.tensor([5] * 6 + [BACKGROUND] * 9)
    sampled = sample(matched, Sampling(size=8, positive_fraction=0.5), dice(3))
    generator = dice(3)
    assert sampled.positive.tolist() == torch.randperm(6, generator=generator)[:4].tolist()
    assert sampled.negative.tolist() == [6 + i for i in torch.randperm(9, generator=generator)[:4].tolist()]


def test_boxes_that_are_just_enough_stay_in_order_and_cost_no_chance() -> None:
    generator = dice(3)
    before = generator.get_state()
    sampled = sample(
        torch.tensor([BACKGROUND, 1] * 4), Sampling(size=8, positive_fraction=0.5, replacement=True), generator
    )
    assert (sampled.positive.tolist(), sampled.negative.tolist()) == ([1, 3, 5, 7], [0, 2, 4, 6])
    assert torch.equal(generator.get_state(), before)


def test_replacement_takes_some_twice_and_fewer_are_left() -> None:
    matched = torch.cat((torch.tensor([4, 4]), torch.full((300,), BACKGROUND)))
    rule = Sampling(size=256, positive_fraction=0.5, replacement=True)
    sampled = sample(matched, rule, dice())
    expected = 2 + torch.randint(300, (254,), generator=dice()).unique()
    assert sampled.positive.tolist() == [0, 1]
    assert sampled.negative.tolist() == expected.tolist()
    assert len(sampled.negative) < 254
    # without replacement there are as many as wanted, none of them twice
    once = sample(matched, rule.model_copy(update={"replacement": False}), dice())
    assert len(once.negative.unique()) == 254


def test_few_background_boxes_are_all_taken_without_chance() -> None:
    matched = torch.full((40,), BACKGROUND)
    sampled = sample(matched, Sampling(size=256, positive_fraction=0.5, replacement=True), dice())
    assert sampled.negative.tolist() == list(range(40))


class Largest(TorchDispatchMode):
    """Watches the tensors that are made; ``numbers``: how many the largest of them holds."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return result


def test_t8_memory_does_not_grow_with_boxes_times_objects() -> None:
    """60 000 boxes, 300 objects: 18 million IoUs and twice as many corners; a chunk has 2 million corners."""
    corners = 500 * torch.rand(60_000, 2, generator=dice())
    boxes = torch.cat((corners, corners + 20), 1)
    rule = Matching(positive=0.7, negative=0.3, best=BestBoxes(least=0.3, taken=True))
    with Largest() as largest:
        match(boxes, boxes[:300], rule, 0)
    assert largest.numbers < 20e6
