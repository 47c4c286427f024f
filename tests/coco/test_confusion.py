"""The confusion matrix and what it is made of, worked by hand."""

import json

import numpy as np
import pytest

from cascadezoo.coco.confusion import confusion_matrix, matches
from cascadezoo.coco.overlaps import overlaps
from cascadezoo.errors import UsageError

from scored import hit, rle, thing, truth_of

A, B, C = (0, 0, 40, 40), (60, 0, 40, 40), (120, 0, 40, 40)
FAR = (10, 120, 40, 40)


def counts(things: list[dict], hits: list[dict], **options) -> list[list[int]]:
    return confusion_matrix(truth_of(things, 2), hits, **options).counts.tolist()


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_right_mistaken_spurious_and_missed(kind) -> None:
    """Cats at A and B, a dog at C; A is found, B taken for a dog, C missed; a dog is seen where nothing is."""
    things = [thing(1, 1, A), thing(1, 1, B), thing(1, 2, C)]
    hits = [hit(1, 1, A, 0.9), hit(1, 2, B, 0.8), hit(1, 2, FAR, 0.7), hit(2, 1, A, 0.6)]
    matrix = confusion_matrix(truth_of(things, 2), hits, kind)
    assert matrix.names == ("cat", "dog", "background")
    assert matrix.counts.tolist() == [[1, 1, 0], [0, 0, 1], [1, 1, 0]]  # rows: what is there; columns: what was seen
    assert matrix.precision().tolist() == [0.5, 0]
    assert matrix.recall().tolist() == [0.5, 0]
    assert matrix.shares().tolist() == [[0.5, 0.5, 0], [0, 0, 1], [0.5, 0.5, 0]]


def test_thresholds_are_reached_by_equality() -> None:
    half = (0, 0, 40, 20)  # IoU 1/2 with A
    assert counts([thing(1, 1, A)], [hit(1, 1, half, 0.3)]) == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert counts([thing(1, 1, A)], [hit(1, 1, half, 0.3)], score=0.31) == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert counts([thing(1, 1, A)], [hit(1, 1, half, 0.3)], iou=0.51) == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]


def test_the_best_score_chooses_first_and_takes_the_nearest() -> None:
    """The better one, less near, takes the object; the nearer one finds it taken."""
    near, less = (0, 0, 40, 38), (0, 0, 40, 30)
    assert counts([thing(1, 1, A)], [hit(1, 1, near, 0.5), hit(1, 2, less, 0.9)]) == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]
    shifted = (0, 10, 40, 40)  # IoU 30/50 with A, and A is there as a dog too
    found = [hit(1, 1, (0, 0, 40, 40), 0.9)]
    assert counts([thing(1, 1, shifted), thing(1, 2, A)], found) == [[0, 0, 1], [1, 0, 0], [0, 0, 0]]


def test_of_equal_overlaps_one_of_the_detections_class_is_taken() -> None:
    assert counts([thing(1, 2, A), thing(1, 1, A)], [hit(1, 1, A, 0.9)]) == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_crowds_do_not_count_and_forgive_their_class_alone() -> None:
    inside = (10, 10, 20, 20)  # a quarter of the crowd, all of itself
    things = [thing(1, 1, (0, 0, 40, 40), crowd=1)]
    assert counts(things, [hit(1, 1, inside, 0.9)]) == [[0, 0, 0]] * 3
    assert counts(things, [hit(1, 2, inside, 0.9)]) == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_shares_of_nothing_are_nan_and_null() -> None:
    matrix = confusion_matrix(truth_of([]), [])
    assert np.isnan(matrix.precision()).all()
    assert np.isnan(matrix.recall()).all()
    assert np.isnan(matrix.shares()).all()
    plain = json.loads(json.dumps(matrix.to_json(), allow_nan=False))
    assert plain["precision"] == plain["recall"] == [None, None]
    assert plain["counts"] == [[0, 0, 0]] * 3
    assert (plain["names"], plain["category_ids"]) == (["cat", "dog", "background"], [1, 2])
    assert (plain["kind"], plain["score"], plain["iou"]) == ("bbox", 0.3, 0.5)


def test_only_chosen_images_count() -> None:
    assert counts([thing(1, 1, A), thing(2, 1, A)], [hit(1, 1, A, 0.9)], image_ids=[2]) == [
        [0, 0, 1],
        [0, 0, 0],
        [0] * 3,
    ]


def test_only_chosen_classes_count() -> None:
    """The dog that takes the cat is not there."""
    matrix = confusion_matrix(truth_of([thing(1, 1, A)]), [hit(1, 1, A, 0.5), hit(1, 2, A, 0.9)], category_ids=[1])
    assert (matrix.counts.tolist(), matrix.names) == ([[1, 0], [0, 0]], ("cat", "background"))


def test_mistakes_of_an_image() -> None:
    things = [thing(1, 1, A), thing(1, 1, B), thing(1, 2, C)]
    hits = [hit(1, 1, A, 0.9), hit(1, 2, B, 0.8), hit(1, 2, FAR, 0.7)]
    first, second = matches(overlaps(truth_of(things, 2), hits))
    assert (first.pairs, first.spurious, first.missed, first.mistakes) == ([(0, 0), (1, 1)], [2], [2], 3)
    assert (second.pairs, second.spurious, second.missed, second.mistakes) == ([], [], [], 0)


def test_overlap_of_masks_is_not_that_of_their_boxes() -> None:
    """A triangle is half of its box; in a crowd, a detection's own area counts."""
    cat, crowd = thing(1, 1, A), thing(1, 1, (0, 0, 200, 200), crowd=1)
    found = hit(1, 1, A, 0.9) | {"segmentation": rle([[0, 0, 40, 0, 0, 40]])}
    images = [next(overlaps(truth_of([cat, crowd]), [found], kind)) for kind in ("bbox", "segm")]
    assert images[0].iou.tolist() == [[1, 1]]
    assert images[1].iou == pytest.approx(np.array([[0.5, 1]]), abs=0.02)
    assert images[1].crowd.tolist() == [False, True]
    with pytest.raises(UsageError, match="without segmentation"):
        next(overlaps(truth_of([cat]), [{k: v for k, v in found.items() if k != "segmentation"}], "segm"))


def test_detections_come_by_falling_score_and_no_more_than_asked_for() -> None:
    hits = [hit(1, 1, A, 0.2), hit(1, 2, A, 0.9), hit(1, 1, B, 0.9)]
    [image] = overlaps(truth_of([]), hits, most=2)
    assert [(one["category_id"], one["bbox"][0]) for one in image.detections] == [(2, 0), (1, 60)]
    assert image.iou.shape == (2, 0)
