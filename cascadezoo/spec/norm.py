"""What follows a convolution, as data."""

from enum import StrEnum


class Norm(StrEnum):
    """What follows a convolution."""

    BATCH = "batch"  # batch norm by running statistics
    AFFINE = "affine"  # a scale and a bias per channel: statistics folded in by the publisher
    LAYER = "layer"  # layer norm over the channels of each cell
