"""Hand-worked anchors of one level."""

import math

import pytest
import torch

from cascadezoo.ops.anchors import grid_anchors, level_anchors
from cascadezoo.providers import SPECS
from cascadezoo.spec.conventions import AnchorGrid

CPU = torch.device("cpu")


def test_order_is_row_column_ratio_and_the_first_centre_is_the_corner() -> None:
    grid = AnchorGrid(sizes=((8,),), ratios=(0.25, 1.0, 4.0), strides=(4,), extent=0, rounded=False)
    anchors = level_anchors((2, 3), grid, 0, CPU)
    assert anchors.shape == (2 * 3 * 3, 4)
    # ratio is height / width: 0.25 is 16 wide and 4 high, 4 is 4 wide and 16 high
    torch.testing.assert_close(anchors[0], torch.tensor([-8.0, -2.0, 8.0, 2.0]))
    torch.testing.assert_close(anchors[1], torch.tensor([-4.0, -4.0, 4.0, 4.0]))
    torch.testing.assert_close(anchors[2], torch.tensor([-2.0, -8.0, 2.0, 8.0]))
    # the second cell lies one stride to the right, the fourth one stride down
    torch.testing.assert_close(anchors[3 + 1], torch.tensor([0.0, -4.0, 8.0, 4.0]))
    torch.testing.assert_close(anchors[9 + 1], torch.tensor([-4.0, 0.0, 4.0, 8.0]))


def test_rounded_anchors_are_the_published_ones() -> None:
    """Detectron's own numbers for the first cell of each level, as its fact tables print them."""
    grid = SPECS["detectron"]["faster_r50_fpn"].conventions.anchors
    expected = [
        [[-22, -10, 25, 13], [-14, -14, 17, 17], [-10, -22, 13, 25]],
        [[-40, -20, 47, 27], [-28, -28, 35, 35], [-20, -44, 27, 51]],
        [[-84, -40, 99, 55], [-56, -56, 71, 71], [-36, -80, 51, 95]],
        [[-164, -72, 195, 103], [-112, -112, 143, 143], [-76, -168, 107, 199]],
        [[-332, -152, 395, 215], [-224, -224, 287, 287], [-148, -328, 211, 391]],
    ]
    for level, rows in enumerate(expected):
        assert level_anchors((1, 1), grid, level, CPU).tolist() == rows


def test_several_sizes_a_level_come_size_by_size() -> None:
    grid = SPECS["paddle"]["mask_r50_c4"].conventions.anchors
    anchors = level_anchors((1, 2), grid, 0, CPU)
    assert anchors.shape == (2 * 15, 4)
    squares = anchors[1:15:3]  # the middle ratio of each size
    assert squares.tolist() == [[-s / 2, -s / 2, s / 2, s / 2] for s in (32, 64, 128, 256, 512)]
    assert (anchors[16] - anchors[1]).tolist() == [16, 0, 16, 0]


def test_levels_come_in_the_order_of_their_strides() -> None:
    grid = AnchorGrid(sizes=((8,), (32,)), ratios=(1.0,), strides=(4, 16), extent=0, rounded=False)
    fine, coarse = grid_anchors([(1, 2), (1, 1)], grid, CPU)
    assert fine.tolist() == [[-4, -4, 4, 4], [0, -4, 8, 4]]
    assert coarse.tolist() == [[-16, -16, 16, 16]]
    with pytest.raises(ValueError, match="1 levels for a grid of 2"):
        grid_anchors([(1, 2)], grid, CPU)


def test_where_x2_is_the_last_pixel_a_cell_of_stride_4_is_centred_on_1_5() -> None:
    grid = AnchorGrid(sizes=((8,),), ratios=(1.0,), strides=(4,), extent=1, rounded=False)
    # 8 pixels from -2 to 5 inclusive, then one stride on
    assert level_anchors((2, 1), grid, 0, CPU).tolist() == [[-2, -2, 5, 5], [-2, 2, 5, 9]]


def test_anchors_that_are_not_rounded_keep_their_fractions() -> None:
    # 8 / sqrt(0.5) = 11.31 wide and 8 * sqrt(0.5) = 5.66 high around the corner
    grid = AnchorGrid(sizes=((8,),), ratios=(0.5,), strides=(4,), extent=0, rounded=False)
    half_width, half_height = 4 * math.sqrt(2), 4 / math.sqrt(2)
    expected = [-half_width, -half_height, half_width, half_height]
    assert level_anchors((1, 1), grid, 0, CPU)[0].tolist() == pytest.approx(expected)
