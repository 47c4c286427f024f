"""Targets drawn from polygons, by hand: squares whose corners are cells', and one step further along a slant."""

import numpy as np
import pytest
import torch
from pycocotools import mask

from cascadezoo.losses.masks import Masks
from cascadezoo.losses.polygons import Polygons
from cascadezoo.spec.objective import Drawing

PADDLE, DETECTRON = Drawing(least_side=0.1), Drawing(least_side=1, nearest=True)


def square(x1: float, y1: float, x2: float, y2: float) -> np.ndarray:
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], float)


def boxes(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def objects(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.int64)


def drawn(polygons: Polygons, box: tuple[float, ...], which: int, side: int = 4, least: float = 0.1) -> list:
    return polygons.draw(boxes(box), objects(which), side, least)[0].int().tolist()


def test_kept_flat() -> None:
    polygons = Polygons.of([[square(0, 0, 2, 2), np.array([[5, 5], [6, 5], [6, 6]], float)], [], [square(1, 1, 3, 3)]])
    assert polygons.points.tolist()[4:7] == [[5, 5], [6, 5], [6, 6]]
    assert polygons.points.shape == (11, 2)
    assert (polygons.lengths.tolist(), polygons.objects.tolist()) == ([4, 3, 4], [0, 0, 2])
    last = polygons.where(torch.tensor([False, True, True]))
    assert last.points.tolist() == square(1, 1, 3, 3).tolist()
    assert (last.lengths.tolist(), last.objects.tolist()) == ([4], [1])  # the second of the two that are left


def test_none_at_all() -> None:
    none = Polygons.of([])
    assert (none.points.shape, none.lengths.shape, none.objects.shape) == ((0, 2), (0,), (0,))
    assert none.draw(torch.zeros(0, 4), objects(), 7, 0.1).shape == (0, 7, 7)
    assert Polygons.of([[square(0, 0, 1, 1)]]).where(torch.tensor([False])).points.shape == (0, 2)


def test_a_box_becomes_the_masks_cells() -> None:
    """A box of 8 x 16 pixels on 4 x 4 cells: each is 2 pixels wide and 4 high."""
    polygons = Polygons.of([[square(12, 20, 16, 28)]])
    assert drawn(polygons, (10, 20, 18, 36), 0) == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert drawn(polygons, (12, 20, 16, 28), 0) == [[1] * 4] * 4  # its own
    assert drawn(polygons, (14, 24, 18, 32), 0) == [[1, 1, 0, 0]] * 2 + [[0] * 4] * 2  # it goes on outside
    assert drawn(polygons, (30, 20, 38, 36), 0) == [[0] * 4] * 4


def test_parts_are_joined_and_each_box_has_its_own_object() -> None:
    polygons = Polygons.of([[square(0, 0, 2, 4), square(1, 0, 3, 1)], [], [square(2, 2, 4, 4)]])
    found = polygons.draw(boxes((0, 0, 4, 4), (0, 0, 4, 4)), objects(2, 0), 4, 0.1)
    assert found.dtype == torch.float32
    assert found[0].int().tolist() == [[0] * 4] * 2 + [[0, 0, 1, 1]] * 2
    assert found[1].int().tolist() == [[1, 1, 1, 0], *[[1, 1, 0, 0]] * 3]  # where they overlap, still 1


def test_a_slant_is_filled_as_pycocotools_does() -> None:
    triangle = np.array([[0, 0], [4, 0], [0, 4]], float)
    expected = mask.decode(mask.frPyObjects([[0.0, 0, 4, 0, 0, 4]], 4, 4))[:, :, 0]
    assert drawn(Polygons.of([[triangle]]), (0, 0, 4, 4), 0) == expected.tolist()
    assert drawn(Polygons.of([[triangle * 3 + 7]]), (7, 7, 19, 19), 0) == expected.tolist()
    assert expected.tolist() not in ([[1] * 4] * 4, [[0] * 4] * 4)


def test_the_publishers_smallest_sides() -> None:
    """A box of 0 x 4 pixels counts as 0.1 of one wide for Paddle, as 1 for Detectron: cells of 1/40 and of 1/4."""
    polygons = Polygons.of([[square(10, 10, 10.5, 14)]])
    assert drawn(polygons, (10, 10, 10, 14), 0, least=PADDLE.least_side) == [[1] * 4] * 4
    assert drawn(polygons, (10, 10, 10, 14), 0, least=DETECTRON.least_side) == [[1, 1, 0, 0]] * 4
    flat = Polygons.of([[square(10, 10, 14, 10.5)]])
    assert drawn(flat, (10, 10, 14, 10), 0, least=PADDLE.least_side) == [[1] * 4] * 4
    assert drawn(flat, (10, 10, 14, 10), 0, least=DETECTRON.least_side) == [[1] * 4] * 2 + [[0] * 4] * 2


def test_the_object_whose_outline_overlaps_most() -> None:
    # the second object's two parts have larger bounds than the fourth, which overlaps the first box more than either
    two_parts = [square(10, 10, 12, 20), square(18, 10, 20, 20)]
    polygons = Polygons.of([[square(0, 0, 4, 4)], two_parts, [], [square(10, 10, 15, 20)]])
    found = polygons.nearest(boxes((10, 10, 20, 20), (10, 10, 16, 20), (0, 0, 5, 5), (90, 90, 95, 95)), 0)
    assert found.tolist() == [1, 3, 0, 0]
    # counted as pixels, a line of one and its neighbour overlap; as edges they do not
    lines = Polygons.of([[square(0, 0, 9, 9)], [square(20, 0, 20, 9)]])
    assert lines.nearest(boxes((20, 0, 20, 9)), 1).tolist() == [1]


# --- among bitmaps --------------------------------------------------------------------------------------------------


def mixed() -> Masks:
    """The first and the last object have polygons, the others bitmaps: one of the left half, one of everything."""
    half, whole = torch.zeros(8, 8, dtype=torch.uint8), torch.ones(8, 8, dtype=torch.uint8)
    half[:, :4] = 1
    return Masks.of([[square(0, 0, 8, 2)], half, whole, [square(6, 0, 8, 8)]], (8, 8))


WHOLE = (0.0, 0.0, 8.0, 8.0)
TOP, LEFT, FULL, RIGHT = [[1] * 4, *[[0] * 4] * 3], [[1, 1, 0, 0]] * 4, [[1] * 4] * 4, [[0, 0, 0, 1]] * 4


def test_polygons_are_drawn_and_bitmaps_cropped() -> None:
    masks = mixed()
    assert masks.windows.tolist() == [[0, 0, 0, 0], [0, 0, 4, 8], [0, 0, 8, 8], [0, 0, 0, 0]]
    found = masks.targets(boxes(WHOLE, WHOLE, WHOLE, WHOLE), objects(3, 1, 0, 2), 4, PADDLE, 0)
    assert found.dtype == torch.float32
    assert found.int().tolist() == [RIGHT, LEFT, TOP, FULL]


@pytest.mark.parametrize("drawing", [PADDLE, DETECTRON])
def test_no_boxes_have_no_targets(drawing: Drawing) -> None:
    assert mixed().targets(torch.zeros(0, 4), objects(), 4, drawing, 1).shape == (0, 4, 4)


def test_some_of_both() -> None:
    left = mixed().where(torch.tensor([False, True, False, True]))
    found = left.targets(boxes(WHOLE, WHOLE), objects(1, 0), 4, PADDLE, 0)
    assert found.int().tolist() == [RIGHT, LEFT]
    assert left.to(torch.device("meta")).polygons.points.device.type == "cpu"  # where they are drawn


def test_only_polygons_are_chosen_by_their_outline() -> None:
    box = (6.0, 0.0, 8.0, 8.0)
    found = mixed().targets(boxes(box, box), objects(0, 1), 4, DETECTRON, 0)
    assert found.int().tolist() == [FULL, [[0] * 4] * 4]  # the last object instead of the first; the bitmap stays


def test_without_polygons_nothing_is_drawn() -> None:
    bitmaps = Masks.of([torch.ones(8, 8)], (8, 8))
    assert bitmaps.polygons is None
    assert bitmaps.targets(boxes(WHOLE), objects(0), 4, DETECTRON, 1).int().tolist() == [FULL]


def test_polygons_where_bitmaps_are_cropped_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="polygons for a network that learns from bitmaps"):
        mixed().targets(boxes(WHOLE), objects(0), 4, None, 0)
