"""Sizes and padding worked by hand; OpenCV's resize is proven by the parity cases."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import cascadezoo
from cascadezoo.errors import UsageError
from cascadezoo.modeling.preprocess import collate, image_scale, padded_size, plan, resize
from cascadezoo.providers import SPECS
from cascadezoo.spec.conventions import Resize
from cascadezoo.spec.model import PreprocessSpec

MMDET, PADDLE = SPECS["mmdet"]["cascade_r50_fpn"], SPECS["paddle"]["cascade_r50_fpn"]
DETECTRON, VITDET = SPECS["detectron"]["faster_r50_fpn"], SPECS["detectron2"]["cascade_mask_vitdet_b"]
DETECTRON2, VITDET_SWIN = SPECS["detectron2"]["cascade_mask_r50_fpn"], SPECS["detectron2"]["cascade_mask_swin_b"]
SPEC, RULE = MMDET.preprocess, MMDET.conventions.resize
QUICK = SPEC.model_copy(update={"min_size": 320, "max_size": 533})


@pytest.mark.parametrize(
    ("spec", "size", "expected"),
    [
        (SPEC, (427, 640), (800, 1199)),
        (SPEC, (640, 481), (1064, 800)),
        (QUICK, (427, 640), (320, 480)),
        (QUICK, (375, 500), (320, 427)),
        (QUICK, (640, 481), (426, 320)),
        (SPEC, (1, 1), (800, 800)),
        (SPEC, (1, 4000), (1, 1333)),  # 1 * 1333 / 4000 rounds to zero: kept at one pixel
        (SPEC, (6000, 4000), (1200, 800)),
    ],
)
def test_target_size(spec, size, expected) -> None:
    assert resize(np.zeros((*size, 3), np.uint8), spec, RULE).size == expected


def test_nominal_scale_and_what_bounds_boxes() -> None:
    """427 x 640 at 320/533: s = 320 / 427, and 640 * s = 479.6."""
    image, scale = np.zeros((427, 640, 3), np.uint8), 320 / 427
    resized = ((DETECTRON, (320, 480)), (MMDET, (320, 480)), (DETECTRON2, (320, 480)))
    for spec, bounds in ((PADDLE, (320, 640 * scale)), *resized):
        quick = spec.preprocess.model_copy(update={"min_size": 320, "max_size": 533})
        resized = resize(image, quick, spec.conventions.resize)
        assert resized.size == (320, 480)
        batch = collate([resized], quick, spec.conventions.resize, torch.device("cpu"), torch.float32)
        assert batch.sizes[0].tolist() == pytest.approx(bounds)
        achieved = spec in (MMDET, DETECTRON2)
        assert batch.scales[0].tolist() == pytest.approx([480 / 640 if achieved else scale, scale])
        assert batch.original_sizes.tolist() == [[427, 640]]


@pytest.mark.parametrize(
    ("spec", "size", "expected"),
    [
        (DETECTRON, (427, 640), (320, 480)),  # 640 * 320 / 427 = 479.6
        (DETECTRON, (640, 961), (320, 480)),  # 480.5: half to even
        (DETECTRON, (640, 963), (320, 482)),  # 481.5: half to even
        (MMDET, (427, 640), (320, 480)),
        (MMDET, (640, 961), (320, 481)),  # half up
        (MMDET, (640, 963), (320, 482)),
        (MMDET, (961, 640), (481, 320)),
        (DETECTRON, (961, 640), (480, 320)),
        (MMDET, (481, 640), (320, 426)),  # 425.8
    ],
)
def test_sides_are_whole_pixels_again_in_a_batch(spec, size, expected) -> None:
    quick = spec.preprocess.model_copy(update={"min_size": 320, "max_size": 533})
    resized = resize(np.zeros((*size, 3), np.uint8), quick, spec.conventions.resize)
    assert resized.size == expected
    batch = collate([resized], quick, spec.conventions.resize, torch.device("cpu"), torch.float32)
    assert batch.resized_sizes.tolist() == [list(expected)]


def test_a_side_that_rounds_to_no_pixel_is_one_pixel_and_is_resized_by_the_sides() -> None:
    """At half the scale 1 pixel is 0.5, to even 0: OpenCV would refuse.  2 pixels are 1, and 5 are 2.5, to even 2."""
    half = DETECTRON.preprocess.model_copy(update={"min_size": 1, "max_size": 10})
    rule = DETECTRON.conventions.resize
    assert resize(np.zeros((2, 5, 3), np.uint8), half, rule).size == (1, 2)
    limited = DETECTRON.preprocess.model_copy(update={"min_size": 5, "max_size": 5})
    assert resize(np.zeros((1, 10, 3), np.uint8), limited, rule).size == (1, 5)


def test_the_limit_holds_from_one_pixel_beyond() -> None:
    # 100 x 200 at 50: the longer side is 100
    for limit, scale in ((101, 0.5), (100, 0.5), (99, 99 / 200)):
        spec = SPEC.model_copy(update={"min_size": 50, "max_size": limit})
        assert image_scale(100, 200, spec, RULE) == image_scale(200, 100, spec, RULE) == scale


@pytest.mark.parametrize(
    ("sides", "size", "expected"),
    [
        ((800, 1333), (427, 640), (800, 1199)),
        ((800, 1333), (640, 481), (1064, 800)),
        ((800, 1333), (6, 124), (64, 1333)),  # 64.5 less its last bit; 6 * 1333 / 124 is 64.5 itself
        ((800, 1333), (11, 22), (666, 1333)),  # 666.5 less its last bit
        ((800, 1333), (11, 682), (21, 1333)),
        ((1024, 1024), (427, 640), (683, 1024)),
        ((1024, 1024), (1, 4000), (1, 1024)),  # 0.26 rounds to no pixel: kept at one
        ((512, 512), (640, 481), (512, 385)),
        ((512, 512), (500, 500), (512, 512)),
    ],
)
def test_sides_that_are_scaled_twice(sides, size, expected) -> None:
    """At the limit the scaled sides, in floating point, are scaled again: half pixels need not be halves any more."""
    quick = DETECTRON2.preprocess.model_copy(update={"min_size": sides[0], "max_size": sides[1]})
    rule = DETECTRON2.conventions.resize
    for given, wanted in ((size, expected), (size[::-1], expected[::-1])):
        assert plan(np.zeros((*given, 3), np.uint8), quick, rule).size == wanted
    once = rule.model_copy(update={"scaled_twice": False})
    differs = size in ((6, 124), (11, 22), (11, 682))
    assert (plan(np.zeros((*size, 3), np.uint8), quick, once).size != expected) == differs


def by_pillow(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pillow's bilinear resize as its ``src/libImaging/Resample.c`` computes it: a triangle as wide as two pixels of
    the result, weights of 22 bits, whole levels between the two passes; columns first, as Pillow before 13.0."""
    for axis in (1, 0):
        step = image.shape[axis] / size[axis]
        reach = max(step, 1.0)
        rows = []
        for i in range(size[axis]):
            centre = (i + 0.5) * step
            first, last = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), image.shape[axis])
            weights = [max(0.0, 1 - abs((x - centre + 0.5) * (1 / reach))) for x in range(first, last)]
            whole = [math.floor(0.5 + weight * (1 / sum(weights)) * 2**22) for weight in weights]
            pixels = image.take(range(first, last), axis).astype(np.int64)
            shape = [-1 if a == axis else 1 for a in range(3)]
            rows.append((2**21 + (pixels * np.reshape(whole, shape)).sum(axis)) >> 22)
        image = np.stack(rows, axis).clip(0, 255).astype(np.uint8)
    return image


@pytest.mark.parametrize("size", [(90, 60), (61, 97), (128, 33), (33, 200), (7, 5), (90, 8)])
def test_pillows_resize_is_a_mean_over_all_that_a_pixel_covers(size: tuple[int, int]) -> None:
    image = np.random.default_rng(size).integers(0, 256, (*size, 3), dtype=np.uint8)
    for short in (8, 40, 60, 97):
        quick = DETECTRON2.preprocess.model_copy(update={"min_size": short, "max_size": 3 * short})
        resized = resize(image, quick, DETECTRON2.conventions.resize)
        assert resized.pixels.dtype == np.uint8
        np.testing.assert_array_equal(resized.pixels, by_pillow(image, resized.size))


@pytest.mark.parametrize(
    "change",
    [{"float32": True}, {"step": "nominal"}, {"interpolation": "linear", "step": "nominal"}, {"rounded_limit": True}],
)
def test_rules_that_exclude_each_other(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"Pillow resizes whole levels|sides that are scaled twice"):
        Resize.model_validate(DETECTRON2.conventions.resize.model_dump() | change)


def test_padding_bounds_boxes_where_the_publisher_has_it_so() -> None:
    quick = DETECTRON.preprocess.model_copy(update={"min_size": 320, "max_size": 533})
    rule = DETECTRON.conventions.resize
    resized = resize(np.zeros((640, 481, 3), np.uint8), quick, rule)
    assert resized.size == (426, 320)
    assert collate([resized], quick, rule, torch.device("cpu"), torch.float32).sizes.tolist() == [[448, 320]]


def test_the_limit_of_the_longer_side_may_be_compared_after_rounding() -> None:
    # 600 x 1000 at 800: the longer side would be 1333.33, which is 1333 when rounded
    assert image_scale(600, 1000, SPEC, RULE) == 1333 / 1000
    assert image_scale(600, 1000, SPEC, DETECTRON.conventions.resize) == 800 / 600
    # 31 x 52 at 50: 83.87 is 84, beyond 83
    small = SPEC.model_copy(update={"min_size": 50, "max_size": 83})
    assert image_scale(31, 52, small, DETECTRON.conventions.resize) == 83 / 52


@pytest.mark.parametrize("spec", [MMDET, PADDLE, DETECTRON, DETECTRON2])
@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (3, 2000)])
def test_no_side_falls_below_a_pixel(spec, size) -> None:
    resized = resize(np.full((*size, 3), 9, np.uint8), spec.preprocess, spec.conventions.resize)
    assert min(resized.size) >= 1
    np.testing.assert_allclose(resized.pixels, 9, rtol=1e-5)


def test_padding_rounds_up() -> None:
    assert padded_size((800, 1199), SPEC) == (800, 1216)
    assert padded_size((1, 33), SPEC) == (32, 64)


def test_batch_is_normalised_then_padded_with_zeros() -> None:
    small, large = np.full((10, 20, 3), 255, np.uint8), np.zeros((40, 20, 3), np.uint8)
    spec = SPEC.model_copy(update={"min_size": 32, "max_size": 64})
    batch = collate(
        [resize(small, spec, RULE), resize(large, spec, RULE)], spec, RULE, torch.device("cpu"), torch.float32
    )
    assert batch.pixels.shape == (2, 3, 64, 64)
    assert batch.sizes.tolist() == [[32, 64], [64, 32]]
    assert batch.scales.tolist() == [pytest.approx([3.2, 3.2]), pytest.approx([1.6, 1.6])]
    red = (255 - 123.675) / 58.395
    assert batch.pixels[0, 0, 0, 0].item() == pytest.approx(red, rel=1e-6)
    assert (batch.pixels[0, :, 32:] == 0).all()
    assert (batch.pixels[1, :, :, 32:] == 0).all()
    assert batch.pixels[1, 2, 63, 31].item() == pytest.approx(-103.53 / 57.375, rel=1e-6)


SQUARE = VITDET.preprocess.model_copy(update={"min_size": 96, "max_size": 128})


@pytest.mark.parametrize("size", [(128, 128), (96, 128), (128, 40), (1, 1)])
def test_every_image_is_padded_to_the_square(size) -> None:
    assert padded_size(size, SQUARE) == (128, 128)


def test_a_square_is_padded_with_zeros_after_normalising_and_bounds_no_box() -> None:
    image, rule = np.full((30, 60, 3), 200, np.uint8), VITDET.conventions.resize
    batch = collate([resize(image, SQUARE, rule)], SQUARE, rule, torch.device("cpu"), torch.float32)
    assert batch.pixels.shape == (1, 3, 128, 128)
    assert batch.sizes.tolist() == [[64, 128]]  # 60 is scaled to 128, which 96 for 30 would pass
    level = (200 - torch.tensor(SQUARE.mean)) / torch.tensor(SQUARE.std)
    torch.testing.assert_close(batch.pixels[0, :, :64], level[:, None, None].expand(3, 64, 128))
    assert not batch.pixels[0, :, 64:].any()


@pytest.mark.parametrize("size", [(129, 128), (64, 160)])
def test_what_a_square_would_crop_is_refused(size) -> None:
    message = f"an image of {size[0]} x {size[1]} pixels at network scale does not fit into the square of 128"
    with pytest.raises(UsageError, match=message):
        padded_size(size, SQUARE)


def test_images_of_a_larger_scale_than_the_networks_square_are_refused_in_a_batch() -> None:
    rule, larger = VITDET.conventions.resize, SQUARE.model_copy(update={"min_size": 160, "max_size": 160})
    resized = resize(np.zeros((50, 50, 3), np.uint8), larger, rule)
    with pytest.raises(UsageError, match="take smaller scales, or load it with a larger max_size"):
        collate([resized], SQUARE, rule, torch.device("cpu"), torch.float32)


@pytest.mark.parametrize(
    ("spec", "side", "padded"),
    [
        *((VITDET, side, side) for side in (1024, 1000, 720, 528, 512)),
        *((VITDET_SWIN, side, padded) for side, padded in ((1024, 1024), (1000, 1024), (720, 736), (528, 544))),
    ],
)
def test_the_side_of_a_square_is_any_but_under_an_fpn_a_multiple_of_32(spec, side, padded) -> None:
    """What the rounded square holds is not cut, so it is taken, and nothing larger."""
    square = PreprocessSpec.model_validate({**spec.preprocess.model_dump(), "min_size": side, "max_size": side})
    for size in ((side, side), (1, 1), (7, side), (padded, 7)):
        assert padded_size(size, square) == (padded, padded)
    with pytest.raises(UsageError, match=f"does not fit into the square of {padded}"):
        padded_size((side, padded + 1), square)


def test_a_square_of_less_than_two_patches_is_refused() -> None:
    with pytest.raises(UsageError, match="a square of 31 pixels: give a max_size of two patches, 32"):
        cascadezoo.load("cascade_mask_vitdet_b_100ep.detectron2", min_size=31, max_size=31)
