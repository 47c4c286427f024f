"""3 x 3 convolutions of stride 1 and padding 1 by Winograd's minimal filtering F(4 x 4, 3 x 3).

36 products give 16 results that take 144 as a plain sum; rounding errors are some four times those of that sum.  Where
an image ends with one or two rows or columns, the compiled operator takes F(2, 3) along that axis, of the same points.
Source: Lavin and Gray 2016, https://arxiv.org/abs/1509.09308, with the points 0, 1, -1, 2, -2 and infinity.

Shapes: N images, C channels in, K channels out, H x W pixels.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cascadezoo.errors import UsageError
from cascadezoo.ops.library import define

_CHUNK = 32  # output channels that lie side by side in a packed weight
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
    return weight.shape[2:] == (3, 3) and weight.shape[0] % _CHUNK == 0 and weight.shape[1] % 16 == 0


def pack_weight(weight: Tensor) -> Tensor:
    """A convolution's weight (K, C, 3, 3) at the 36 points, (K / 32, 36, C, 32) float32, computed in float64."""
    g, chunks = torch.tensor(_G, dtype=torch.float64), weight.detach().split(_CHUNK)
    packed = weight.new_empty(len(chunks), _POINTS**2, weight.shape[1], _CHUNK, dtype=torch.float32)
    for to, chunk in zip(packed, chunks, strict=True):  # one by one: in float64 all would take three times the memory
        to.copy_(torch.einsum("ai,kcij,bj->abck", g, chunk.double(), g).flatten(0, 1))
    return packed


def winograd_conv3x3(x: Tensor, weight: Tensor, bias: Tensor, *, relu: bool = False, lanes: int = 16) -> Tensor:
    """Convolve x (N, C, H, W) with a packed weight and a bias (K,) to (N, K, H, W), both channels last in memory.

    Args:
        x: float32; other layouts are copied.
        weight: from ``pack_weight``.
        relu: whether numbers below zero become zero.
        lanes: the most floats (4, 8 or 16) that the compiled kernel computes at once, where the processor can.
    """
    out: Tensor = torch.ops.cascadezoo.winograd_conv3x3(x.permute(0, 2, 3, 1), weight, bias, relu, lanes)
    return out.permute(0, 3, 1, 2)


def _reference(x: Tensor, weight: Tensor, bias: Tensor, relu: bool, lanes: int) -> Tensor:
    _check(x, weight, bias, lanes)
    n, h, w, _ = x.shape
    if x.numel() == 0:
        return x.new_zeros(n, h, w, bias.shape[0])
    b, a = x.new_tensor(_B), x.new_tensor(_A)
    below, right = -h % _TILE, -w % _TILE
    padded = F.pad(x, (0, 0, 1, 1 + right, 1, 1 + below))
    tiles = padded.unfold(1, _POINTS, _TILE).unfold(2, _POINTS, _TILE)  # (N, rows, columns, C, 6, 6)
    points = torch.einsum("ai,nyxcij,bj->abnyxc", b, tiles, b).flatten(2, 4).flatten(0, 1)
    products = points @ weight.permute(1, 2, 0, 3).flatten(2)  # (36, tiles, K)
    products = products.unflatten(1, (n, tiles.shape[1], -1)).unflatten(0, (_POINTS, _POINTS))
    pixels = torch.einsum("ia,abnyxk,jb->nyixjk", a, products, a)
    out = pixels.flatten(3, 4).flatten(1, 2)[:, :h, :w] + bias
    return (out.relu() if relu else out).contiguous()


def _check(x: Tensor, weight: Tensor, bias: Tensor, lanes: int) -> None:
    channels, out = x.shape[-1], bias.numel()
    if channels % 16 or out % _CHUNK:
        raise UsageError(
            f"winograd_conv3x3: it takes multiples of 16 channels and gives multiples of {_CHUNK}, not {channels} and"
            f" {out}"
        )
    if bias.dim() != 1:
        raise UsageError(f"winograd_conv3x3: bias must be (K,), not {tuple(bias.shape)}")
    if weight.shape != (out // _CHUNK, _POINTS**2, channels, _CHUNK):
        raise UsageError("winograd_conv3x3: weight must be as pack_weight makes it")
    if any(tensor.dtype != torch.float32 for tensor in (x, weight, bias)):
        raise UsageError("winograd_conv3x3: tensors must be float32")
    if lanes not in (4, 8, 16):
        raise UsageError(f"winograd_conv3x3: lanes must be 4, 8 or 16, not {lanes}")


def _fake(x: Tensor, weight: Tensor, bias: Tensor, *_: Any) -> Tensor:
    return x.new_empty(*x.shape[:3], bias.shape[0])


define(
    "winograd_conv3x3(Tensor x, Tensor weight, Tensor bias, bool relu, int lanes) -> Tensor",
    _reference,
    _fake,
    compiled=("cpu",),
)
