"""A linear layer and a ReLU that learn, on a CPU, by oneDNN's product instead of PyTorch's default one: on processors
that are not Intel's that is the quicker one, in all three directions.

Shapes: R rows, C numbers in, K numbers out.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def is_quicker(x: Tensor, weight: Tensor) -> bool:
    """Whether ``linear_relu`` takes these, where it is as quick as PyTorch's layer or quicker."""
    return (
        torch.backends.mkldnn.is_available()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.dim() == 2
        and x.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def linear_relu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (R, C) times a weight (K, C), plus a bias (K,), rectified: (R, K)."""
    out: Tensor = _LinearReLU.apply(x, weight, bias)
    return out


class _LinearReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        out = _product(x, weight, bias, "relu")
        ctx.save_for_backward(x, weight, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, out = ctx.saved_tensors
        grad = torch.ops.aten.threshold_backward(grad, out, 0)
        of_x = _product(grad, weight.t()) if ctx.needs_input_grad[0] else None
        of_weight = _product(grad.t(), x.t()) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, grad.sum(0) if ctx.needs_input_grad[2] else None


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None, after: str = "none") -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, after, [], "")
    return out
