"""Layer norm over the channels of each cell (https://arxiv.org/abs/1607.06450), as necks and heads have it.

Shapes: N images or RoIs, C and K channels, H x W cells.

Formulas ported from (licences in NOTICE):

- facebookresearch/detectron2 02b5c4e, Copyright (c) Facebook, Inc. and its affiliates, Apache-2.0:
  ``detectron2/layers/batch_norm.py`` (``LayerNorm``), ``detectron2/layers/wrappers.py`` (``Conv2d``)
"""

from torch import Tensor, nn

from cascadezoo.modeling.layers import Conv
from cascadezoo.modeling.resnet import ConvNorm
from cascadezoo.spec.norm import Norm

_EPS = 1e-6


class ChannelLayerNorm(nn.LayerNorm):
    """(N, C, H, W) less the mean of each cell's channels, divided by the root of their biased variance and 1e-6, then
    scaled and shifted per channel; channels last in memory."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=_EPS)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return normed


class ConvLayerNorm(Conv):
    """A convolution without bias, then a layer norm, then what follows a ``Conv``."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, relu: bool = False) -> None:
        super().__init__(inputs, outputs, kernel, bias=False, relu=relu)
        self.norm = ChannelLayerNorm(outputs)

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """As ``Conv.forward``."""
        return self.finish(self.norm(self.convolved(x, self.weight, None)), onto)


def convolution(norm: Norm | None, inputs: int, outputs: int, kernel: int, *, relu: bool = False) -> Conv:
    """A convolution with its bias or, in its place, a norm, as necks and heads have them."""
    if norm is None:
        return Conv(inputs, outputs, kernel, relu=relu)
    if norm is Norm.LAYER:
        return ConvLayerNorm(inputs, outputs, kernel, relu=relu)
    return ConvNorm(inputs, outputs, kernel, norm=norm, relu=relu)
