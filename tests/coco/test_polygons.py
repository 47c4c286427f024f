"""Outlines beside a rasteriser that knows nothing of how they were found: each upright edge turns over all pixels at
its right."""

import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from cascadezoo.coco.polygons import Polygon, area, as_coco, polygons_of

MASKS = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(lambda shape: arrays(np.bool_, shape))


def mask_of(text: str) -> np.ndarray:
    return np.array([[cell == "#" for cell in line] for line in text.split()])


def filled(rings: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for ring in rings:
        for (x, y), (to_x, to_y) in zip(ring.astype(int), np.roll(ring, -1, axis=0).astype(int), strict=True):
            if x == to_x:
                mask[min(y, to_y) : max(y, to_y), x:] ^= True
    return mask


def drawn_by_coco(polygons: list[Polygon], shape: tuple[int, int]) -> np.ndarray:
    if not polygons:
        return np.zeros(shape, bool)
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(as_coco(polygons), *shape))).astype(bool)


def rounded(ring: np.ndarray) -> list[tuple[int, int]]:
    return [(int(x), int(y)) for x, y in ring]


def test_a_pixel_is_the_square_between_its_corners() -> None:
    (polygon,) = polygons_of(np.ones((1, 1), bool))
    assert polygon.outer.dtype == np.float64
    assert rounded(polygon.outer) == [(0, 0), (1, 0), (1, 1), (0, 1)]
    assert polygon.holes == []
    assert polygon.area == 1


def test_coordinates_are_of_the_image() -> None:
    (polygon,) = polygons_of(np.ones((2, 3), bool), left=10, top=20)
    assert rounded(polygon.outer) == [(10, 20), (13, 20), (13, 22), (10, 22)]


def test_nothing_has_no_outline() -> None:
    assert polygons_of(np.zeros((4, 5), bool)) == polygons_of(np.zeros((0, 0), bool)) == []
    assert as_coco([]) == []


def test_a_ring_has_a_hole() -> None:
    (ring,) = polygons_of(mask_of("#### #..# #..# ####"))
    assert rounded(ring.outer) == [(0, 0), (4, 0), (4, 4), (0, 4)]
    assert [rounded(hole) for hole in ring.holes] == [[(1, 1), (1, 3), (3, 3), (3, 1)]]
    assert ring.area == 12
    assert rounded(ring.bridged()) == [
        (0, 0), (1, 0), (1, 1), (1, 3), (3, 3), (3, 1), (1, 1), (1, 0), (4, 0), (4, 4), (0, 4)
    ]  # fmt: skip


def test_two_parts_are_two_polygons_from_the_top_down() -> None:
    parts = polygons_of(mask_of("...# ##.# ##.."))
    assert [rounded(part.outer)[0] for part in parts] == [(3, 0), (0, 1)]
    assert [part.area for part in parts] == [2, 4]


def test_pixels_that_touch_at_a_corner_are_parts_of_their_own() -> None:
    for text in ("#. .#", ".# #."):
        assert [len(part.outer) for part in polygons_of(mask_of(text))] == [4, 4]


@pytest.mark.parametrize("text", ["### #.# ##.", "### #.# .##", "##. #.# ###", ".## #.# ###"])
def test_a_hole_that_reaches_a_corner_of_the_outline_is_a_ring_of_its_own(text: str) -> None:
    """The pixel in the middle touches the outside at one point, where the outline would touch itself."""
    (part,) = polygons_of(mask_of(text))
    assert part.area == 7
    (hole,) = part.holes
    assert sorted(rounded(hole)) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert len(part.outer) == 6


def test_an_island_in_a_hole_is_a_part() -> None:
    outside, island = polygons_of(mask_of("##### #...# #.#.# #...# #####"))
    assert (outside.area, len(outside.holes)) == (16, 1)
    assert (island.area, island.holes) == (1, [])


@settings(max_examples=200, deadline=None)
@given(MASKS)
def test_outlines_are_the_mask(mask: np.ndarray) -> None:
    polygons = polygons_of(mask)
    assert (filled([ring for one in polygons for ring in (one.outer, *one.holes)], mask.shape) == mask).all()
    count, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    assert len(polygons) == count - 1
    found = set()
    for one in polygons:
        pixels = filled([one.outer, *one.holes], mask.shape)
        (part,) = set(parts[pixels])
        assert (pixels == (parts == part)).all()
        found.add(part)
        assert one.area == pixels.sum()
        assert area(one.outer) > 0
        assert all(area(hole) < 0 for hole in one.holes)
        for ring in (one.outer, *one.holes):
            assert len({tuple(point) for point in ring}) == len(ring)  # it never comes to a point twice
            turns = (ring != np.roll(ring, 1, axis=0)) ^ (ring != np.roll(ring, -1, axis=0))
            assert turns.all()  # across, then along, by turns: no point lies on a straight line
    assert len(found) == len(polygons)


@settings(max_examples=200, deadline=None)
@given(MASKS)
def test_bridged_outlines_are_the_mask(mask: np.ndarray) -> None:
    polygons = polygons_of(mask)
    bridged = [one.bridged() for one in polygons]
    assert (filled(bridged, mask.shape) == mask).all()
    assert (drawn_by_coco(polygons, mask.shape) == mask).all()
    for one, ring in zip(polygons, bridged, strict=True):
        assert area(ring) == one.area
        steps = np.roll(ring, -1, axis=0) - ring
        assert ((steps == 0).sum(axis=1) == 1).all()  # a bridge is upright, and no step goes nowhere


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_noise(share: float) -> None:
    mask = np.random.default_rng(7).random((60, 70)) < share
    polygons = polygons_of(mask, 5, 3)
    whole = np.zeros((70, 80), bool)
    whole[3:63, 5:75] = mask
    assert (drawn_by_coco(polygons, whole.shape) == whole).all()
    assert (filled([one.bridged() for one in polygons], whole.shape) == whole).all()


def test_a_view_of_a_mask_is_a_mask() -> None:
    mask = np.zeros((9, 9), bool)
    mask[2:8:2, 1:5] = True
    assert [one.area for one in polygons_of(mask.T[::2, 1:])] == [2.0] * 3


def test_a_hundred_masks_take_well_under_a_second() -> None:
    """Blobs with ragged edges, some thousand corners each in 300 x 300 pixels."""
    noise = np.random.default_rng(1).random((100, 16, 16), np.float32)
    masks = [cv2.resize(one, (300, 300), interpolation=cv2.INTER_CUBIC) > 0.5 for one in noise]
    start = time.process_time()
    found = [polygons_of(mask) for mask in masks]
    assert time.process_time() - start < 1
    assert sum(map(len, found)) > 1000


def test_a_mask_of_other_numbers_is_set_where_they_are_not_0() -> None:
    mask = mask_of("### #.# ##.")
    (part,), (same,) = polygons_of(mask), polygons_of(mask.astype(np.uint8) * 255)
    assert rounded(part.outer) == rounded(same.outer)
    assert [rounded(hole) for hole in part.holes] == [rounded(hole) for hole in same.holes]
