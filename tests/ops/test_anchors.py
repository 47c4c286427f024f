"""Hand-worked anchors of one level."""

import torch

from cascadezoo.ops.anchors import level_anchors


def test_order_is_row_column_ratio_and_the_first_centre_is_the_corner() -> None:
    anchors = level_anchors((2, 3), size=8, stride=4, ratios=(0.25, 1.0, 4.0), device=torch.device("cpu"))
    assert anchors.shape == (2 * 3 * 3, 4)
    # ratio is height / width: 0.25 is 16 wide and 4 high, 4 is 4 wide and 16 high
    torch.testing.assert_close(anchors[0], torch.tensor([-8.0, -2.0, 8.0, 2.0]))
    torch.testing.assert_close(anchors[1], torch.tensor([-4.0, -4.0, 4.0, 4.0]))
    torch.testing.assert_close(anchors[2], torch.tensor([-2.0, -8.0, 2.0, 8.0]))
    # the second cell lies one stride to the right, the fourth one stride down
    torch.testing.assert_close(anchors[3 + 1], torch.tensor([0.0, -4.0, 8.0, 4.0]))
    torch.testing.assert_close(anchors[9 + 1], torch.tensor([-4.0, 0.0, 4.0, 8.0]))
