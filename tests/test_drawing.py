import numpy as np
import pytest
import torch

from cascadezoo.coco.categories import COCO
from cascadezoo.detections import Detections

GREY = 120


def found(boxes, scores, labels, size, masks=None):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Detections(boxes, torch.tensor(scores), torch.tensor(labels), size, mask_probs=masks)


def drawn(detections, level=GREY):
    height, width = detections.image_size
    return np.asarray(detections.plot(np.full((height, width, 3), level, np.uint8))).astype(int)


def changed(pixels, level=GREY):
    return (pixels != level).any(axis=2)


def colour_at(pixels, row, column):
    return tuple(pixels[row, column].tolist())


def test_nothing_found_leaves_the_picture():
    assert not changed(drawn(found([], [], [], (50, 60)))).any()


def test_a_box_is_drawn_on_its_edges_only():
    touched = changed(drawn(found([[100, 150, 400, 350]], [0.9], [0], (500, 500))))
    assert touched[150:350, [100, 400]].all()
    assert touched[[150, 350], 100:400].all()
    assert not touched[160:340, 110:390].any()
    assert not touched[:100].any()
    assert not touched[:, 410:].any()


def test_the_tag_sits_on_the_box_or_inside_where_there_is_no_room():
    above = changed(drawn(found([[100, 150, 400, 350]], [0.9], [0], (500, 500))))
    assert above[142, 102:140].all()  # on the top edge, from the left
    inside = changed(drawn(found([[0, 0, 499, 499]], [0.9], [0], (500, 500))))
    assert inside[5, 2:40].all()


@pytest.mark.parametrize("box", [[480, 470, 498, 498], [-40, -40, 10, 10], [470, 0, 700, 900], [250, 499, 251, 499]])
def test_tags_stay_inside_the_picture(box):
    whole = changed(drawn(found([[200, 200, 300, 300]], [0.5], [COCO.index("potted plant")], (500, 500))))
    at_edge = changed(drawn(found([box], [0.5], [COCO.index("potted plant")], (500, 500))))
    tag = whole[:195].sum()  # the tag alone, cut above the box
    assert at_edge.sum() >= tag > 500


def test_a_mask_tints_its_pixels_and_no_others():
    pixels = drawn(found([[100, 100, 300, 300]], [0.9], [0], (400, 400), torch.ones(1, 28, 28)))
    inside, outside = pixels[150:250, 150:250], pixels[320:, :]
    assert (inside == inside[0, 0]).all()
    assert 0 < np.abs(inside[0, 0] - GREY).max() < 90  # seen through
    assert (outside == GREY).all()


def test_the_best_is_drawn_last():
    boxes = [[100, 100, 300, 300], [100, 100, 300, 300]]
    together = drawn(found(boxes, [0.3, 0.9], [1, 2], (400, 400)))
    best_alone = drawn(found(boxes[1:], [0.9], [2], (400, 400)))
    assert colour_at(together, 200, 100) == colour_at(best_alone, 200, 100)


def test_colours_follow_the_label_whatever_the_picture():
    edge = [
        colour_at(drawn(found([[50, 50, 150, 150]], [0.9], [label], size)), 100, 50)
        for label in range(80)
        for size in ((200, 200),)
    ]
    assert len(set(edge)) == 80
    larger = drawn(found([[50, 50, 150, 150]], [0.4], [7], (220, 260)), level=3)
    assert colour_at(larger, 100, 50) == edge[7]


def test_two_of_a_label_can_be_told_apart():
    pixels = drawn(found([[20, 50, 80, 150], [120, 50, 180, 150]], [0.9, 0.8], [0, 0], (200, 200)))
    first, second = (np.array(colour_at(pixels, 100, column)) for column in (20, 120))
    assert np.abs(first - second).max() > 20


@pytest.mark.parametrize("label", range(0, 80, 7))
def test_tags_can_be_read(label):
    tag = drawn(found([[100, 150, 400, 350]], [0.9], [label], (500, 500)))[137:148, 102:130] / 255
    linear = np.where(tag <= 0.04045, tag / 12.92, ((tag + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert (luminance.max() + 0.05) / (luminance.min() + 0.05) > 4.5  # WCAG 2, level AA


def test_tags_keep_clear_of_each_other():
    boxes = [[100, 200, 300, 300], [102, 201, 301, 299]]
    best = drawn(found(boxes[:1], [0.9], [0], (500, 500)))
    both = drawn(found(boxes, [0.9, 0.8], [0, 0], (500, 500)))
    assert (both[:198] == best[:198]).all()  # the best keeps its place on the top edge, ...
    assert not changed(best)[203:212, 104:150].any()
    assert changed(both)[203:212, 104:150].all()  # ... the other goes inside the box


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (8, 8), (20, 300)])
def test_any_size_of_picture(size):
    height, width = size
    masks = torch.ones(2, 28, 28)
    two = found([[0, 0, width, height], [0.2, 0.2, 0.4, 0.4]], [0.9, 0.1], [0, 1], size, masks)
    picture = two.plot(np.zeros((height, width, 3), np.uint8))
    assert picture.size == (width, height)


def test_text_grows_with_the_picture():
    heights = []
    for side in (300, 1000, 2000):
        touched = changed(drawn(found([[0, side // 2, side // 2, side - 1]], [0.9], [0], (side, side))))
        heights.append(int(touched[: side // 2 - side // 200, 1].sum()))
    assert 10 <= heights[0] < 20
    assert heights[0] < heights[1] < heights[2]
    assert heights[2] > 3 * heights[0]


@pytest.mark.timeout(10)
def test_p14_a_thousand_boxes_are_drawn():
    """They took 15 s, now a fraction of one; the bound is for a return of that."""
    corners = torch.arange(1000, dtype=torch.float32)
    x, y = corners % 40 * 20, corners // 40 * 30
    boxes = torch.stack((x, y, x + 18, y + 28), 1).tolist()
    pixels = drawn(found(boxes, [0.9] * 1000, [0] * 1000, (800, 820)))
    touched = changed(pixels)
    assert all(touched[int(y1) : int(y2) + 1, int(x1) : int(x2) + 1].any() for x1, y1, x2, y2 in boxes)
