"""Flips, crops and scales worked by hand on images of a few pixels."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from cascadezoo.modeling.preprocess import resize
from cascadezoo.providers import SPECS
from cascadezoo.spec.conventions import ResizeStep
from cascadezoo.spec.model import ModelSpec
from cascadezoo.spec.recipe import Augmentation, Crop, Scales
from cascadezoo.training.augment import Augmented, Objects, augment

MMDET, DETECTRON = SPECS["mmdet"]["cascade_mask_r50_fpn"], SPECS["detectron"]["faster_r50_fpn"]
PADDLE, DETECTRON_MASKS = (SPECS[publisher]["cascade_mask_r50_fpn"] for publisher in ("paddle", "detectron"))
POLYGON = [np.array([[1, 1], [3, 1], [3, 4], [1, 4]], float)]  # columns 1 and 2, rows 1 to 3
RUNS = {"size": [4, 6], "counts": [5, 2, 17]}  # column 1, rows 1 and 2
BOXES = np.array([[1, 1, 3, 4], [1, 1, 2, 3]], np.float32)


def at(spec: ModelSpec, min_size: int, max_size: int = 1000) -> ModelSpec:
    preprocess = spec.preprocess.model_copy(update={"min_size": min_size, "max_size": max_size})
    return spec.model_copy(update={"preprocess": preprocess})


def numbered_image(height: int = 4, width: int = 6) -> np.ndarray:
    return np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)


def two_objects() -> Objects:
    return Objects(BOXES, (POLYGON, RUNS), (4, 6))


def boxes_only(boxes: np.ndarray, size: tuple[int, int] = (4, 6)) -> Objects:
    return Objects(boxes, None, size)


def bitmaps(augmented: Augmented) -> np.ndarray:
    assert augmented.masks is not None
    return augmented.masks.bitmaps(torch.arange(len(augmented.boxes))).numpy()


def dice() -> np.random.Generator:
    return np.random.default_rng(0)


def points(mask: np.ndarray) -> list[list[int]]:
    return np.argwhere(mask).tolist()


def test_as_it_is() -> None:
    same = augment(numbered_image(), two_objects(), Augmentation(flip=0), at(MMDET, 4), dice())
    assert (same.image.pixels == numbered_image()).all()
    assert same.boxes.tolist() == BOXES.tolist()
    square, runs = bitmaps(same)
    assert points(square) == [[y, x] for y in (1, 2, 3) for x in (1, 2)]
    assert points(runs) == [[1, 1], [2, 1]]
    assert same.kept.tolist() == [True, True]


def test_mirrored() -> None:
    """Of 6 columns, edge x goes to 6 - x and column c to 5 - c."""
    mirrored = augment(numbered_image(), two_objects(), Augmentation(flip=1), at(MMDET, 4), dice())
    assert (mirrored.image.pixels == numbered_image()[:, ::-1]).all()
    assert mirrored.boxes.tolist() == [[3, 1, 5, 4], [4, 1, 5, 3]]
    square, runs = bitmaps(mirrored)
    assert points(square) == [[y, x] for y in (1, 2, 3) for x in (3, 4)]
    assert points(runs) == [[1, 4], [2, 4]]
    assert square.dtype == np.uint8


def test_twice_as_large_masks_and_boxes_grow() -> None:
    grown = augment(numbered_image(), two_objects(), Augmentation(flip=0), at(MMDET, 8), dice())
    assert grown.image.size == (8, 12)
    assert grown.boxes.tolist() == (BOXES * 2).tolist()
    square, runs = bitmaps(grown)
    assert points(square) == [[y, x] for y in range(2, 8) for x in range(2, 6)]
    assert points(runs) == [[y, x] for y in range(2, 6) for x in (2, 3)]


def test_polygons_stay_polygons_where_targets_are_drawn() -> None:
    """Mirrored and at twice the size; the object that has runs instead has a bitmap, as ever."""
    grown = augment(numbered_image(), two_objects(), Augmentation(flip=1), at(PADDLE, 8), dice())
    assert grown.boxes.tolist() == [[6, 2, 10, 8], [8, 2, 10, 6]]
    outlines = grown.masks.polygons
    assert (outlines.lengths.tolist(), outlines.objects.tolist()) == ([4], [0])
    assert outlines.points.tolist() == [[10, 2], [6, 2], [6, 8], [10, 8]]
    first, second = bitmaps(grown)
    assert not first.any()
    assert points(second) == [[y, x] for y in range(2, 6) for x in (8, 9)]


def test_polygons_follow_the_publishers_step() -> None:
    """427 x 640 at 320: the columns are multiplied by 320 / 427, not by the 480 / 640 that they became."""
    polygon = [np.array([[0, 0], [640, 0], [640, 427]], float)]
    objects = Objects(np.array([[0, 0, 640, 427]], np.float32), (polygon,), (427, 640))
    scaled = augment(numbered_image(427, 640), objects, Augmentation(flip=0), at(PADDLE, 320, 533), dice())
    assert scaled.masks.polygons.points[2].tolist() == pytest.approx([640 * 320 / 427, 320])


def test_polygons_that_a_crop_leaves() -> None:
    """Of a crop of 4 x 4 pixels: the points beyond the image stay, the box is clipped and is full."""
    crop = Crop(probability=1, min_sizes=(4,), max_size=6, smallest=4, largest=4)
    whole = [np.array([[0, 0], [6, 0], [6, 4], [0, 4]], float)]
    objects = Objects(np.array([[0, 0, 6, 4]], np.float32), (whole,), (4, 6))
    cut = augment(numbered_image(), objects, Augmentation(flip=0, crop=crop), at(PADDLE, 4), dice())
    assert cut.boxes.tolist() == [[0, 0, 4, 4]]
    x, y = cut.masks.polygons.points.T
    assert (x.max() - x.min(), y.tolist()) == (6, [0, 0, 4, 4])
    targets = cut.masks.targets(torch.from_numpy(cut.boxes), torch.tensor([0]), 4, PADDLE.objective.drawing, 0)
    assert targets.all()


@pytest.mark.parametrize("flip", [0, 1])
def test_drawn_polygons_lie_to_their_box_as_before_they_were_mirrored(flip: int) -> None:
    """Detectron's boxes end at the last pixel, column 2, its outlines at the edge, 3; mirrored it takes one from both:
    the outline then begins one before the box."""
    drawn = augment(numbered_image(), two_objects(), Augmentation(flip=flip), at(DETECTRON_MASKS, 4), dice())
    assert drawn.boxes[0].tolist() == ([3, 1, 4, 3] if flip else [1, 1, 2, 3])
    x = drawn.masks.polygons.points[:, 0]
    assert (x.min(), x.max()) == ((2, 4) if flip else (1, 3))


def test_polygons_are_drawn_at_network_scale() -> None:
    """A triangle of half the square: seven times as large its edge has steps of one pixel, not of seven."""
    triangle = Objects(np.array([[0, 0, 4, 4]], np.float32), ([np.array([[0, 0], [4, 0], [0, 4]], float)],), (4, 4))
    grown = augment(numbered_image(4, 4), triangle, Augmentation(flip=0), at(MMDET, 28), dice())
    (mask,) = bitmaps(grown)
    widths = mask.sum(axis=1)
    assert np.abs(np.diff(widths.astype(int))).max() <= 2
    assert mask.sum() == pytest.approx(28 * 28 / 2, rel=0.05)


def test_images_are_resized_as_for_inference() -> None:
    image = np.random.default_rng(1).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    for spec in (at(MMDET, 64, 80), at(PADDLE, 64, 80), at(DETECTRON, 64, 80)):
        expected = resize(image, spec.preprocess, spec.conventions.resize)
        nothing = boxes_only(np.zeros((0, 4), np.float32), (37, 53))
        result = augment(image, nothing, Augmentation(flip=0), spec, dice()).image
        assert (result.pixels == expected.pixels).all()
        assert (result.scale, result.original_size) == (expected.scale, expected.original_size)


def test_boxes_scale_by_the_publishers_step() -> None:
    """427 x 640 at 320: 479.6 columns are rounded to 480, which only the achieved scale follows."""
    box = boxes_only(np.array([[0, 0, 320, 427]], np.float32), (427, 640))
    for spec, x in ((MMDET, 320 * 480 / 640), (PADDLE, 320 * 320 / 427)):
        assert (spec.conventions.resize.step is ResizeStep.ACHIEVED) == (spec is MMDET)
        scaled = augment(numbered_image(427, 640), box, Augmentation(flip=0), at(spec, 320, 533), dice())
        assert scaled.boxes[0].tolist() == pytest.approx([0, 0, x, 320])
        assert scaled.masks is None


@pytest.mark.parametrize("flip", [0, 1])
def test_last_pixels_where_the_extent_is_one(flip: int) -> None:
    """Edges 1..3 hold the columns 1 and 2, mirrored 3 and 4; at twice the size the publisher doubles these numbers."""
    scaled = augment(numbered_image(), boxes_only(BOXES[:1]), Augmentation(flip=flip), at(DETECTRON, 8), dice())
    x1, x2 = (3, 4) if flip else (1, 2)
    assert scaled.boxes.tolist() == [[2 * x1, 2, 2 * x2, 6]]


def test_boxes_at_the_border_stay_inside() -> None:
    whole = boxes_only(np.array([[0, 0, 53, 37]], np.float32), (37, 53))
    for spec in (at(MMDET, 50), at(PADDLE, 50), at(DETECTRON, 50)):
        scaled = augment(numbered_image(37, 53), whole, Augmentation(flip=1), spec, dice())
        height, width = scaled.image.size
        assert (scaled.boxes[0, 2:] <= [width, height]).all()
        assert (scaled.boxes[0, :2] == 0).all()


def shorter_sides(augmentation: Augmentation, draws: int = 200) -> set[int]:
    rng = dice()
    nothing = boxes_only(np.zeros((0, 4), np.float32))
    return {min(augment(numbered_image(), nothing, augmentation, MMDET, rng).image.size) for _ in range(draws)}


def test_scales_to_choose_from_and_ranges() -> None:
    assert shorter_sides(Augmentation(min_sizes=(6, 9), max_size=100)) == {6, 9}
    assert shorter_sides(Augmentation(min_sizes=(6, 9), max_size=100, scales=Scales.RANGE)) == {6, 7, 8, 9}
    assert shorter_sides(Augmentation(min_sizes=(8,), max_size=9)) == {6}  # 9 for the longer side


def test_flips_come_half_of_the_time() -> None:
    rng, flips = dice(), 0
    for _ in range(400):
        resized = augment(numbered_image(), two_objects(), Augmentation(), at(MMDET, 4), rng).image
        flips += int(resized.pixels[0, 0, 0] != 0)
    assert 160 < flips < 240  # four standard deviations


def test_crops_by_hand() -> None:
    """Every crop of 2 x 3 pixels: what it holds is where the image's own numbers say it was."""
    crop = Crop(min_sizes=(4,), max_size=100, smallest=2, largest=3, probability=1)
    augmentation, rng, kept_counts, sizes = Augmentation(flip=0, crop=crop), dice(), set(), set()
    for _ in range(300):
        cut = augment(numbered_image(), two_objects(), augmentation, at(MMDET, 2), rng)
        resized, kept = cut.image, cut.kept
        height, width = resized.original_size
        sizes.add((height, width))
        if resized.size != (height, width):
            continue  # scaled up after the crop
        top, left = divmod(int(resized.pixels[0, 0, 0]) // 3, 6)
        assert (resized.pixels == numbered_image()[top : top + height, left : left + width]).all()
        kept_counts.add(int(kept.sum()))
        boxes = [
            [max(x1 - left, 0), max(y1 - top, 0), min(x2 - left, width), min(y2 - top, height)]
            for x1, y1, x2, y2 in BOXES.tolist()
        ]
        inside = [x2 > x1 and y2 > y1 for x1, y1, x2, y2 in boxes]
        assert kept.tolist() == inside
        assert cut.boxes.tolist() == [box for box, ok in zip(boxes, inside, strict=True) if ok]
        masks = [np.zeros((4, 6), np.uint8), np.zeros((4, 6), np.uint8)]
        masks[0][1:4, 1:3], masks[1][1:3, 1] = 1, 1
        expected = [m[top : top + height, left : left + width] for m, ok in zip(masks, inside, strict=True) if ok]
        assert [mask.tolist() for mask in bitmaps(cut)] == [mask.tolist() for mask in expected]
    assert sizes == {(h, w) for h in (2, 3) for w in (2, 3)}
    assert kept_counts == {0, 1, 2}


def test_crops_are_half_of_the_time_and_never_larger_than_the_image() -> None:
    crop = Crop(min_sizes=(4,), max_size=100, smallest=3, largest=50)
    rng, cropped = dice(), 0
    for _ in range(300):
        resized = augment(numbered_image(), two_objects(), Augmentation(flip=0, crop=crop), at(MMDET, 4), rng).image
        height, width = resized.original_size
        assert 3 <= height <= 4
        assert 3 <= width <= 6
        cropped += (height, width) != (4, 6)
    assert 90 < cropped < 160  # half, except for 1 in 8 crops, which is the whole image


def test_an_object_without_a_mask_has_an_empty_one() -> None:
    same = augment(numbered_image(), Objects(BOXES[:1], (None,), (4, 6)), Augmentation(flip=0), at(MMDET, 4), dice())
    (mask,) = bitmaps(same)
    assert mask.shape == (4, 6)
    assert not mask.any()


@pytest.mark.parametrize(
    "fields",
    [
        {"flip": 1.5},
        {"min_sizes": (10,)},
        {"max_size": 10},
        {"min_sizes": (20,), "max_size": 10},
        {"min_sizes": (0,), "max_size": 10},
        {"crop": {"min_sizes": (10,), "max_size": 10, "smallest": 5, "largest": 4}},
        {"jitter": {"size": 10, "smallest": 2.0, "largest": 1.0}},
        {"jitter": {"size": 0}},
        {"jitter": {"size": 10}, "min_sizes": (10,), "max_size": 10},
        {"jitter": {"size": 10}, "crop": {"min_sizes": (10,), "max_size": 10, "smallest": 4, "largest": 5}},
    ],
)
def test_impossible_records(fields: dict) -> None:
    with pytest.raises(ValidationError):
        Augmentation(**fields)
