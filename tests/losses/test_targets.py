"""Targets as callers give them: scaled to the network's pixels, or refused with image and object."""

import numpy as np
import pytest
import torch

from cascadezoo.errors import BadTarget, UsageError
from cascadezoo.losses.targets import checked_targets
from cascadezoo.modeling.preprocess import ResizedImage

from tiny import tiny

THREE = tiny(num_classes=3)
TWICE = ResizedImage(np.zeros((40, 60, 3), np.uint8), (20, 30), 2.0)


def good() -> dict[str, torch.Tensor]:
    mask = torch.zeros(1, 20, 30, dtype=torch.bool)
    mask[0, 5:10, 3:9] = True
    return {"boxes": torch.tensor([[3.0, 5, 9, 10]]), "labels": torch.tensor([2]), "masks": mask}


def test_boxes_and_masks_follow_the_image() -> None:
    found = checked_targets(good(), TWICE, 0, THREE)
    assert found.boxes.tolist() == [[6, 10, 18, 20]]
    assert found.masks is not None
    assert found.masks.windows.tolist() == [[6, 10, 18, 20]]
    (mask,) = found.masks.bitmaps(torch.tensor([0]))
    assert mask.shape == (40, 60)
    assert mask[10:20, 6:18].all()
    assert mask.sum() == 120
    assert found.crowd.tolist() == [False]


def test_boxes_are_those_of_the_publishers_pixels() -> None:
    # an image of 20 x 30 at a scale of 1.99 has 39.8 x 59.7 pixels, that is 40 x 60
    image = TWICE._replace(scale=1.99)
    paddle = checked_targets(good(), image, 0, tiny("cascade_mask_r50_fpn", "paddle"))
    torch.testing.assert_close(paddle.boxes, torch.tensor([[3, 5, 9, 10]]) * 1.99)
    # columns 3 to 8 and rows 5 to 9: the last pixels inside count
    detectron = checked_targets(good(), image, 0, tiny("cascade_mask_r50_fpn", "detectron"))
    torch.testing.assert_close(detectron.boxes, torch.tensor([[3, 5, 8, 9]]) * 1.99)


def test_boxes_follow_the_two_axes_each_by_its_own_scale() -> None:
    # 20 x 30 pixels to 40 x 90: mmdetection scales by 3 and 2, the sides that were achieved
    image = ResizedImage(np.zeros((40, 90, 3), np.uint8), (20, 30), 2.0)
    targets = checked_targets(good(), image, 0, THREE)
    assert targets.boxes.tolist() == [[9, 10, 27, 20]]
    assert targets.masks.windows.tolist() == [[9, 10, 27, 20]]


def test_masks_of_the_networks_own_size_stay_as_they_are() -> None:
    image = ResizedImage(np.zeros((20, 30, 3), np.uint8), (20, 30), 1.0)
    targets = checked_targets({**good(), "masks": good()["masks"].float()}, image, 0, THREE)
    assert torch.equal(targets.masks.bitmaps(torch.tensor([0])), good()["masks"].to(torch.uint8))
    assert targets.boxes.tolist() == [[3, 5, 9, 10]]


REAL = [torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int16, torch.int64, torch.float16, torch.float64]


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("value", [1, 255])
def test_p13_a_masks_type_and_level_change_nothing(dtype: torch.dtype, value: int) -> None:
    """Integers count where they are above 0, floating masks hold 0 and 1; a mask of 0 and 255 changed the loss."""
    masks = (good()["masks"] * value).to(dtype)
    if dtype.is_floating_point and value != 1:
        with pytest.raises(BadTarget, match=r"^image 3: floating masks hold 0 and 1, not 255: threshold them"):
            checked_targets({**good(), "masks": masks}, TWICE, 3, THREE)
        return
    found, plain = (checked_targets({**good(), "masks": m}, TWICE, 3, THREE).masks for m in (masks, good()["masks"]))
    assert torch.equal(found.pixels, plain.pixels)
    assert torch.equal(found.windows, plain.windows)


@pytest.mark.parametrize("value", [0.5, -1.0, 2.0, float("nan"), float("inf")])
def test_p13_floating_masks_between_are_refused(value: float) -> None:
    masks = good()["masks"].float()
    masks[0, 7, 7] = value
    with pytest.raises(BadTarget, match=rf"^image 0: floating masks hold 0 and 1, not {value:g}"):
        checked_targets({**good(), "masks": masks}, TWICE, 0, THREE)


@pytest.mark.parametrize("dtype", [*REAL, torch.float8_e4m3fn])
def test_p13_zeros_and_ones_of_any_type_are_masks_and_crowds(dtype: torch.dtype) -> None:
    given = good()
    given |= {"masks": given["masks"].float().to(dtype), "iscrowd": torch.ones(1).to(dtype)}
    found, plain = (checked_targets(each, TWICE, 0, THREE) for each in (given, good()))
    assert torch.equal(found.masks.pixels, plain.masks.pixels)
    assert found.crowd.tolist() == [True]


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64, torch.int8])
def test_labels_of_any_integers(dtype: torch.dtype) -> None:
    labels = good()["labels"]
    assert torch.equal(checked_targets({**good(), "labels": labels.to(dtype)}, TWICE, 0, THREE).labels, labels)
    with pytest.raises(BadTarget, match="label 3 is not in"):
        checked_targets({**good(), "labels": torch.tensor([3]).to(dtype)}, TWICE, 0, THREE)


def test_p13_negative_integers_are_background() -> None:
    masks = torch.where(good()["masks"], 7, -7)
    found, plain = (checked_targets({**good(), "masks": m}, TWICE, 0, THREE).masks for m in (masks, good()["masks"]))
    assert torch.equal(found.pixels, plain.pixels)


def test_a_resized_mask_has_the_nearest_pixels() -> None:
    # half as large: OpenCV takes columns 0, 2, 4, … and rows 0, 2, 4, …; of columns 3 to 8, rows 5 to 9 these are
    # the columns 4, 6, 8 and the rows 6, 8
    image = ResizedImage(np.zeros((10, 15, 3), np.uint8), (20, 30), 0.5)
    assert checked_targets(good(), image, 0, THREE).masks.windows.tolist() == [[2, 3, 5, 5]]


def test_a_network_without_masks_needs_none() -> None:
    given = {key: value for key, value in good().items() if key != "masks"}
    targets = checked_targets(given, TWICE, 0, tiny("cascade_r50_fpn", num_classes=3))
    assert targets.masks is None
    assert targets.single().masks is None
    assert targets.to(torch.device("meta")).masks is None


def test_labels_and_crowds() -> None:
    given = {
        "boxes": good()["boxes"].repeat(3, 1),
        "labels": torch.tensor([0, 2, 1], dtype=torch.int32),
        "masks": torch.cat((good()["masks"], ~good()["masks"], good()["masks"])),
        "iscrowd": torch.tensor([0, 1, 0]),
    }
    targets = checked_targets(given, TWICE, 0, THREE)
    assert (targets.labels.dtype, targets.labels.tolist()) == (torch.int64, [0, 2, 1])
    assert targets.crowd.tolist() == [False, True, False]
    single = targets.single()
    assert (single.labels.tolist(), single.crowd.tolist()) == ([0, 1], [False, False])
    assert (len(single.boxes), single.masks.windows.tolist()) == (2, [[6, 10, 18, 20]] * 2)
    there = targets.to(torch.device("meta"))
    assert {x.device.type for x in (there.boxes, there.labels, there.crowd, there.masks.pixels)} == {"meta"}


def test_a_network_of_one_stage_has_its_publishers_pixels_too() -> None:
    image = TWICE._replace(scale=2.0)
    targets = checked_targets(good(), image, 0, tiny("mask_r50_fpn", "detectron"))
    assert targets.boxes.tolist() == [[6, 10, 16, 18]]  # columns 3 to 8, rows 5 to 9, doubled


def test_no_objects_are_legal() -> None:
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "masks": torch.zeros(0, 20, 30)}
    masks = checked_targets(none, TWICE, 0, THREE).masks
    assert (masks.size, len(masks.windows), len(masks.pixels)) == ((40, 60), 0, 0)


@pytest.mark.parametrize(
    "box",
    [(-0.01, 5, 9, 10), (3, -0.01, 9, 10), (3, 5, 30.01, 10), (3, 5, 9, 20.01), (0, 0, 30, 20), (3, 5, 3.001, 5.001)],
)
def test_a_hundredth_of_a_pixel_outside_is_rounding(box: tuple[float, ...]) -> None:
    targets = checked_targets({**good(), "boxes": torch.tensor([box])}, TWICE, 0, THREE)
    torch.testing.assert_close(targets.boxes, 2 * torch.tensor([box]).float())


@pytest.mark.parametrize("box", [(-0.02, 5, 9, 10), (3, -0.02, 9, 10), (3, 5, 30.02, 10), (3, 5, 9, 20.02)])
def test_two_hundredths_are_not(box: tuple[float, ...]) -> None:
    with pytest.raises(BadTarget, match=r"image 0, object 0: .* lies outside its image of 30 x 20 pixels"):
        checked_targets({**good(), "boxes": torch.tensor([box])}, TWICE, 0, THREE)


@pytest.mark.parametrize("box", [(9, 5, 9, 10), (3, 5, 9, 5), (9, 5, 3, 10), (3, 10, 9, 5)])
def test_boxes_without_area(box: tuple[float, ...]) -> None:
    with pytest.raises(BadTarget, match="has no area"):
        checked_targets({**good(), "boxes": torch.tensor([box]).float()}, TWICE, 0, THREE)


def test_the_first_wrong_object_is_named() -> None:
    boxes = good()["boxes"].repeat(4, 1)
    given = {"boxes": boxes, "labels": torch.tensor([0, 1, 2, 0]), "masks": good()["masks"].repeat(4, 1, 1)}
    wrong = boxes.clone()
    wrong[1, 3], wrong[3, 0] = float("inf"), float("nan")
    with pytest.raises(BadTarget, match=r"^image 7, object 1: .* is not finite$"):
        checked_targets({**given, "boxes": wrong}, TWICE, 7, THREE)
    with pytest.raises(BadTarget, match=r"^image 7, object 2: label 3 is not in 0\.\.2 \(labels count from 0, with"):
        checked_targets({**given, "labels": torch.tensor([0, 1, 3, 4])}, TWICE, 7, THREE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"boxes": [[3.0, 5, 9, 10]]}, r"image 4: boxes must be a tensor of shape \(0, 4\), not \[\[3.0, 5, 9, 10\]\]"),
        ({"boxes": torch.tensor([[3.0, 5, 31, 10]])}, r"image 4, object 0: box \(3, 5, 31, 10\) lies outside"),
        ({"boxes": torch.tensor([[-1.0, 5, 9, 10]])}, "object 0: .* lies outside its image of 30 x 20"),
        ({"boxes": torch.tensor([[9.0, 5, 9, 10]])}, "object 0: .* has no area"),
        ({"boxes": torch.tensor([[3.0, float("nan"), 9, 10]])}, "object 0: .* is not finite"),
        ({"boxes": None}, "image 4: boxes must be a tensor of shape"),
        ({"labels": torch.tensor([3])}, r"image 4, object 0: label 3 is not in 0\.\.2"),
        ({"labels": torch.tensor([-1])}, "label -1"),
        ({"labels": torch.tensor([1.0])}, "labels must be integers"),
        ({"labels": torch.tensor([1, 2])}, r"labels must be a tensor of shape \(1,\)"),
        ({"masks": torch.zeros(1, 19, 30)}, r"masks must be a tensor of shape \(1, 20, 30\), not shape \(1, 19, 30\)"),
        ({"masks": None}, r"masks must be a tensor of shape \(1, 20, 30\), not nothing"),
        ({"iscrowd": torch.zeros(2)}, "iscrowd must be a tensor of shape"),
        ({"iscrowd": torch.tensor([0.5])}, "image 4: floating iscrowd holds 0 and 1, not 0.5"),
        ({"iscrowd": torch.tensor([float("nan")])}, "floating iscrowd holds 0 and 1, not nan"),
        ({"masks": torch.zeros(1, 20, 30).to_sparse()}, "image 4: masks must be a dense tensor of real numbers"),
        ({"masks": torch.zeros(1, 20, 30) * 1j}, "masks must be a dense tensor of real numbers"),
        ({"masks": np.zeros((1, 20, 30))}, r"masks must be a tensor of shape \(1, 20, 30\), not .{,80}$"),
        ({"boxes": torch.tensor([[3.0, 5, 9, 10]]) * (1 + 0j)}, "boxes must be a dense tensor of real numbers"),
        ({"labels": torch.tensor([1j])}, "labels must be a dense tensor of real numbers"),
    ],
)
def test_what_cannot_be_learned_is_named(change: dict, words: str) -> None:
    with pytest.raises(BadTarget, match=words):
        checked_targets({**good(), **change}, TWICE, 4, THREE)


def test_training_mode_wants_targets_and_predicts_nothing(mask_model) -> None:
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    mask_model.train()
    try:
        with pytest.raises(UsageError, match="needs targets"):
            mask_model([image])
        with pytest.raises(BadTarget, match="1 images with 0 targets"):
            mask_model([image], [])
        with pytest.raises(BadTarget, match="targets: give a list of dicts, one per image, not a dict"):
            mask_model([image], good())
        with pytest.raises(BadTarget, match="image 0: a target is a dict with boxes and labels, not null"):
            mask_model([image], [None])
        with pytest.raises(UsageError, match="training mode"):
            mask_model.predict(image)
    finally:
        mask_model.eval()


# --- masks as polygons ----------------------------------------------------------------------------------------------

CUTS, DRAWS = THREE, tiny("cascade_mask_r50_fpn", "paddle", num_classes=3)
SQUARE = [3.0, 5, 9, 5, 9, 10, 3, 10]


def polygons(*objects: object, crowd: tuple[int, ...] = ()) -> dict[str, object]:
    count = len(objects)
    return {
        "boxes": good()["boxes"].repeat(count, 1),
        "labels": good()["labels"].repeat(count),
        "iscrowd": torch.tensor([row in crowd for row in range(count)]),
        "masks": list(objects),
    }


def test_polygons_follow_the_image_where_targets_are_drawn() -> None:
    """An image of 20 x 30 pixels at Paddle's scale of 1.99, which is not rounded."""
    given = polygons([SQUARE, [0, 0, 1, 0, 0, 1]], [SQUARE])
    masks = checked_targets(given, TWICE._replace(scale=1.99), 0, DRAWS).masks
    assert masks.polygons.lengths.tolist() == [4, 3, 4]
    assert masks.polygons.objects.tolist() == [0, 0, 1]
    square = 1.99 * torch.tensor([[3.0, 5], [9, 5], [9, 10], [3, 10]], dtype=torch.float64)
    torch.testing.assert_close(masks.polygons.points[:4], square)
    torch.testing.assert_close(masks.polygons.points[-4:], square)
    assert masks.windows.tolist() == [[0, 0, 0, 0]] * 2


def test_polygons_are_bitmaps_where_targets_are_cropped() -> None:
    masks = checked_targets(polygons([SQUARE], [SQUARE, [20, 0, 22, 0, 22, 2, 20, 2]]), TWICE, 0, CUTS).masks
    assert masks.polygons is None
    assert masks.windows.tolist() == [[6, 10, 18, 20], [6, 0, 44, 20]]
    first = torch.tensor([0])
    assert torch.equal(masks.bitmaps(first), checked_targets(good(), TWICE, 0, CUTS).masks.bitmaps(first))
    assert masks.bitmaps(torch.tensor([1])).sum() == 12 * 10 + 4 * 4


def test_bitmaps_stay_bitmaps_where_targets_are_drawn() -> None:
    masks = checked_targets(good(), TWICE, 0, DRAWS).masks
    assert masks.polygons is None
    assert masks.windows.tolist() == [[6, 10, 18, 20]]


@pytest.mark.parametrize("spec", [CUTS, DRAWS], ids=["cropped", "drawn"])
def test_a_crowds_polygons_are_not_read(spec) -> None:
    rle = {"size": [20, 30], "counts": [600]}
    targets = checked_targets(polygons(rle, [SQUARE], None, crowd=(0, 2)), TWICE, 0, spec)
    single = targets.single()
    assert (len(targets.boxes), len(single.boxes), len(single.masks.windows)) == (3, 1, 1)
    target = single.masks.targets(single.boxes, torch.tensor([0]), 4, spec.objective.drawing, 0)
    assert target.all()  # the square fills its box


@pytest.mark.parametrize("spec", [CUTS, DRAWS], ids=["cropped", "drawn"])
def test_no_objects_have_no_polygons(spec) -> None:
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "masks": []}
    masks = checked_targets(none, TWICE, 0, spec).masks
    assert (masks.size, len(masks.windows), masks.polygons) == ((40, 60), 0, None)


@pytest.mark.parametrize(
    "polygon",
    [SQUARE, tuple(map(int, SQUARE)), np.array(SQUARE), np.array(SQUARE, np.float32), torch.tensor(SQUARE)],
    ids=["list", "tuple of int", "array", "float32", "tensor"],
)
def test_a_polygon_is_any_row_of_numbers(polygon: object) -> None:
    points = checked_targets(polygons([polygon]), TWICE, 0, DRAWS).masks.polygons.points
    assert points.tolist() == [[6, 10], [18, 10], [18, 20], [6, 20]]


THREE_PAIRS = "a polygon is x1, y1, x2, y2, …: at least three pairs of finite numbers"


@pytest.mark.parametrize(
    ("masks", "what"),
    [
        (None, "masks must be a list of polygons, not a NoneType"),
        ({"size": [20, 30], "counts": "abc"}, "masks must be a list of polygons, not a dict"),
        (torch.zeros(20, 30), "masks must be a list of polygons, not a Tensor"),
        ([], "masks have no polygon: give at least one, or leave the object out"),
        (SQUARE, f"masks: {THREE_PAIRS}"),  # a polygon where a list of them should be
        ([[]], f"masks: {THREE_PAIRS}"),
        ([SQUARE, [3, 5, 9, 5]], f"masks: {THREE_PAIRS}"),  # two points
        ([SQUARE[:7]], f"masks: {THREE_PAIRS}"),
        ([[[3, 5], [9, 5], [9, 10]]], f"masks: {THREE_PAIRS}"),  # pairs
        ([[[3, 5], [9, 5, 9]]], f"masks: {THREE_PAIRS}"),
        ([[3, 5, 9, 5, 9, float("nan")]], f"masks: {THREE_PAIRS}"),
        ([[3, 5, 9, 5, float("inf"), 10]], f"masks: {THREE_PAIRS}"),
        ([[3, 5, 9, 5, 9, None]], f"masks: {THREE_PAIRS}"),
        ([["3", "5", "9", "5", "9", "10"]], f"masks: {THREE_PAIRS}"),
        ([[True] * 6], f"masks: {THREE_PAIRS}"),
        ([[3, 5, 9, 5, 9, 10**30]], f"masks: {THREE_PAIRS}"),
        (["polygon"], f"masks: {THREE_PAIRS}"),
        ([[3, 5, 61, 5, 9, 10]], "masks: the point (61, 5) lies far outside its image of 30 x 20"),
        ([[3, 5, 9, 5, 9, -20.5]], "masks: the point (9, -20.5) lies far outside its image of 30 x 20"),
        ([SQUARE, [3, 5, 9, 5, 9e8, 10]], "masks: the point (9e+08, 10) lies far outside its image of 30 x 20"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("spec", [CUTS, DRAWS], ids=["cropped", "drawn"])
def test_bad_polygons_are_refused_naming_the_object(masks: object, what: str, spec) -> None:
    with pytest.raises(BadTarget) as caught:
        checked_targets(polygons([SQUARE], masks), TWICE, 4, spec)
    assert str(caught.value) == f"image 4, object 1: {what}"


def test_points_somewhat_outside_the_image_are_legal() -> None:
    """Outlines that people draw pass the border; up to a side of the image is no mistake that could be told."""
    edge = [-30, -20, 60, -20, 60, 40, -30, 40]
    whole = checked_targets(polygons([edge]), TWICE, 0, DRAWS).masks.polygons
    assert whole.points.tolist() == [[-60, -40], [120, -40], [120, 80], [-60, 80]]


def test_as_many_lists_of_polygons_as_boxes() -> None:
    with pytest.raises(BadTarget, match=r"^image 2: masks must hold a list of polygons per box, 1, not 2$"):
        checked_targets({**good(), "masks": [[SQUARE], [SQUARE]]}, TWICE, 2, DRAWS)


def test_masks_of_another_kind() -> None:
    with pytest.raises(BadTarget, match=r"masks must be a tensor of shape \(1, 20, 30\), not .polygon."):
        checked_targets({**good(), "masks": "polygon"}, TWICE, 2, DRAWS)


def test_polygons_of_a_network_without_masks_are_not_read() -> None:
    assert checked_targets({**good(), "masks": [None]}, TWICE, 0, tiny("cascade_r50_fpn", num_classes=3)).masks is None
