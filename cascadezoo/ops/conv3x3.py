"""3 x 3 convolutions that learn, on a CPU, by Winograd's way in all three directions: the result, the gradient of the
input, which is a convolution too, and that of the weight (``cascadezoo.ops.winograd``).

Shapes: N images, C channels in, K channels out, H x W pixels.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cascadezoo.ops.library import COMPILED
from cascadezoo.ops.winograd import can_pack, pack_weight, weight_gradient, winograd_conv3x3

_PIXELS = 1024  # of all images: below, transforming the weight takes as long as it saves


def is_quicker(x: Tensor, weight: Tensor) -> bool:
    """Whether ``conv3x3`` is quicker here than PyTorch's convolution of stride 1, and of the same type."""
    return (
        "cpu" in COMPILED
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.dim() == 4
        and x.shape[0] * x.shape[2] * x.shape[3] >= _PIXELS
        and x.shape[1] == weight.shape[1]
        and can_pack(weight)
        and can_pack(weight.transpose(0, 1))
        and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None, *, relu: bool) -> Tensor:
    """x (N, C, H, W) convolved with a weight (K, C, 3, 3) and a bias (K,), stride and padding 1: (N, K, H, W), channels
    last in memory, rectified where ``relu`` says so; for what ``is_quicker`` allows."""
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    out: Tensor = _Conv3x3.apply(x.permute(0, 2, 3, 1), weight, bias, relu)
    return out.permute(0, 3, 1, 2)


class _Conv3x3(torch.autograd.Function):
    """With channels last in shape too: its result is no view, which layers that write in place would have to undo."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
        out = winograd_conv3x3(x.permute(0, 3, 1, 2), _packed(weight), bias, relu=relu).permute(0, 2, 3, 1)
        ctx.save_for_backward(x, weight, out if relu else None)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, out = ctx.saved_tensors
        if out is not None:
            grad = torch.ops.aten.threshold_backward(grad, out, 0)
        above = grad.permute(0, 3, 1, 2)
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            turned = weight.flip(2, 3).transpose(0, 1)
            of_x = winograd_conv3x3(above, _packed(turned), weight.new_zeros(len(turned))).permute(0, 2, 3, 1)
        if ctx.needs_input_grad[1]:
            of_weight = weight_gradient(x.permute(0, 3, 1, 2), above)
        if ctx.needs_input_grad[2]:
            of_bias = grad.sum((0, 1, 2))
        return of_x, of_weight, of_bias, None


def _packed(weight: Tensor) -> Tensor:
    return pack_weight(weight, torch.float32)  # once a step: float64 would take twice as long
