from dataclasses import replace

import numpy as np
import pytest
import torch

from cascadezoo.coco.categories import COCO
from cascadezoo.detections import Detections
from cascadezoo.errors import UsageError

GREY = 120


def found(boxes, scores, labels, size, masks=None):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Detections(boxes, torch.tensor(scores), torch.tensor(labels), size, mask_probs=masks)


def drawn(detections, level=GREY, **style):
    height, width = detections.image_size
    return np.asarray(detections.plot(np.full((height, width, 3), level, np.uint8), **style)).astype(int)


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
    assert (both[:, :180] == best[:, :180])[:198].all()  # the best keeps its place on the top edge, at the left, ...
    assert not changed(best)[188:198, 190:300].any()
    assert changed(both)[188:198, 240:300].all()  # ... the other goes to the right


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
    assert heights[2] > 1.8 * heights[0]


@pytest.mark.timeout(10)
def test_p14_a_thousand_boxes_are_drawn():
    """They took 15 s, now a fraction of one; the bound is for a return of that."""
    corners = torch.arange(1000, dtype=torch.float32)
    x, y = corners % 40 * 20, corners // 40 * 30
    boxes = torch.stack((x, y, x + 18, y + 28), 1).tolist()
    pixels = drawn(found(boxes, [0.9] * 1000, [0] * 1000, (800, 820)))
    touched = changed(pixels)
    assert all(touched[int(y1) : int(y2) + 1, int(x1) : int(x2) + 1].any() for x1, y1, x2, y2 in boxes)


OFF = {"boxes": False, "masks": False, "labels": False}


def masked(size=(400, 400), labels=(0,)):
    boxes = [[100, 100, 300, 300]] * len(labels)
    return found(boxes, [0.9] * len(labels), list(labels), size, torch.ones(len(labels), 28, 28))


def test_what_is_off_leaves_the_image_as_it_is():
    assert not changed(drawn(masked(), **OFF)).any()
    boxes = changed(drawn(masked(), **OFF | {"boxes": True}))
    assert boxes[100, 100:300].all()
    assert not boxes[110:290, 110:290].any()
    masks = changed(drawn(masked(), **OFF | {"masks": True}))
    assert masks[110:290, 110:290].all()
    assert not masks[:95].any()
    labels = changed(drawn(masked(), **OFF | {"labels": True}))
    assert labels[90:98, 105:140].all()
    assert not labels[102:].any()


def test_masks_are_not_even_pasted_where_they_are_not_drawn():
    def paste(*_):
        raise AssertionError("pasted")

    detections = replace(masked(), paste_method=paste)
    assert changed(drawn(detections, masks=False)).any()
    with pytest.raises(AssertionError, match="pasted"):
        drawn(detections)


@pytest.mark.parametrize(("opacity", "expected"), [(0, 0), (0.5, 0.5), (1, 1)])
def test_opacity_is_how_much_of_the_colour_is_mixed_in(opacity, expected):
    inside = np.array(colour_at(drawn(masked(), opacity=opacity), 200, 200))
    colour = np.array(colour_at(drawn(masked(), opacity=1), 200, 200))
    assert inside == pytest.approx(GREY + (colour - GREY) * expected, abs=1)


def test_the_outline_of_a_mask_covers_the_steps_of_its_tint():
    """A disc of 20 pixels on a picture of four times the image: along each ray from its middle the picture has its
    tint, its outline, and then nothing, at nearly the same distance all round."""
    y, x = np.mgrid[:28, :28] - 13.5
    disc = torch.from_numpy((np.hypot(y, x) < 14).astype(np.float32))[None]
    detections = found([[20, 20, 40, 40]], [0.9], [0], (60, 60), disc)
    pixels = drawn(detections, boxes=False, labels=False, scale=4)
    touched = changed(pixels)
    ends = []
    for angle in np.linspace(0, 2 * np.pi, 90, endpoint=False):
        at = [(119.5 + r * np.sin(angle), 119.5 + r * np.cos(angle)) for r in np.arange(0, 60, 0.5)]
        along = np.array([touched[round(row), round(column)] for row, column in at])
        ends.append(np.flatnonzero(along)[-1] / 2)
        assert along[: np.flatnonzero(along)[-1]].all()
    assert np.ptp(ends) < 4  # a pixel of the image
    assert np.mean(ends) == pytest.approx(40, abs=2)


def test_small_objects_are_drawn_over_large_ones_whatever_their_scores():
    boxes = [[100, 100, 300, 300], [180, 180, 220, 220]]
    detections = found(boxes, [0.9, 0.2], [3, 9], (400, 400), torch.ones(2, 28, 28))
    together = drawn(detections, boxes=False, labels=False, opacity=1)
    small = drawn(detections[1], boxes=False, labels=False, opacity=1)
    assert colour_at(together, 200, 200) == colour_at(small, 200, 200)


def test_colours_by_instance_differ_within_a_class():
    def hue(detections, **style):
        return [colour_at(drawn(detections, labels=False, **style), 200, x) for x in (20, 120, 220)]

    boxes = [[20, 150, 60, 250], [120, 150, 160, 250], [220, 150, 260, 250]]
    same = found(boxes, [0.9, 0.8, 0.7], [5, 5, 5], (400, 400))
    others = found(boxes, [0.9, 0.8, 0.7], [1, 2, 3], (400, 400))
    assert hue(same, color_by="instance") == hue(others, color_by="instance")
    colours = np.array(hue(same, color_by="instance"))
    assert min(np.abs(colours[i] - colours[j]).max() for i, j in ((0, 1), (0, 2), (1, 2))) > 80


def test_neighbours_of_a_class_have_different_shades():
    """Boxes in a row, each touching the next, in an order of scores that jumps about."""
    boxes = [[20 + 50 * place, 100, 68 + 50 * place, 200] for place in (0, 5, 2, 7, 4, 1, 6, 3)]
    pixels = drawn(found(boxes, [0.9 - 0.1 * n for n in range(8)], [4] * 8, (300, 460)), labels=False)
    edges = np.array([colour_at(pixels, 150, 20 + 50 * place) for place in range(8)])
    assert np.abs(np.diff(edges, axis=0)).max(axis=1).min() > 15


@pytest.mark.parametrize(("scale", "size"), [(2.5, (150, 125)), (0.5, (30, 25)), (0.01, (1, 1))])
def test_a_picture_may_be_larger_or_smaller_than_its_image(scale, size):
    detections = found([[10, 10, 40, 40]], [0.9], [0], (50, 60), torch.ones(1, 28, 28))
    picture = detections.plot(np.zeros((50, 60, 3), np.uint8), scale=scale)
    assert picture.size == size
    touched = changed(np.asarray(picture), 0)
    assert touched.any()
    if scale == 2.5:
        assert touched[30:95, 30:95].all()
        assert not touched[105:, 105:].any()


def test_a_picture_has_no_more_pixels_than_an_image_may_have(monkeypatch):
    monkeypatch.setenv("CASCADEZOO_MAX_IMAGE_PIXELS", "10000")
    with pytest.raises(UsageError, match="scale 4 makes a picture of 240 x 200 pixels, beyond 10,000"):
        drawn(found([], [], [], (50, 60)), scale=4)


@pytest.mark.parametrize(
    "box", [[50, 50, 50, 50], [50, 50, 50, 90], [90, 90, 50, 50], [500, 500, 600, 600], [-9, -9, -1, -1]]
)
def test_boxes_without_area_or_outside_are_no_error(box):
    masks = torch.ones(1, 28, 28)
    assert drawn(found([box], [0.9], [0], (100, 100), masks)).shape == (100, 100, 3)
