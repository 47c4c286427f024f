"""Deformable convolution (Dai et al. 2017, https://arxiv.org/abs/1703.06211), version 1: each point of the kernel is
moved by an offset of its own at every output pixel, and reads its input bilinearly.

The reference is torchvision's operator, whose numbers are mmcv's (``DCN``) to the last bit; csrc/ has the same for a
CPU, where it is several times as quick.  Half types are computed in float32: a position of 300 pixels needs more.

Shapes: N images, C channels in, K channels out, H x W pixels, Ho x Wo output pixels, P points of the kernel.
"""

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import deform_conv2d as torchvisions

from cascadezoo.errors import UsageError
from cascadezoo.ops.library import define


def deform_conv2d(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    pad: int,
    groups: int,
) -> Tensor:
    """Convolve x at moved points.

    Point ``p = row * kernel_w + column`` of output pixel (i, j) reads the input at ``i * stride - pad + row + dy`` and
    ``j * stride - pad + column + dx``, in pixels whose centres are integers.  Pixels outside the input count as zero,
    and so does a point whose offset is not a number.

    Args:
        x: (N, C, H, W), floating point.
        offset: (N, 2 * P, Ho, Wo), in pixels: channel 2 * p is dy, 2 * p + 1 is dx, for all channels of x alike.
        weight: (K, C / groups, kernel_h, kernel_w).
        bias: (K,).
        stride, pad: of both sides.
        groups: of channels, as in a convolution.

    Returns:
        (N, K, Ho, Wo) of x's type, channels last in memory.

    Raises:
        UsageError: the shapes do not fit each other.
    """
    weight = weight.to(x.dtype)  # where autocast has narrowed x
    bias = None if bias is None else bias.to(x.dtype)
    rows: Tensor = torch.ops.cascadezoo.deform_conv2d(
        x.permute(0, 2, 3, 1), offset.permute(0, 2, 3, 1), weight, bias, stride, pad, groups
    )
    return rows.permute(0, 3, 1, 2)


def reference(
    x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, stride: int, pad: int, groups: int
) -> Tensor:
    """The operator in PyTorch: x (N, H, W, C), offset (N, Ho, Wo, 2 * P), result (N, Ho, Wo, K)."""
    _check(x, offset, weight, bias, stride, pad, groups)
    kind = torch.promote_types(x.dtype, torch.float32)
    if x.numel() == 0 or offset.numel() == 0:
        nothing = torch.zeros(*offset.shape[:3], len(weight), dtype=x.dtype, device=x.device)
        return nothing if bias is None else nothing + bias
    x32, weight32, moves = x.to(kind), weight.to(kind), _moves(offset, kind)
    bias32 = None if bias is None else bias.to(kind)
    out: Tensor = torchvisions(x32.permute(0, 3, 1, 2), moves.permute(0, 3, 1, 2), weight32, bias32, stride, pad)
    return out.permute(0, 2, 3, 1).to(x.dtype).clone(memory_format=torch.contiguous_format)  # never a view


def _moves(offset: Tensor, kind: torch.dtype) -> Tensor:
    """Offsets, of which torchvision would take what is no number for the number of a pixel in memory."""
    return offset.to(kind).nan_to_num(nan=torch.inf)


def _check(x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, stride: int, pad: int, groups: int) -> None:
    if any(tensor.dim() != 4 for tensor in (x, offset, weight)):
        raise UsageError("deform_conv2d: x, offset and weight must have four axes each")
    if not all(tensor.is_floating_point() for tensor in (x, offset)) or weight.dtype != x.dtype:
        raise UsageError("deform_conv2d: x and offset must be floating point, and weight and bias of x's type")
    if stride < 1 or pad < 0 or groups < 1:
        raise UsageError("deform_conv2d: stride and groups must be positive and pad not negative")
    outputs, inputs, *kernel = weight.shape
    if outputs % groups or inputs * groups != x.shape[3] or 0 in (outputs, inputs, *kernel):
        raise UsageError(
            f"deform_conv2d: a weight of shape {tuple(weight.shape)} in {groups} groups does not take {x.shape[3]}"
            " channels"
        )
    sizes = [(side + 2 * pad - points) // stride + 1 for side, points in zip(x.shape[1:3], kernel, strict=True)]
    expected = (x.shape[0], *sizes, 2 * kernel[0] * kernel[1])
    if min(sizes) < 1 or tuple(offset.shape) != expected:
        raise UsageError(f"deform_conv2d: offset has shape {tuple(offset.shape)}, not {expected}")
    if bias is not None and (tuple(bias.shape) != (outputs,) or bias.dtype != x.dtype):
        raise UsageError(f"deform_conv2d: bias must be ({outputs},), of x's type")


def _fake(x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, stride: int, pad: int, groups: int) -> Tensor:
    return x.new_empty(*offset.shape[:3], weight.shape[0])


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, offset, weight, bias, *ctx.numbers = inputs
    ctx.save_for_backward(x, offset, weight)
    ctx.has_bias = bias is not None


def _autograd(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, offset, weight = ctx.saved_tensors
    stride, pad, groups = ctx.numbers
    kind = torch.promote_types(x.dtype, torch.float32)
    numbers = grad.to(kind), x.to(kind), _moves(offset, kind)
    above, x32, moves = (tensor.permute(0, 3, 1, 2).contiguous() for tensor in numbers)
    mask, bias = x32.new_zeros(len(x), 1), x32.new_zeros(len(weight))  # neither is read
    of_x, of_weight, of_offset, _, of_bias = torch.ops.torchvision._deform_conv2d_backward(
        above, x32, weight.to(kind), moves, mask, bias, stride, stride, pad, pad, 1, 1, groups, 1, False
    )
    back = (of.permute(0, 2, 3, 1).to(to.dtype) for of, to in ((of_x, x), (of_offset, offset)))
    return *back, of_weight.to(weight.dtype), of_bias.to(x.dtype) if ctx.has_bias else None, None, None, None


define(
    "deform_conv2d(Tensor x, Tensor offset, Tensor weight, Tensor? bias, int stride, int pad, int groups) -> Tensor",
    reference,
    _fake,
    backward=_autograd,
    setup=_setup,
    compiled=("cpu",),
)
