"""3 x 3 convolutions of stride 1 in bfloat16 by Winograd's F(4 x 4, 3 x 3) (Lavin and Gray 2016,
https://arxiv.org/abs/1509.09308): 36 products for the 144 of the sum itself.

Transforms and sums are in float32; what is multiplied is rounded to bfloat16 after it is transformed, which costs most
of the accuracy.  How much depends on the points (Barabasz et al. 2020, https://arxiv.org/abs/1803.10986).  At 0,
+-11/16, +-3/2 and infinity errors are four times those of a convolution in bfloat16 where neighbouring pixels are
independent, and twice where they are alike; the usual 0, +-1, +-2 and infinity cost up to twice as much.

Shapes: N images, C channels in, K channels out, H x W pixels.
"""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cascadezoo.errors import UsageError
from cascadezoo.ops.library import COMPILED, define

_CHUNK = 32  # output channels that lie side by side in a packed weight
_TILE, _POINTS = 4, 6  # along a side
_NEAR, _FAR = 11 / 16, 3 / 2
_AT = (0.0, _NEAR, -_NEAR, None, _FAR, -_FAR)  # None: infinity; the first four are those of tiles two wide


def _powers(count: int) -> list[list[float]]:
    """Each point's powers 0 .. count - 1; of infinity the last one alone."""
    last = [0.0] * (count - 1) + [1.0]
    return [last if point is None else [point**i for i in range(count)] for point in _AT]


def _weights_to_points() -> Tensor:
    """(6, 3) float64: a polynomial's values, over the divisors of the interpolation."""
    near, far = _NEAR**2, _FAR**2
    divisors = (near * far, *[2 * near * (near - far)] * 2, 1, *[2 * far * (far - near)] * 2)
    return torch.tensor(_powers(3), dtype=torch.float64) / torch.tensor(divisors, dtype=torch.float64)[:, None]


def _pixels_to_points() -> Tensor:
    """(6, 6) float64: row i has the coefficients of the product over all other points j of (x - p_j)."""
    near, far = _NEAR**2, _FAR**2
    rows: list[list[float]] = [
        [near * far, 0, -near - far, 0, 1, 0],
        *([0, -far * p, -far, p, 1, 0] for p in (_NEAR, -_NEAR)),
        [0, near * far, 0, -near - far, 0, 1],
        *([0, -near * p, -near, p, 1, 0] for p in (_FAR, -_FAR)),
    ]
    return torch.tensor(rows, dtype=torch.float64)


def can_pack(weight: Tensor) -> bool:
    """Whether a weight is one that ``pack_weight`` takes: (K, C, 3, 3), K and C multiples of 32."""
    return weight.shape[2:] == (3, 3) and weight.shape[0] % _CHUNK == 0 and weight.shape[1] % _CHUNK == 0


@cache
def widest() -> int:
    """The most ``lanes`` that run here: 16 where the processor and the library have avx512_bf16, else 4."""
    nothing, weight, bias = torch.zeros(1, 32, 0, 0), torch.zeros(32, 32, 3, 3), torch.zeros(32)
    try:
        winograd_conv3x3_bf16(nothing.bfloat16(), pack_weight(weight), bias.bfloat16(), lanes=16)
    except RuntimeError:
        return 4
    return 16


def is_quick() -> bool:
    """Whether the compiled operator is quicker here than oneDNN's convolution: with avx512_bf16, and without AMX, whose
    plain products take less time than the transforms."""
    return "cpu" in COMPILED and widest() == 16 and not torch.cpu._is_amx_tile_supported()


def pack_weight(weight: Tensor) -> Tensor:
    """A convolution's weight (K, C, 3, 3) at the 36 points, (K / 32, 36, C / 2, 32, 2) bfloat16."""
    g = _weights_to_points()
    points = torch.einsum("ai,kcij,bj->abck", g, weight.detach().double(), g).flatten(0, 1)
    chunks: Tensor = points.unflatten(-1, (-1, _CHUNK)).unflatten(1, (-1, 2)).permute(3, 0, 1, 4, 2)
    return chunks.float().bfloat16().contiguous()


def winograd_conv3x3_bf16(
    x: Tensor, weight: Tensor, bias: Tensor, onto: Tensor | None = None, *, relu: bool = False, lanes: int = 16
) -> Tensor:
    """Convolve x (N, C, H, W) with a packed weight and a bias (K,) to (N, K, H, W), both channels last in memory.

    Args:
        x: bfloat16, as all other tensors are; other layouts are copied.
        weight: from ``pack_weight``.
        onto: (N, K, H, W), added to the result.
        relu: whether numbers below zero become zero, at last.
        lanes: 16: in instructions of avx512_bf16, an error where there are none; 4: in those that every processor has.
    """
    rows = None if onto is None else onto.permute(0, 2, 3, 1)
    out: Tensor = torch.ops.cascadezoo.winograd_conv3x3_bf16(x.permute(0, 2, 3, 1), weight, bias, rows, relu, lanes)
    return out.permute(0, 3, 1, 2)


def _reference(x: Tensor, weight: Tensor, bias: Tensor, onto: Tensor | None, relu: bool, lanes: int) -> Tensor:
    """Of tiles four wide alone: where less remains, the compiled operator takes tiles two wide."""
    _check(x, weight, bias, onto, lanes)
    n, h, w, _ = x.shape
    if x.numel() == 0:
        return x.new_zeros(n, h, w, bias.shape[0])
    b = _pixels_to_points().to(x.device, torch.float32)
    a = torch.tensor(_powers(_TILE), device=x.device).T
    below, right = -h % _TILE, -w % _TILE
    padded = F.pad(x.float(), (0, 0, 1, 1 + right, 1, 1 + below))
    tiles = padded.unfold(1, _POINTS, _TILE).unfold(2, _POINTS, _TILE)  # (N, rows, columns, C, 6, 6)
    points = torch.einsum("ai,nyxcij,bj->abnyxc", b, tiles, b).flatten(2, 4).flatten(0, 1)
    products = points.bfloat16().float() @ weight.permute(1, 2, 4, 0, 3).flatten(3).flatten(1, 2).float()
    products = products.unflatten(1, (n, tiles.shape[1], -1)).unflatten(0, (_POINTS, _POINTS))
    pixels = torch.einsum("ia,abnyxk,jb->nyixjk", a, products, a)
    out = pixels.flatten(3, 4).flatten(1, 2)[:, :h, :w] + bias.float()
    if onto is not None:
        out = out + onto.float()
    return (out.relu() if relu else out).bfloat16().contiguous()


def _check(x: Tensor, weight: Tensor, bias: Tensor, onto: Tensor | None, lanes: int) -> None:
    name, channels, out = "winograd_conv3x3_bf16", x.shape[-1], bias.numel()
    if channels % _CHUNK or out % _CHUNK:
        raise UsageError(f"{name}: it takes and gives multiples of {_CHUNK} channels, not {channels} and {out}")
    if bias.dim() != 1:
        raise UsageError(f"{name}: bias must be (K,), not {tuple(bias.shape)}")
    if weight.shape != (out // _CHUNK, _POINTS**2, channels // 2, _CHUNK, 2):
        raise UsageError(f"{name}: weight must be as pack_weight makes it")
    if onto is not None and onto.shape != (*x.shape[:3], out):
        raise UsageError(f"{name}: onto must be of the result's shape")
    if any(tensor is not None and tensor.dtype != torch.bfloat16 for tensor in (x, weight, bias, onto)):
        raise UsageError(f"{name}: tensors must be bfloat16")
    if lanes not in (4, 16):
        raise UsageError(f"{name}: lanes must be 4 or 16, not {lanes}")


def _fake(x: Tensor, weight: Tensor, bias: Tensor, *_: Any) -> Tensor:
    return x.new_empty(*x.shape[:3], bias.shape[0])


define(
    "winograd_conv3x3_bf16(Tensor x, Tensor weight, Tensor bias, Tensor? onto, bool relu, int lanes) -> Tensor",
    _reference,
    _fake,
    compiled=("cpu",),
)
