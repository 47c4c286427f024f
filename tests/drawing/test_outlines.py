import cv2
import numpy as np
import pytest
import torch

from cascadezoo.drawing.outlines import outlines_of
from cascadezoo.ops.mask_paste import Crop


def outlines(mask, top=0, left=0):
    return outlines_of(Crop(top, left, torch.from_numpy(mask)))


def disc(radius, side):
    y, x = np.mgrid[:side, :side] + 0.5
    return np.hypot(y - side / 2, x - side / 2) < radius


def area(curve):
    return abs(cv2.contourArea(curve.astype(np.float32)))


def test_a_square_is_outlined_on_the_edges_of_its_pixels():
    mask = np.zeros((60, 60), bool)
    mask[10:50, 5:45] = True
    (curve,) = outlines(mask, top=100, left=200)
    assert curve.min(axis=0) == pytest.approx([205, 110], abs=0.2)
    assert curve.max(axis=0) == pytest.approx([245, 150], abs=0.2)
    assert area(curve) == pytest.approx(1600, rel=0.01)


def test_the_outline_of_a_disc_is_round():
    """A chain of pixels is up to a pixel from the circle; the curve is not, and its direction turns by little at a
    time, where the chain's turns by 45 and 90 degrees."""
    (curve,) = outlines(disc(30, 80))
    radius = np.hypot(*(curve - 40).T)
    assert np.abs(radius - 30).max() < 0.6
    steps = np.diff(np.concatenate((curve, curve[:2])), axis=0)
    turns = np.diff(np.unwrap(np.arctan2(steps[:, 1], steps[:, 0])))
    assert np.degrees(np.abs(turns).max()) < 15


def test_holes_have_outlines_of_their_own():
    mask = disc(30, 80) & ~disc(12, 80)
    areas = sorted(map(area, outlines(mask)))
    assert areas == pytest.approx([np.pi * 12**2, np.pi * 30**2], rel=0.05)


def test_parts_have_outlines_of_their_own():
    mask = np.zeros((40, 90), bool)
    mask[5:25, 5:25] = mask[10:30, 60:80] = True
    assert sorted(round(curve[:, 0].mean()) for curve in outlines(mask)) == [15, 70]


@pytest.mark.parametrize(("pixels", "expected"), [([(3, 4)], 1), ([(3, 4), (3, 5)], 2), ([(3, 4), (4, 5)], 4)])
def test_a_pixel_or_two_are_an_area(pixels, expected):
    mask = np.zeros((9, 9), bool)
    for row, column in pixels:
        mask[row, column] = True
    (curve,) = outlines(mask)
    assert area(curve) == pytest.approx(expected)


def test_a_line_of_pixels_is_as_wide_as_they_are():
    mask = np.zeros((9, 60), bool)
    mask[4, 10:50] = True
    (curve,) = outlines(mask)
    assert area(curve) == pytest.approx(40, rel=0.1)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (7, 7)])
def test_no_mask_has_no_outline(shape):
    assert outlines(np.zeros(shape, bool)) == []
