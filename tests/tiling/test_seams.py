"""What tiles show of one image becomes its detections: every case of an object at a seam, by hand.

Two tiles of 100 x 100 pixels on an image of 100 x 160: the left one shows columns 0 to 100, the right one 60 to 160,
and both 60 to 100.  A tile's fiftieth is two pixels.
"""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from cascadezoo.coco.categories import Categories
from cascadezoo.detections import Detections
from cascadezoo.ops.mask_parts import MaskParts
from cascadezoo.spec.conventions import Nms
from cascadezoo.tiling import Window
from cascadezoo.tiling.seams import merged

RULE = Nms(iou=0.5, extent=0, inclusive=False, rounded_shift=False)
LEFT, RIGHT, ALL = Window(0, 0, 100, 100), Window(60, 0, 160, 100), Window(0, 0, 160, 100)
SIZE = (100, 160)

Seen = Sequence[tuple[Sequence[float], float, int]]  # boxes in the image's own pixels, scores, labels


def on(window: Window, seen: Seen, masks: bool, extent: int = 0) -> Detections:
    """What a tile gives, in its own pixels; masks fill their boxes."""
    boxes = torch.tensor([box for box, _, _ in seen], dtype=torch.float32).reshape(-1, 4)
    size = window.bottom - window.top, window.right - window.left
    return Detections(
        boxes - torch.tensor((window.left, window.top) * 2),
        torch.tensor([score for _, score, _ in seen]),
        torch.tensor([label for _, _, label in seen], dtype=torch.int64),
        size,
        Categories.numbered(3),
        torch.ones(len(seen), 28, 28) if masks else None,
        extent=extent,
    )


def found(
    left: Seen, right: Seen, whole: Seen | None = None, masks: bool = True
) -> list[tuple[list[float], float, int]]:
    windows = [LEFT, RIGHT] + [ALL] * (whole is not None)
    parts = [on(window, seen, masks) for window, seen in zip(windows, (left, right, whole or ()), strict=False)]
    result = merged(parts, windows, SIZE, RULE)
    assert result.image_size == SIZE
    assert (result.mask_probs is not None) == masks
    rows = zip(result.boxes.tolist(), result.scores.tolist(), result.labels.tolist(), strict=True)
    return [(box, pytest.approx(score), label) for box, score, label in rows]


both = pytest.mark.parametrize("masks", [True, False], ids=["masks", "boxes"])


@both
def test_what_one_tile_shows_stays_as_it_is(masks: bool) -> None:
    one, other = ([5, 5, 30, 30], 0.6, 1), ([120, 5, 150, 30], 0.8, 2)
    assert found([one], [other], masks=masks) == [other, one]


@both
def test_what_two_tiles_show_whole_is_there_once(masks: bool) -> None:
    one, other = ([70, 5, 90, 30], 0.6, 1), ([71, 5, 91, 31], 0.7, 1)
    assert found([one], [other], masks=masks) == [other]
    assert found([one], [([71, 5, 91, 31], 0.7, 2)], masks=masks) == [([71, 5, 91, 31], 0.7, 2), one]  # of two classes


@both
def test_what_a_neighbour_shows_whole_is_the_object_with_the_better_score(masks: bool) -> None:
    part, whole = ([70, 5, 100, 30], 0.9, 1), ([70, 5, 120, 30], 0.6, 1)
    expected = [([70, 5, 120, 30], 0.9, 1)]
    assert found([part], [whole], masks=masks) == expected
    assert found([([70, 5, 99, 30], 0.9, 1)], [whole], masks=masks) == expected  # near the seam is at the seam
    assert found([([70, 5, 100, 30], 0.5, 1)], [whole], masks=masks) == [whole]
    # one that ends before it is a whole view: an IoU of 25 / 50 suppresses nothing
    assert len(found([([70, 5, 95, 30], 0.9, 1)], [whole], masks=masks)) == 2


@both
def test_a_part_makes_that_whole_view_surer_which_it_agrees_with_best(masks: bool) -> None:
    part, near, far = ([70, 5, 100, 45], 0.9, 1), ([70, 5, 120, 44], 0.4, 1), ([70, 5, 110, 27], 0.5, 1)
    assert found([part], [near, far], masks=masks) == [([70, 5, 120, 44], 0.9, 1), far]


@both
def test_of_a_part_and_a_whole_view_of_another_class_the_surer_counts(masks: bool) -> None:
    part, whole = ([70, 5, 100, 30], 0.5, 1), ([70, 5, 120, 30], 0.6, 2)
    assert found([part], [whole], masks=masks) == [whole]
    assert found([([70, 5, 100, 30], 0.7, 1)], [whole], masks=masks) == [([70, 5, 100, 30], 0.7, 1), whole]
    again = ([71, 5, 121, 30], 0.3, 1)  # what the part seems to be, says the same tile, but less surely
    assert found([part], [whole, again], masks=masks) == [whole, again]
    small = ([85, 12, 100, 22], 0.5, 1)  # lies on it
    assert found([small], [whole], masks=masks) == [whole, small]


@both
def test_parts_of_what_is_larger_than_the_overlap_are_one(masks: bool) -> None:
    one, other = ([20, 5, 100, 30], 0.6, 1), ([60, 6, 150, 31], 0.7, 1)
    assert found([one], [other], masks=masks) == [([20, 5, 150, 31], 0.7, 1)]


def test_the_mask_of_parts_is_all_that_they_set() -> None:
    parts = [on(LEFT, [([20, 5, 100, 30], 0.6, 1)], True), on(RIGHT, [([60, 8, 150, 33], 0.7, 1)], True)]
    torch.manual_seed(0)
    holed = (torch.rand(1, 28, 28) > 0.2).float()
    result = merged([replace(parts[0], mask_probs=holed), parts[1]], [LEFT, RIGHT], SIZE, RULE)
    assert isinstance(result.mask_probs, MaskParts)
    assert result.mask_probs.counts.tolist() == [2]
    alone = [replace(result, boxes=box[None], mask_probs=probabilities[None]) for box, probabilities in zip(
        result.mask_probs.boxes, result.mask_probs.probabilities, strict=True
    )]  # fmt: skip
    assert torch.equal(result.masks[0], alone[0].masks[0] | alone[1].masks[0])
    assert result.masks[0].sum() > max(each.masks.sum() for each in alone)


@both
def test_two_objects_at_a_seam_are_two(masks: bool) -> None:
    """One is cut and the other is not; of one class they meet, without being the same where both tiles look."""
    part, beside = ([40, 5, 100, 30], 0.9, 1), ([60, 28, 130, 60], 0.8, 1)
    assert found([part], [beside], masks=masks) == [part, beside]


def test_a_small_object_on_a_large_one_of_its_class_is_not_a_part_of_it() -> None:
    """With masks; boxes alone cannot tell it from one."""
    small, large = ([85, 40, 100, 55], 0.9, 1), ([66, 5, 150, 95], 0.8, 1)
    assert found([small], [large]) == [small, large]
    assert found([small], [large], masks=False) == [([66, 5, 150, 95], 0.9, 1)]


def test_a_part_with_nothing_beyond_stays() -> None:
    part = ([70, 5, 100, 30], 0.9, 1)
    assert found([part], []) == [part]
    assert found([], [([60, 5, 90, 30], 0.4, 0)]) == [([60, 5, 90, 30], 0.4, 0)]


def test_detections_of_one_tile_are_never_compared() -> None:
    """The model has suppressed what it means to: two that its NMS left stand, cut or not."""
    one, other = ([50, 5, 100, 50], 0.9, 1), ([60, 5, 100, 50], 0.8, 1)
    assert found([one, other], []) == [one, other]


def test_the_images_own_border_cuts_nothing() -> None:
    """Both reach the bottom, where the image ends; so they are whole views, which NMS compares."""
    one, other = ([62, 60, 97, 100], 0.7, 1), ([63, 60, 98, 100], 0.6, 1)
    assert found([one], [other]) == [one]


def test_parts_in_many_tiles_are_one_by_way_of_each_other() -> None:
    windows = [Window(left, 0, left + 100, 100) for left in (0, 60, 120)]
    boxes = [[10, 5, 100, 30], [60, 5, 160, 30], [120, 5, 210, 30]]
    parts = [on(window, [(box, 0.5, 1)], True) for window, box in zip(windows, boxes, strict=True)]
    result = merged(parts, windows, (100, 220), RULE)
    assert result.boxes.tolist() == [[10, 5, 210, 30]]
    assert result.mask_probs.counts.tolist() == [3]


@both
def test_the_whole_image_gives_what_no_tile_shows_whole(masks: bool) -> None:
    large, small = ([10, 5, 150, 90], 0.4, 1), ([5, 5, 40, 40], 0.9, 2)
    parts = [([10, 5, 100, 90], 0.9, 1)], [([60, 5, 150, 90], 0.8, 1)]
    assert found(*parts, [large, small], masks=masks) == [([10, 5, 150, 90], 0.9, 1)]
    assert found([], [], [small], masks=masks) == []  # the tile that shows it whole has not found it


def test_nothing_on_any_tile() -> None:
    assert found([], [], []) == found([], [], masks=False) == []


def test_the_mixed_kinds_of_rows_keep_their_order() -> None:
    """One in two parts among others in one: boxes, scores and masks belong together, best first."""
    plain = ([5, 40, 30, 60], 0.9, 0), ([120, 40, 140, 60], 0.1, 2)
    parts = ([20, 5, 100, 30], 0.6, 1), ([60, 5, 150, 30], 0.5, 1)
    result = merged(
        [on(LEFT, [plain[0], parts[0]], True), on(RIGHT, [parts[1], plain[1]], True)], [LEFT, RIGHT], SIZE, RULE
    )
    assert result.scores.tolist() == pytest.approx([0.9, 0.6, 0.1])
    assert result.mask_probs.counts.tolist() == [1, 2, 1]
    extents = [(m.nonzero().amin(0).tolist(), m.nonzero().amax(0).tolist()) for m in result.masks]
    for (low, high), box in zip(extents, result.boxes.tolist(), strict=True):
        assert low == pytest.approx([box[1], box[0]], abs=1)
        assert high == pytest.approx([box[3] - 1, box[2] - 1], abs=1)


def test_boxes_whose_last_pixel_is_inside_end_one_further() -> None:
    """Column 99 is the left tile's last: a box that ends in it is cut, and 97 is two pixels from the border."""
    windows = [LEFT, RIGHT]
    for x2, count in ((99, 1), (97, 1), (96, 2)):
        parts = [on(LEFT, [([70, 5, x2, 29], 0.9, 1)], True, 1), on(RIGHT, [([70, 5, 130, 29], 0.6, 1)], True, 1)]
        assert len(merged(parts, windows, SIZE, RULE)) == count
