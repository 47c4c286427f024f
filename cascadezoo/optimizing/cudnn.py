"""A lean network's layers on an NVIDIA GPU: cuDNN and cuBLAS add the bias, the sum and the ReLU that follow a
product in the same pass over memory, where PyTorch's layers read and write their results anew for each.

They compute as the layers they replace do, but that half types are rounded once and not after each of these steps.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cascadezoo.modeling.layers import Conv, LinearReLU

_MOST = 2**31 - 1  # elements that cuDNN counts; PyTorch's own convolution splits larger batches


def for_cudnn(network: nn.Module) -> None:
    """Put this file's layers in the places of a lean network's; where torch has no cuDNN it stays as it is."""
    if not torch.backends.cudnn.is_available():
        return
    for name, child in network.named_children():
        make = _LAYERS.get(type(child))
        if make is None:
            for_cudnn(child)
        else:
            setattr(network, name, make(child))


class CudnnConv(nn.Module):
    """A convolution, its bias, the sum and the ReLU that follow it, as one operator."""

    def __init__(self, conv: Conv) -> None:
        super().__init__()
        self.plain = conv
        self.geometry: tuple[Any, ...] = (list(conv.stride), list(conv.padding), list(conv.dilation), conv.groups)

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """As ``Conv.forward``."""
        conv = self.plain
        count, channels, height, width = x.shape
        if count * max(channels, conv.out_channels) * height * width > _MOST:
            large: Tensor = conv(x, onto)
            return large
        if onto is None:
            return torch.cudnn_convolution_relu(x, conv.weight, conv.bias, *self.geometry)
        return torch.cudnn_convolution_add_relu(x, conv.weight, onto, 1.0, conv.bias, *self.geometry)


class AddmmReLU(nn.Module):
    """A linear layer and its ReLU as one operator."""

    def __init__(self, linear: LinearReLU) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """(N, in) to (N, out)."""
        return torch._addmm_activation(self.bias, x, self.weight.t())


def _convolution(conv: Conv) -> nn.Module:
    return CudnnConv(conv) if conv.relu and conv.bias is not None else conv


_LAYERS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {Conv: _convolution, LinearReLU: AddmmReLU}
