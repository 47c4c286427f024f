"""DCNv3 for inference: the softmax over a group's points and the sampling in one operator, of one tensor of points.

The reference is the softmax in PyTorch, then ``dcnv3``, which may be compiled; csrc/ has one kernel of both for CUDA.
Shapes and formulas are those of ``cascadezoo.ops.dcnv3``, with a kernel of 3 x 3: K = 9 points.
"""

from typing import Any

import torch
from torch import Tensor

from cascadezoo.errors import UsageError
from cascadezoo.ops.dcnv3 import Size, Window, output_shape, pair
from cascadezoo.ops.library import define

KERNEL, POINTS = (3, 3), 9
_MULTIPLE = 8  # numbers in 16 bytes of half types: rows start where a GPU loads that much at once


def packed(offset: Tensor, mask: Tensor, groups: int) -> Tensor:
    """The rows of a layer that gives ``dcnv3_fused`` its points, from those of the layers for ``dcnv3``'s.

    ``offset`` (G * K * 2, ...) and ``mask`` (G * K, ...), weights or biases, become (R, ...): x and y of each group's
    point 0, of each group's point 1, and so on; then the logits in the same order; then zeros up to a multiple of 8.
    Points come first so that what neighbouring groups read lies side by side.
    """
    moved = offset.unflatten(0, (groups, POINTS, 2)).transpose(0, 1).flatten(0, 2)
    logits = mask.unflatten(0, (groups, POINTS)).transpose(0, 1).flatten(0, 1)
    rows = torch.cat((moved, logits))
    return torch.cat((rows, rows.new_zeros(-len(rows) % _MULTIPLE, *rows.shape[1:])))


def dcnv3_fused(
    input: Tensor, offset_mask: Tensor, stride: Size, pad: Size, dilation: Size, groups: int, offset_scale: float
) -> Tensor:
    """``dcnv3`` with a kernel of 3 x 3 whose masks are the softmax of logits over each group's points; no gradient.

    Args:
        input: (N, H, W, G * D), floating point.
        offset_mask: (N, Ho, Wo, R) of the input's type, ordered as ``packed`` orders the layer that makes it.
        stride, pad, dilation: one number, or (height, width).
        groups: G.
        offset_scale: factor of offsets and grid.

    Returns:
        (N, Ho, Wo, G * D) of the input's type.  The softmax is of float32 for half types.

    Raises:
        UsageError: the shapes or types do not fit each other, or a gradient is asked for.
    """
    numbers = pair(stride), pair(pad), pair(dilation), groups, float(offset_scale)
    _check(input, offset_mask, Window(KERNEL, *numbers))
    output: Tensor = torch.ops.cascadezoo.dcnv3_fused(input, offset_mask, *numbers)
    return output


def _check(input: Tensor, offset_mask: Tensor, window: Window) -> None:
    count = 3 * window.groups * POINTS
    expected = (*output_shape(input, window), count + -count % _MULTIPLE)
    if tuple(offset_mask.shape) != expected or offset_mask.dtype != input.dtype:
        raise UsageError(
            f"dcnv3_fused: offset_mask has shape {tuple(offset_mask.shape)} and is {offset_mask.dtype}, not"
            f" {expected} and {input.dtype}"
        )


def reference(
    input: Tensor,
    offset_mask: Tensor,
    stride: list[int],
    pad: list[int],
    dilation: list[int],
    groups: int,
    offset_scale: float,
) -> Tensor:
    """The operator by ``dcnv3``; arguments as in the schema below."""
    pairs = [(size[0], size[1]) for size in (stride, pad, dilation)]
    _check(input, offset_mask, Window(KERNEL, pairs[0], pairs[1], pairs[2], groups, offset_scale))
    points = offset_mask.to(torch.promote_types(input.dtype, torch.float32))
    moved, logits, _ = points.tensor_split((2 * groups * POINTS, 3 * groups * POINTS), dim=-1)
    offset = moved.unflatten(-1, (POINTS, groups, 2)).transpose(-3, -2).flatten(-3)
    mask = logits.unflatten(-1, (POINTS, groups)).softmax(-2).transpose(-2, -1).flatten(-2)
    output: Tensor = torch.ops.cascadezoo.dcnv3(
        input, offset, mask, KERNEL, stride, pad, dilation, groups, offset_scale
    )
    return output


def _fake(input: Tensor, offset_mask: Tensor, *_: Any) -> Tensor:
    return input.new_empty(*offset_mask.shape[:3], input.shape[3])


def _no_gradient(ctx: Any, *grads: Tensor) -> Any:
    raise UsageError("dcnv3_fused has no gradient: train with dcnv3")


define(
    "dcnv3_fused(Tensor input, Tensor offset_mask, int[2] stride, int[2] pad, int[2] dilation, int groups,"
    " float offset_scale) -> Tensor",
    reference,
    _fake,
    backward=_no_gradient,
    compiled=("cuda",),
)
