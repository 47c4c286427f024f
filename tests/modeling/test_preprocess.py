"""Sizes and padding worked by hand; the resize itself is proven by the parity cases."""

import numpy as np
import pytest
import torch

from cascadezoo.modeling.preprocess import collate, image_scale, padded_size, resize
from cascadezoo.providers import SPECS

MMDET, PADDLE = SPECS["mmdet"]["cascade_r50_fpn"], SPECS["paddle"]["cascade_r50_fpn"]
DETECTRON = SPECS["detectron"]["faster_r50_fpn"]
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
    for spec, bounds in ((PADDLE, (320, 640 * scale)), (DETECTRON, (320, 480)), (MMDET, (320, 480))):
        quick = spec.preprocess.model_copy(update={"min_size": 320, "max_size": 533})
        resized = resize(image, quick, spec.conventions.resize)
        assert resized.size == (320, 480)
        batch = collate([resized], quick, spec.conventions.resize, torch.device("cpu"), torch.float32)
        assert batch.sizes[0].tolist() == pytest.approx(bounds)
        achieved = spec is MMDET
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


@pytest.mark.parametrize("spec", [MMDET, PADDLE, DETECTRON])
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
