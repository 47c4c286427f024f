"""DCNv3's sampling: a deformable convolution with one weight per sampled point in place of a kernel (InternImage, Wang
et al. 2023).

The reference below gathers the four pixels around each sampling position and weighs them; csrc/ has the same in C++ and
CUDA.  Work is done in float32 for half types.

Formulas ported from (licences in NOTICE):

- OpenGVLab/InternImage 31c962d, Copyright (c) 2022 OpenGVLab, MIT: ``detection/ops_dcnv3/functions/dcnv3_func.py``
  and ``detection/ops_dcnv3/src``
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cascadezoo.errors import UsageError
from cascadezoo.ops.library import define

# N images, H x W pixels, Ho x Wo output pixels, G groups of D channels, K = kernel_h * kernel_w points,
# M output pixels of one chunk

Size = int | tuple[int, int]
CHUNK = 2**20  # numbers in the largest intermediate tensor of a chunk


def dcnv3(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    kernel: Size,
    stride: Size,
    pad: Size,
    dilation: Size,
    groups: int,
    offset_scale: float,
) -> Tensor:
    """Sum of ``mask`` times the input, sampled bilinearly at K points per group around every output pixel.

    Point ``p = ix * kernel_h + iy`` of output pixel (y, x) lies, in pixels of the input whose centres are integers, at

        x * stride - pad + half + (ix * dilation - half + offset_x) * offset_scale

    with ``half = dilation * (kernel_w - 1) // 2``, and likewise for y: ``offset_scale`` widens the kernel's own grid as
    well.  Pixels outside the image count as zero.
    The gradient of a position at an integer is that of the cell to its right; points at or beyond -1 or the far edge
    have none.

    Args:
        input: (N, H, W, G * D), floating point.
        offset: (N, Ho, Wo, G * K * 2), of each group's points x and y, in pixels.
        mask: (N, Ho, Wo, G * K).
        kernel, stride, pad, dilation: one number, or (height, width).
        groups: G.
        offset_scale: factor of offsets and grid.

    Returns:
        (N, Ho, Wo, G * D) of the input's type, with ``Ho = (H + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1``.

    Raises:
        UsageError: the shapes do not fit each other.
    """
    kernel, stride, pad, dilation = (pair(size) for size in (kernel, stride, pad, dilation))
    _check(input, offset, mask, Window(kernel, stride, pad, dilation, groups, offset_scale))
    if not input.dtype == offset.dtype == mask.dtype:  # a position of 300 pixels needs more than half precision
        points = torch.promote_types(input.dtype, torch.float32)
        offset, mask = offset.to(points), mask.to(points)
    output: Tensor = torch.ops.cascadezoo.dcnv3(
        input, offset, mask, kernel, stride, pad, dilation, groups, float(offset_scale)
    )
    return output


@dataclass(frozen=True)
class Window:
    """Where the points of an output pixel lie before its offsets."""

    kernel: tuple[int, int]  # pairs are height, width
    stride: tuple[int, int]
    pad: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    scale: float

    @property
    def points(self) -> int:
        return self.kernel[0] * self.kernel[1]

    def output_size(self, size: int, axis: int) -> int:
        return (size + 2 * self.pad[axis] - self.dilation[axis] * (self.kernel[axis] - 1) - 1) // self.stride[axis] + 1

    def centres(self, count: int, axis: int, like: Tensor) -> Tensor:
        """(count,) position around which an output pixel's points lie."""
        first = self.dilation[axis] * (self.kernel[axis] - 1) // 2 - self.pad[axis]
        return torch.arange(count, device=like.device).to(like.dtype) * self.stride[axis] + first

    def grid(self, axis: int, like: Tensor) -> Tensor:
        """(K,) distance of each point from the centre, before ``scale``; x is the slow index."""
        steps = torch.arange(self.kernel[axis], device=like.device) * self.dilation[axis]
        steps = (steps - self.dilation[axis] * (self.kernel[axis] - 1) // 2).to(like.dtype)
        return steps.repeat_interleave(self.kernel[0]) if axis == 1 else steps.repeat(self.kernel[1])


def pair(size: Size) -> tuple[int, int]:
    """Height and width."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def output_shape(input: Tensor, window: Window) -> tuple[int, int, int]:
    """N, Ho and Wo.

    Raises:
        UsageError: the input does not fit the window, or is not floating point.
    """
    if input.dim() != 4 or window.groups < 1 or input.shape[3] % window.groups:
        raise UsageError(
            f"dcnv3: input has shape {tuple(input.shape)}, not (N, H, W, channels) with channels a multiple of"
            f" {window.groups} groups"
        )
    if not input.is_floating_point():
        raise UsageError(f"dcnv3: input is {input.dtype}, not floating point")
    if min(*window.kernel, *window.stride, *window.dilation) < 1 or min(window.pad) < 0:
        raise UsageError(f"dcnv3: kernel, stride and dilation must be positive and pad not negative: {window}")
    n, h, w, _ = input.shape
    size = (n, window.output_size(h, 0), window.output_size(w, 1))
    if min(size[1:]) < 1:
        raise UsageError(f"dcnv3: an input of {h}x{w} pixels is smaller than the kernel: {window}")
    return size


def _check(input: Tensor, offset: Tensor, mask: Tensor, window: Window) -> None:
    size = output_shape(input, window)
    for name, tensor, numbers in (("offset", offset, 2), ("mask", mask, 1)):
        expected = (*size, window.groups * window.points * numbers)
        if tuple(tensor.shape) != expected:
            raise UsageError(f"dcnv3: {name} has shape {tuple(tensor.shape)}, not {expected}")


@dataclass(frozen=True)
class _Taps:
    """The pixels around every point of a chunk, each (M, G, K, 4): top left, top right, bottom left, bottom right."""

    row: Tensor  # int64 into (N * H * W * G); 0 where the pixel is outside
    weight: Tensor  # 0 where the pixel is outside
    along_x: Tensor  # the weight's derivative by x; 0 outside
    along_y: Tensor


def _taps(pixels: Tensor, offset: Tensor, size: tuple[int, int], width: int, window: Window) -> _Taps:
    """``pixels`` (M,) int64 into (N, Ho, Wo), with Wo = ``width``; ``offset`` (M, G, K, 2); ``size`` is H, W."""
    (h, w), (ho, wo), groups = size, (window.output_size(size[0], 0), width), window.groups
    image, y, x = pixels // (ho * wo), pixels // wo % ho, pixels % wo
    x = window.centres(wo, 1, offset)[x][:, None, None] + (window.grid(1, offset) + offset[..., 0]) * window.scale
    y = window.centres(ho, 0, offset)[y][:, None, None] + (window.grid(0, offset) + offset[..., 1]) * window.scale
    inside = (x > -1) & (y > -1) & (x < w) & (y < h)
    x, y = x.where(inside, 0), y.where(inside, 0)  # far or undefined positions have no pixel number
    left, top = x.floor(), y.floor()
    fx, fy = (x - left)[..., None], (y - top)[..., None]
    step_x = torch.tensor([0, 1, 0, 1], device=x.device)
    step_y = torch.tensor([0, 0, 1, 1], device=x.device)
    column, line = left.to(torch.int64)[..., None] + step_x, top.to(torch.int64)[..., None] + step_y
    inside = inside[..., None] & (column >= 0) & (column < w) & (line >= 0) & (line < h)
    part_x, part_y = torch.where(step_x == 1, fx, 1 - fx), torch.where(step_y == 1, fy, 1 - fy)
    group = torch.arange(groups, device=x.device)[:, None, None]
    row = ((image[:, None, None, None] * h + line) * w + column) * groups + group
    return _Taps(
        row.where(inside, 0),
        (part_x * part_y).where(inside, 0),
        ((2 * step_x - 1) * part_y).where(inside, 0),
        ((2 * step_y - 1) * part_x).where(inside, 0),
    )


def _chunks(offset: Tensor, numbers: int) -> Iterator[slice]:
    """Output pixels, whole rows of them, such that ``numbers`` of each pixel stay within ``CHUNK``."""
    n, ho, wo, _ = offset.shape
    step = max(1, CHUNK // max(1, numbers * wo)) * wo
    for start in range(0, n * ho * wo, max(1, step)):
        yield slice(start, start + step)


def reference(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    kernel: list[int],
    stride: list[int],
    pad: list[int],
    dilation: list[int],
    groups: int,
    offset_scale: float,
) -> Tensor:
    """The operator in PyTorch, a chunk of output rows at a time; arguments as in the schema below."""
    window = _window(kernel, stride, pad, dilation, groups, offset_scale)
    _check(input, offset, mask, window)
    n, h, w, channels = input.shape
    kind = torch.promote_types(input.dtype, torch.float32)
    output = input.new_empty(n, *offset.shape[1:3], channels)
    if not (output.numel() and input.numel()):
        return output.zero_()
    rows = input.to(kind).reshape(-1, channels // groups)  # (N * H * W * G, D)
    flat, weights, to = _by_pixel(offset, groups, 2), _by_pixel(mask, groups, 1), output.reshape(-1, channels)
    for part in _chunks(offset, groups * window.points * 8):
        taps = _taps(_numbers(part, flat), flat[part].to(kind), (h, w), offset.shape[2], window)
        weight = taps.weight * weights[part].to(kind)
        # the weighted sum of rows, without ever holding those rows
        bags, each = taps.row.flatten(0, 1).flatten(1), weight.flatten(0, 1).flatten(1)
        sums = functional.embedding_bag(bags, rows, per_sample_weights=each, mode="sum")
        to[part] = sums.reshape(-1, channels).to(input.dtype)
    return output


def backward_reference(
    grad: Tensor,
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    kernel: list[int],
    stride: list[int],
    pad: list[int],
    dilation: list[int],
    groups: int,
    offset_scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by input, offset and mask for ``grad`` (N, Ho, Wo, G * D), that of the output."""
    window = _window(kernel, stride, pad, dilation, groups, offset_scale)
    _check(input, offset, mask, window)
    _, h, w, channels = input.shape
    kind = torch.promote_types(input.dtype, torch.float32)
    grad_offset, grad_mask = (torch.zeros_like(t, memory_format=torch.contiguous_format) for t in (offset, mask))
    if not input.numel():
        return input.new_zeros(input.shape), grad_offset, grad_mask
    rows = input.to(kind).reshape(-1, channels // groups)
    grad_rows = torch.zeros_like(rows)
    flat, weights = _by_pixel(offset, groups, 2), _by_pixel(mask, groups, 1)
    to_offset, to_mask = _by_pixel(grad_offset, groups, 2), _by_pixel(grad_mask, groups, 1)
    above = grad.reshape(-1, groups, channels // groups)
    for part in _chunks(offset, 4 * window.points * channels):
        taps = _taps(_numbers(part, flat), flat[part].to(kind), (h, w), offset.shape[2], window)
        up, weight = above[part].to(kind)[:, :, None, None], weights[part].to(kind)  # (M, G, 1, 1, D), (M, G, K, 1)
        dot = (rows[taps.row] * up).sum(-1)  # what each pixel's value is worth to the loss, (M, G, K, 4)
        to_mask[part] = (taps.weight * dot).sum(-1, keepdim=True).to(mask.dtype)
        slopes = torch.stack(((taps.along_x * dot).sum(-1), (taps.along_y * dot).sum(-1)), -1)
        to_offset[part] = (slopes * weight * window.scale).to(offset.dtype)
        spread = (taps.weight * weight)[..., None] * up
        grad_rows.index_add_(0, taps.row.flatten(), spread.flatten(0, 3))
    return grad_rows.reshape(input.shape).to(input.dtype), grad_offset, grad_mask


def _window(
    kernel: list[int], stride: list[int], pad: list[int], dilation: list[int], groups: int, scale: float
) -> Window:
    pairs = [(size[0], size[1]) for size in (kernel, stride, pad, dilation)]
    return Window(pairs[0], pairs[1], pairs[2], pairs[3], groups, scale)


def _by_pixel(tensor: Tensor, groups: int, numbers: int) -> Tensor:
    """(N, Ho, Wo, G * K * numbers) as (N * Ho * Wo, G, K, numbers)."""
    return tensor.reshape(-1, groups, tensor.shape[3] // (groups * numbers), numbers)


def _numbers(part: slice, flat: Tensor) -> Tensor:
    return torch.arange(part.start, min(part.stop, len(flat)), device=flat.device)


def _fake(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    kernel: list[int],
    stride: list[int],
    pad: list[int],
    dilation: list[int],
    groups: int,
    offset_scale: float,
) -> Tensor:
    return input.new_empty(*offset.shape[:3], input.shape[3])


def _backward_fake(grad: Tensor, input: Tensor, offset: Tensor, mask: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return input.new_empty(input.shape), offset.new_empty(offset.shape), mask.new_empty(mask.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.numbers = inputs[3:]


def _autograd(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grads = torch.ops.cascadezoo.dcnv3_backward(grad, *ctx.saved_tensors, *ctx.numbers)
    return (*grads, *[None] * len(ctx.numbers))


def _only_once(ctx: Any, *grads: Tensor) -> Any:
    raise UsageError("dcnv3 can be differentiated once: there is no second derivative")


_NUMBERS = "int[2] kernel, int[2] stride, int[2] pad, int[2] dilation, int groups, float offset_scale"
define(
    f"dcnv3(Tensor input, Tensor offset, Tensor mask, {_NUMBERS}) -> Tensor",
    reference,
    _fake,
    backward=_autograd,
    setup=_setup,
    compiled=("cpu", "cuda"),
)
define(
    f"dcnv3_backward(Tensor grad, Tensor input, Tensor offset, Tensor mask, {_NUMBERS}) -> (Tensor, Tensor, Tensor)",
    backward_reference,
    _backward_fake,
    backward=_only_once,
    compiled=("cpu", "cuda"),
)
