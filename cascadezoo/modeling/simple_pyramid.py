"""ViTDet's simple feature pyramid (https://arxiv.org/abs/2203.16527): every level from one map.

Formulas ported from (licences in NOTICE):

- facebookresearch/detectron2 02b5c4e, Copyright (c) Facebook, Inc. and its affiliates, Apache-2.0:
  ``detectron2/modeling/backbone/vit.py`` (``SimpleFeaturePyramid``)
"""

from collections.abc import Sequence

from torch import Tensor, nn

from cascadezoo.modeling.fpn import every_second
from cascadezoo.modeling.norms import ChannelLayerNorm, ConvLayerNorm


class SimplePyramid(nn.Module):
    """The last of the backbone's maps, of stride s, to levels of strides s / 4, s / 2, s, 2 * s and 4 * s."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        half, quarter = inputs // 2, inputs // 4
        scales: tuple[tuple[int, list[nn.Module]], ...] = (
            (quarter, [_doubled(inputs, half), ChannelLayerNorm(half), nn.GELU(), _doubled(half, quarter)]),
            (half, [_doubled(inputs, half)]),
            (inputs, []),
            (inputs, [nn.MaxPool2d(2)]),
        )
        self.levels = nn.ModuleList(
            nn.Sequential(*scaled, ConvLayerNorm(width, channels, 1), ConvLayerNorm(channels, channels, 3))
            for width, scaled in scales
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """(N, C, H, W), the last, to (N, channels, 4 * H, 4 * W), (.., 2 * H, 2 * W), (.., H, W), (.., H / 2, W / 2)
        and (.., H / 4, W / 4); the half of an odd side is rounded down, and half of that up."""
        made = [level(features[-1]) for level in self.levels]
        return [*made, every_second(made[-1])]


def _doubled(inputs: int, outputs: int) -> nn.Module:
    return nn.ConvTranspose2d(inputs, outputs, 2, stride=2)
