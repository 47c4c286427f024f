"""3 x 3 convolutions of stride 1 and padding 1 by Winograd's minimal filtering F(4 x 4, 3 x 3).

36 products give 16 results that take 144 as a plain sum.  Rounding errors are larger than those of that sum: for 256
channels below 6e-6 of the results' spread.  Where an image ends with one or two rows or columns, the compiled operator
takes F(2, 3) along that axis, of the same points.
Source: Lavin and Gray 2016, https://arxiv.org/abs/1509.09308, with the points 0, 1, -1, 2, -2 and infinity.

Shapes: N images, C channels in, K channels out, H x W pixels.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cascadezoo.errors import UsageError
from cascadezoo.ops.library import define

CHUNK = 32
"""Output channels that lie side by side in a packed weight."""

_TILE, _POINTS = 4, 6  # along a side
_B = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_G = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_A = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


def can_pack(weight: Tensor) -> bool:
    """Whether a weight is one that ``pack_weight`` takes: (K, C, 3, 3), K a multiple of 32 and C of 16."""
    return weight.shape[2:] == (3, 3) and weight.shape[0] % CHUNK == 0 and weight.shape[1] % 16 == 0


def pack_weight(weight: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """A convolution's weight (K, C, 3, 3) at the 36 points, (K / 32, 36, C, 32) float32, computed in ``dtype``."""
    points, chunks = _points(dtype), weight.detach().split(CHUNK)
    packed = weight.new_empty(len(chunks), _POINTS**2, weight.shape[1], CHUNK, dtype=torch.float32)
    for to, chunk in zip(packed, chunks, strict=True):  # one by one: in float64 all would take three times the memory
        rows = chunk.to(dtype).permute(2, 3, 1, 0).reshape(9, -1)
        to.copy_((points @ rows).view(to.shape))
    return packed


def weight_gradient(x: Tensor, grad: Tensor, *, lanes: int = 16) -> Tensor:
    """The gradient (K, C, 3, 3) of a convolution's weight from its input x (N, C, H, W) and its output's gradient
    (N, K, H, W), by as few products as the convolution itself; arguments as of ``winograd_conv3x3``."""
    points: Tensor = torch.ops.cascadezoo.winograd_weight_gradient(
        x.permute(0, 2, 3, 1), grad.permute(0, 2, 3, 1), lanes
    )
    chunks: Tensor = (_points(points.dtype).t() @ points.flatten(2)).unflatten(2, (-1, CHUNK))
    return chunks.permute(0, 3, 2, 1).reshape(grad.shape[1], x.shape[1], 3, 3)


def _points(dtype: torch.dtype) -> Tensor:
    """(36, 9): a weight's 3 x 3 numbers to its 6 x 6 points."""
    g = torch.tensor(_G, dtype=dtype)
    return torch.kron(g, g)


def winograd_conv3x3(
    x: Tensor, weight: Tensor, bias: Tensor, onto: Tensor | None = None, *, relu: bool = False, lanes: int = 16
) -> Tensor:
    """Convolve x (N, C, H, W) with a packed weight and a bias (K,) to (N, K, H, W), both channels last in memory.

    Args:
        x: float32; other layouts are copied.
        weight: from ``pack_weight``.
        onto: (N, K, H, W), to which the result is added, in its memory.
        relu: whether numbers below zero become zero, at last.
        lanes: the most floats (4, 8 or 16) that the compiled kernel computes at once, where the processor can.
    """
    return onto_and_relu(torch.ops.cascadezoo.winograd_conv3x3, x, weight, bias, onto, relu, lanes)


def onto_and_relu(
    operator: Callable[..., Tensor],
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    onto: Tensor | None,
    relu: bool,
    lanes: int,
) -> Tensor:
    """What ``winograd_conv3x3`` gives for these, by an ``operator`` that adds to nothing and has channels last."""
    rows = operator(x.permute(0, 2, 3, 1), weight, bias, relu and onto is None, lanes)
    out = rows.permute(0, 3, 1, 2)
    if onto is None:
        return out
    onto.add_(out)
    return onto.relu_() if relu else onto


def _reference(x: Tensor, weight: Tensor, bias: Tensor, relu: bool, lanes: int) -> Tensor:
    _check(x, weight, bias, lanes)
    return by_tiles(x, weight.permute(1, 2, 0, 3).flatten(2), bias, relu, x.new_tensor(_B), x.new_tensor(_A))


def by_tiles(x: Tensor, weight: Tensor, bias: Tensor, relu: bool, b: Tensor, a: Tensor) -> Tensor:
    """x (N, H, W, C) convolved with a weight at P x P points (P * P, C, K), by tiles of T x T pixels: (N, H, W, K).

    ``b`` (P, P) takes pixels to points, ``a`` (T, P) takes points to pixels, each along one axis.
    """
    n, h, w, _ = x.shape
    if x.numel() == 0:
        return x.new_zeros(n, h, w, bias.shape[0])
    products = _input_points(x, b) @ weight  # (P * P, tiles, K)
    products = products.unflatten(1, (n, -(-h // len(a)), -1)).unflatten(0, (len(b), len(b)))
    pixels = torch.einsum("ia,abnyxk,jb->nyixjk", a, products, a)
    out = pixels.flatten(3, 4).flatten(1, 2)[:, :h, :w] + bias
    return (out.relu() if relu else out).contiguous()


def _gradient_reference(x: Tensor, grad: Tensor, lanes: int) -> Tensor:
    _check_gradient(x, grad, lanes)
    if x.numel() == 0:
        return x.new_zeros(grad.shape[3] // CHUNK, _POINTS**2, x.shape[3], CHUNK)
    a = x.new_tensor(_A)
    below, right = -x.shape[1] % _TILE, -x.shape[2] % _TILE
    tiles = F.pad(grad, (0, 0, 0, right, 0, below)).unfold(1, _TILE, _TILE).unfold(2, _TILE, _TILE)
    of_output = torch.einsum("ia,nyxkij,jb->abnyxk", a, tiles, a).flatten(2, 4).flatten(0, 1)  # (36, tiles, K)
    sums: Tensor = (_input_points(x, x.new_tensor(_B)).transpose(1, 2) @ of_output).unflatten(2, (-1, CHUNK))
    return sums.permute(2, 0, 1, 3).contiguous()


def _input_points(x: Tensor, b: Tensor) -> Tensor:
    """(N, H, W, C) at the points of each tile, (P * P, tiles, C)."""
    points = len(b)
    tile = points - 2
    below, right = -x.shape[1] % tile, -x.shape[2] % tile
    padded = F.pad(x, (0, 0, 1, 1 + right, 1, 1 + below))
    tiles = padded.unfold(1, points, tile).unfold(2, points, tile)  # (N, rows, columns, C, P, P)
    return torch.einsum("ai,nyxcij,bj->abnyxc", b, tiles, b).flatten(2, 4).flatten(0, 1)


def _check(x: Tensor, weight: Tensor, bias: Tensor, lanes: int) -> None:
    shape = (bias.numel() // CHUNK, _POINTS**2, x.shape[-1], CHUNK)
    check("winograd_conv3x3", x, weight, shape, bias, lanes)


def check(name: str, x: Tensor, weight: Tensor, shape: tuple[int, ...], bias: Tensor, lanes: int) -> None:
    """Refuse what the operator ``name`` does not take; ``shape`` is that of its packed weight.

    Raises:
        UsageError: it takes no such tensors, or not so many ``lanes``.
    """
    _check_numbers(name, x.shape[-1], bias.numel(), lanes, x, weight, bias)
    if bias.dim() != 1:
        raise UsageError(f"{name}: bias must be (K,), not {tuple(bias.shape)}")
    if weight.shape != shape:
        raise UsageError(f"{name}: weight must be as pack_weight makes it")


def _check_gradient(x: Tensor, grad: Tensor, lanes: int) -> None:
    if x.dim() != 4 or grad.dim() != 4 or x.shape[:3] != grad.shape[:3]:
        raise UsageError("winograd_weight_gradient: x must be (N, H, W, C) and grad (N, H, W, K)")
    _check_numbers("winograd_weight_gradient", x.shape[3], grad.shape[3], lanes, x, grad)


def _check_numbers(name: str, channels: int, out: int, lanes: int, *tensors: Tensor) -> None:
    if channels % 16 or out % CHUNK:
        raise UsageError(
            f"{name}: it takes multiples of 16 channels and gives multiples of {CHUNK}, not {channels} and {out}"
        )
    if any(tensor.dtype != torch.float32 for tensor in tensors):
        raise UsageError(f"{name}: tensors must be float32")
    if lanes not in (4, 8, 16):
        raise UsageError(f"{name}: lanes must be 4, 8 or 16, not {lanes}")


def fake(x: Tensor, weight: Tensor, bias: Tensor, *_: Any) -> Tensor:
    """The result's shape: (N, H, W, K)."""
    return x.new_empty(*x.shape[:3], bias.shape[0])


def _gradient_fake(x: Tensor, grad: Tensor, _: int) -> Tensor:
    return x.new_empty(grad.shape[3] // CHUNK, _POINTS**2, x.shape[3], CHUNK)


define(
    "winograd_conv3x3(Tensor x, Tensor weight, Tensor bias, bool relu, int lanes) -> Tensor",
    _reference,
    fake,
    compiled=("cpu",),
)
define(
    "winograd_weight_gradient(Tensor x, Tensor grad, int lanes) -> Tensor",
    _gradient_reference,
    _gradient_fake,
    compiled=("cpu",),
)
