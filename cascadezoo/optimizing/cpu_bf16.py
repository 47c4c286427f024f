"""A lean network's layers on a CPU with avx512_bf16, where compiled operators are quicker than oneDNN's."""

from typing import Any

from torch import Tensor, nn

from cascadezoo.modeling.layers import DeconvReLU
from cascadezoo.ops.one_class_masks_bf16 import one_class_masks_bf16, pack_deconvolution
from cascadezoo.ops.winograd_bf16 import pack_weight, winograd_conv3x3_bf16


class BFloat16WinogradConv(nn.Module):
    """A 3 x 3 convolution of stride 1 by Winograd's F(4 x 4, 3 x 3)."""

    def __init__(self, conv: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(pack_weight(conv.weight), requires_grad=False)
        self.bias = conv.bias
        self.relu = getattr(conv, "relu", False)

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """As ``Conv.forward``."""
        return winograd_conv3x3_bf16(x, self.weight, self.bias, onto, relu=self.relu)


class BFloat16MaskEnd(nn.Module):
    """From the last features (R, C, P, P) of a mask head to the logits (R, 2P, 2P) of a class each, as one operator."""

    def __init__(self, deconv: DeconvReLU, logits: nn.Conv2d) -> None:
        super().__init__()
        self.weight = nn.Parameter(pack_deconvolution(deconv.weight), requires_grad=False)
        self.class_weight = nn.Parameter(logits.weight.flatten(1), requires_grad=False)
        self.bias, self.class_bias = deconv.bias, logits.bias

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        assert self.bias is not None
        assert self.class_bias is not None
        return one_class_masks_bf16(x, self.weight, self.bias, self.class_weight, self.class_bias, labels)
