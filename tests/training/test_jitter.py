"""Large-scale jittering and the bounds of what it leaves, worked by hand."""

import numpy as np
import pytest
import torch

import cascadezoo
from cascadezoo.coco.segmentations import bitmap
from cascadezoo.loading import build
from cascadezoo.modeling.preprocess import resize_by
from cascadezoo.providers import SPECS
from cascadezoo.spec.model import ModelSpec
from cascadezoo.spec.recipe import Augmentation, ScaleJitter
from cascadezoo.training.augment import Augmented, Objects, augment
from cascadezoo.training.bounds import bounds
from cascadezoo.training.config import TrainingConfig
from cascadezoo.training.rehearsal import check_training

from learning import adamw, log, options
from tiny import tiny

VITDET, MMDET = SPECS["detectron2"]["cascade_mask_vitdet_b"], SPECS["mmdet"]["cascade_mask_r50_fpn"]
DETECTRON = SPECS["detectron"]["cascade_mask_r50_fpn"]
TRIANGLE = [np.array([[0, 0], [8, 0], [0, 4]], float)]  # its lower edge: y = 4 - x / 2
RUNS = {"size": [4, 8], "counts": [5, 2, 25]}  # column 1, rows 1 and 2
BOXES = np.array([[0, 0, 8, 4], [1, 1, 2, 3]], np.float32)


def fixed(size: int, factor: float, flip: float = 0) -> Augmentation:
    return Augmentation(flip=flip, jitter=ScaleJitter(size=size, smallest=factor, largest=factor))


def numbered_image(height: int = 4, width: int = 8) -> np.ndarray:
    return np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)


def cut(spec: ModelSpec, boxes: np.ndarray, masks: tuple, rng: np.random.Generator) -> tuple[Augmented, int]:
    """A cut of 4 x 4 from the numbered image of 4 x 8 at its own scale, and its first column."""
    result = augment(numbered_image(), Objects(boxes, masks, (4, 8)), fixed(4, 2.0), spec, rng)
    left = int(result.image.pixels[0, 0, 0]) // 3
    assert (result.image.pixels == numbered_image()[:, left : left + 4]).all()
    assert result.image.size == result.image.original_size == (4, 4)
    return result, left


def test_boxes_are_the_bounds_of_what_is_left_of_polygons() -> None:
    rng, seen = np.random.default_rng(0), set()
    for _ in range(60):
        result, left = cut(VITDET, BOXES, (TRIANGLE, RUNS), rng)
        seen.add(left)
        assert result.boxes[0].tolist() == [0, 0, 4, 4 - left / 2]  # of its box 4 would be left
        assert result.kept.tolist() == [True, left < 2]
        if left < 2:
            assert result.boxes[1].tolist() == [1 - left, 1, 2 - left, 3]
        assert result.masks.polygons.objects.tolist() == [0]
        assert len(result.masks.bitmaps(torch.arange(len(result.boxes)))) == len(result.boxes)
    assert seen == {0, 1, 2, 3, 4}


def test_boxes_are_the_bounds_of_what_is_left_of_bitmaps() -> None:
    """Where no targets are drawn from polygons, these become pixels first."""
    rng, whole = np.random.default_rng(1), bitmap(TRIANGLE, 4, 8)
    for _ in range(20):
        result, left = cut(MMDET, BOXES[:1], (TRIANGLE,), rng)
        part = whole[:, left : left + 4]
        (mask,) = result.masks.bitmaps(torch.tensor([0])).numpy()
        assert (mask == part).all()
        rows, columns = part.any(1).nonzero()[0], part.any(0).nonzero()[0]
        assert result.boxes[0].tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def test_an_object_of_which_only_the_box_is_left_is_gone() -> None:
    """Of a polygon at the left of its box nothing is in a cut that begins behind it, though the box is."""
    rng, narrow = np.random.default_rng(2), [np.array([[0, 0], [1, 0], [1, 4], [0, 4]], float)]
    for _ in range(20):
        result, left = cut(VITDET, BOXES[:1], (narrow,), rng)
        assert result.kept.tolist() == [left == 0]
        without, _ = cut(VITDET, BOXES[:1], (None,), rng)  # without a mask the box counts
        assert without.boxes.tolist() == [[0, 0, 4, 4]]
        boxes, left = cut(VITDET, BOXES[1:], None, rng)
        assert boxes.masks is None
        assert boxes.boxes.tolist() == [[1 - left, 1, 2 - left, 3]][: left < 2]


def test_last_pixels_where_the_extent_is_one() -> None:
    result, _ = cut(DETECTRON, BOXES[:1], (None,), np.random.default_rng(0))
    assert result.boxes.tolist() == [[0, 0, 3, 3]]


def test_the_same_part_is_cut_off_in_both_directions() -> None:
    rng, seen = np.random.default_rng(3), set()
    nothing = Objects(np.zeros((0, 4), np.float32), None, (8, 8))
    for _ in range(60):
        top, left = divmod(
            int(augment(numbered_image(8, 8), nothing, fixed(4, 2.0), VITDET, rng).image.pixels[0, 0, 0]) // 3, 8
        )
        assert top == left
        seen.add(top)
    assert seen == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("factor", "size", "shown"),
    [
        (1.3, (888, 1331), (888, 1024)),  # 427 * 2.08 = 888.16, 1024 * 1.3 = 1331.2
        (2.0, (1366, 2048), (1024, 1024)),  # 1366.4
        (0.1, (68, 102), (68, 102)),  # 68.32, 102.4; the network pads
    ],
)
def test_sizes_at_1024(factor: float, size: tuple[int, int], shown: tuple[int, int]) -> None:
    image = np.random.default_rng(4).integers(0, 256, (427, 640, 3), dtype=np.uint8)
    scaled = resize_by(image, 1024 * factor / 640, VITDET.conventions.resize)
    assert scaled.size == size
    box = Objects(np.array([[0, 0, 640, 427]], np.float32), None, (427, 640))
    result = augment(image, box, fixed(1024, factor), VITDET, np.random.default_rng(5))
    assert result.image.size == shown
    assert result.boxes.tolist() == [[0, 0, shown[1], shown[0]]]
    _, _, fraction = np.random.default_rng(5).random(3)  # the flip, the factor
    top, left = (round(max(0, side - 1024) * fraction) for side in size)
    assert (result.image.pixels == scaled.pixels[top : top + 1024, left : left + 1024]).all()
    mirrored = augment(image, box, fixed(1024, factor, flip=1), VITDET, np.random.default_rng(5)).image
    again = resize_by(np.ascontiguousarray(image[:, ::-1]), 1024 * factor / 640, VITDET.conventions.resize).pixels
    assert (mirrored.pixels == again[top : top + 1024, left : left + 1024]).all()


def test_factors_are_spread_evenly() -> None:
    rng, wide = np.random.default_rng(6), Augmentation(jitter=ScaleJitter(size=100, smallest=0.1, largest=0.9))
    nothing = Objects(np.zeros((0, 4), np.float32), None, (4, 8))
    sides = [augment(numbered_image(), nothing, wide, VITDET, rng).image.size[1] for _ in range(400)]
    assert (min(sides), max(sides)) == (10, 90)
    assert np.mean(sides) == pytest.approx(50, abs=4 * 80 / 12**0.5 / 400**0.5)


def test_bounds_of_polygons_by_hand() -> None:
    """In an image of 10 x 10; polygons that reach beyond it by any side, around it, or past it."""
    around = np.array([[-5, -5], [20, -5], [20, 20], [-5, 20]], float)
    assert bounds([around], 10, 10).tolist() == [0, 0, 10, 10]
    diamond = np.array([[5, -5], [15, 5], [5, 15], [-5, 5]], float)  # cuts no corner off
    assert bounds([diamond], 10, 10).tolist() == [0, 0, 10, 10]
    corner = np.array([[8, 12], [12, 12], [12, 8]], float)  # only touches (10, 10)
    assert bounds([corner], 10, 10).tolist() == [0, 0, 0, 0]
    past = np.array([[-4, 2], [-1, 2], [-1, 8], [-4, 8]], float)
    along = np.array([[-4, 2], [0, 2], [0, 8], [-4, 8]], float)  # shares an edge with the image
    inside = np.array([[2, 3], [4, 3], [4, 6]], float)
    assert bounds([past, along, inside], 10, 10).tolist() == [2, 3, 4, 6]
    # an L around the image's first corner, with its two ends in the image: nothing is seen of the corner
    bent = np.array([[-2, -2], [6, -2], [6, 1], [4, 1], [4, -1], [-1, -1], [-1, 4], [1, 4], [1, 6], [-2, 6]], float)
    assert bounds([bent], 10, 10).tolist() == [0, 0, 6, 6]
    assert bounds([bent[:6][[0, 1, 2, 3, 4, 5]]], 10, 10).tolist() == [4, 0, 6, 1]
    assert bounds([], 10, 10).tolist() == [0, 0, 0, 0]
    assert bounds(torch.zeros(10, 10, dtype=torch.uint8), 10, 10).tolist() == [0, 0, 0, 0]


def clipped(polygon: np.ndarray, size: float) -> np.ndarray:
    """A convex polygon's part in the square, side after side (Sutherland and Hodgman 1974)."""
    for axis, limit, sign in ((0, 0, 1), (0, size, -1), (1, 0, 1), (1, size, -1)):
        kept = []
        for start, end in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            a, b = sign * (start[axis] - limit), sign * (end[axis] - limit)
            if a >= 0:
                kept.append(start)
            if a * b < 0:
                kept.append(start + (end - start) * a / (a - b))
        polygon = np.array(kept).reshape(-1, 2)
    return polygon


def test_bounds_of_any_triangles() -> None:
    rng, seen = np.random.default_rng(7), 0
    for _ in range(500):
        triangles = rng.uniform(-6, 16, (2, 3, 2))
        parts = np.concatenate([clipped(triangle, 10) for triangle in triangles])
        expected = [*parts.min(axis=0), *parts.max(axis=0)] if len(parts) else [0] * 4
        assert bounds(list(triangles), 10, 10) == pytest.approx(expected, abs=1e-5)
        seen += len(parts) > 0
    assert 300 < seen < 500


@pytest.mark.usefixtures("one_thread")
def test_a_run_with_jittered_images(drawn, tmp_path) -> None:
    """ViTDet's square takes every image; losses and gradients are finite, and the check before says what comes."""
    torch.manual_seed(0)
    model = build(tiny("cascade_mask_vitdet_b", "detectron2", num_classes=3))
    jitter = Augmentation(jitter=ScaleJitter(size=96))
    recipe = adamw(1e-4, epochs=2).model_copy(update={"augmentation": jitter})
    config = TrainingConfig(**options(drawn, tmp_path / "run", batch_size=2, log_every=1))
    said = "\n".join(check_training(config, model=model, recipe=recipe))
    assert "longer side of the images 10 to 192 pixels, cut to 96; in evaluations shorter side 64, at most 96" in said
    cascadezoo.train(config, model=model, recipe=recipe)
    steps = log(tmp_path / "run", "steps")
    assert len(steps) == 4
    assert all(np.isfinite([step["grad_norm"], *step["losses"].values()]).all() for step in steps)
