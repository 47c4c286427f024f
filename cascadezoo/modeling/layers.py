"""Convolutions and linear layers with what follows them: a sum, a ReLU.

One module for all of it, so that a network prepared for inference (``cascadezoo.optimizing``) can put one in its place
that does it in one pass over memory.

Formulas ported from (licences in NOTICE):

- open-mmlab/mmcv 2.1.0, Copyright (c) OpenMMLab, Apache-2.0: ``DeformConv2dPack`` in ``mmcv/ops/deform_conv.py``
"""

import torch.nn.functional as F
from torch import Tensor, nn

from cascadezoo.ops import conv3x3, linear_relu
from cascadezoo.ops.deform_conv2d import deform_conv2d


class Conv(nn.Conv2d):
    """A convolution that keeps the sides of its input, or divides them by its stride."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        *,
        bias: bool = True,
        relu: bool = False,
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=bias)
        self.relu = relu
        self._is_3x3 = (kernel, stride, groups) == (3, 1, 1)

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """(N, C, H, W) to (N, K, H / s, W / s): convolved, added to ``onto`` if there is one, and then rectified if
        this layer has a ReLU.  Nobody may read ``onto`` afterwards: the result can lie in its memory."""
        return self.compute(x, self.weight, self.bias, onto)

    def compute(self, x: Tensor, weight: Tensor, bias: Tensor | None, onto: Tensor | None) -> Tensor:
        """``forward`` with a weight and a bias of this layer's shapes."""
        at_once = self.relu and onto is None
        out = self.convolved(x, weight, bias, relu=at_once)
        return out if at_once else self.finish(out, onto)

    def convolved(self, x: Tensor, weight: Tensor, bias: Tensor | None, *, relu: bool = False) -> Tensor:
        """The convolution itself, or also the ReLU where nothing comes between."""
        if self.training and self._is_3x3 and conv3x3.is_quicker(x, weight):
            return conv3x3.conv3x3(x, weight, bias, relu=relu)
        out = self._conv_forward(x, weight, bias)
        return F.relu(out, inplace=True) if relu else out

    def finish(self, x: Tensor, onto: Tensor | None) -> Tensor:
        """What follows the convolution itself."""
        if onto is not None:
            x = x.add_(onto)  # a convolution's gradients do not need its result
        return F.relu(x, inplace=True) if self.relu else x


class DeformConv(Conv):
    """A deformable convolution (Dai et al. 2017, https://arxiv.org/abs/1703.06211), version 1: an ordinary convolution
    of the same input says by how much each of the kernel's points is moved, for all channels alike."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, **rest: bool) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups, **rest)
        self._is_3x3 = False  # none whose points stand still, which Winograd's way needs
        self.offset = Conv(inputs, 2 * kernel**2, kernel, stride)

    def init_weights(self) -> None:
        """Random weights that start as an ordinary convolution: no point is moved."""
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        nn.init.zeros_(self.offset.weight)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        (stride, _), (kernel, _) = self.stride, self.kernel_size
        return deform_conv2d(input, self.offset(input), weight, bias, stride, kernel // 2, self.groups)


class LinearReLU(nn.Linear):
    """A linear layer, then a ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and linear_relu.is_quicker(x, self.weight):
            return linear_relu.linear_relu(x, self.weight, self.bias)
        return F.relu(super().forward(x), inplace=True)


class DeconvReLU(nn.ConvTranspose2d):
    """A transposed convolution, then a ReLU."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return F.relu(super().forward(x, output_size), inplace=True)
