"""Matching and sampling, worked by hand."""

import torch

from cascadezoo.losses.assign import BACKGROUND, NEITHER, match, sample
from cascadezoo.spec.objective import BestBoxes, Matching, Sampling

# two objects; overlaps with the first 10 x 10 box: 1, 0.8, 0.5, 0.2; the last box lies over the second object by 0.4
OBJECTS = torch.tensor([[0.0, 0, 10, 10], [100, 100, 110, 110]])
BOXES = torch.tensor(
    [[0.0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 5], [0, 0, 10, 2], [50, 50, 60, 60], [100, 100, 110, 104]]
)


def test_positive_from_the_threshold_on_background_below_and_neither_between() -> None:
    rule = Matching(positive=0.8, negative=0.3)
    assert match(BOXES, OBJECTS, rule, 0).tolist() == [0, 0, NEITHER, BACKGROUND, BACKGROUND, NEITHER]


def test_an_objects_best_box_is_positive_from_its_least_iou_on() -> None:
    enough = Matching(positive=0.7, negative=0.5, best=BestBoxes(least=0.4, taken=True))
    assert match(BOXES, OBJECTS, enough, 0).tolist() == [0, 0, NEITHER, BACKGROUND, BACKGROUND, 1]
    too_much = Matching(positive=0.7, negative=0.5, best=BestBoxes(least=0.41, taken=True))
    assert match(BOXES, OBJECTS, too_much, 0).tolist()[-1] == BACKGROUND


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


def test_without_objects_all_is_background() -> None:
    assert match(BOXES, OBJECTS[:0], Matching(positive=0.5, negative=0.5), 0).tolist() == [BACKGROUND] * 6


def test_samples_fill_up_with_background_and_follow_the_generator() -> None:
    matched = torch.tensor([0] * 10 + [BACKGROUND] * 100 + [NEITHER] * 50)
    rule = Sampling(size=16, positive_fraction=0.25)
    drawn = [sample(matched, rule, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert (len(drawn[0].positive), len(drawn[0].negative)) == (4, 12)
    assert (matched[drawn[0].negative] == BACKGROUND).all()
    assert torch.equal(drawn[0].negative, drawn[1].negative)
    assert not torch.equal(drawn[0].negative, drawn[2].negative)
    few = sample(matched[8:], rule, None)
    assert (len(few.positive), len(few.negative)) == (2, 14)


def test_replacement_draws_some_twice() -> None:
    matched = torch.full((300,), BACKGROUND)
    drawn = sample(
        matched, Sampling(size=256, positive_fraction=0.5, replacement=True), torch.Generator().manual_seed(0)
    )
    assert len(drawn.negative.unique()) == len(drawn.negative) < 256
