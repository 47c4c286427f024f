"""3 x 3 convolutions of stride 1 and padding 1 by Winograd's minimal filtering F(6 x 6, 3 x 3).

64 products give 36 results that take 324 as a plain sum: a fifth fewer than by F(4 x 4, 3 x 3) of
``cascadezoo.ops.winograd``, with rounding errors about one and a half times as large.  The compiled operator takes
F(2, 3) or F(4, 3), of the same points, along an axis where an image ends with one to four rows or columns.
Source: Lavin and Gray 2016, https://arxiv.org/abs/1509.09308, with the points 0, 1, -1, infinity, 2, -2, 1/2 and -1/2.

Shapes: N images, C channels in, K channels out, H x W pixels.
"""

import torch
from torch import Tensor

from cascadezoo.ops import winograd
from cascadezoo.ops.library import define
from cascadezoo.ops.winograd import CHUNK, by_tiles, check, fake, onto_and_relu

_LARGEST = 256 * 256  # C * K: at their points more weights than these no longer stay in a cache
_B = (
    (1, 0, -21 / 4, 0, 21 / 4, 0, -1, 0),
    (0, 1, 1, -17 / 4, -17 / 4, 1, 1, 0),
    (0, -1, 1, 17 / 4, -17 / 4, -1, 1, 0),
    (0, -1, 0, 21 / 4, 0, -21 / 4, 0, 1),
    (0, 1 / 2, 1 / 4, -5 / 2, -5 / 4, 2, 1, 0),
    (0, -1 / 2, 1 / 4, 5 / 2, -5 / 4, -2, 1, 0),
    (0, 2, 4, -5 / 2, -5, 1 / 2, 1, 0),
    (0, -2, 4, 5 / 2, -5, -1 / 2, 1, 0),
)
_G = (
    (1, 0, 0),
    (-2 / 9, -2 / 9, -2 / 9),
    (-2 / 9, 2 / 9, -2 / 9),
    (0, 0, 1),
    (1 / 90, 1 / 45, 2 / 45),
    (1 / 90, -1 / 45, 2 / 45),
    (1 / 45, 1 / 90, 1 / 180),
    (1 / 45, -1 / 90, 1 / 180),
)
_A = (
    (1, 1, 1, 0, 1, 1, 32, 32),
    (0, 1, -1, 0, 2, -2, 16, -16),
    (0, 1, 1, 0, 4, 4, 8, 8),
    (0, 1, -1, 0, 8, -8, 4, -4),
    (0, 1, 1, 0, 16, 16, 2, 2),
    (0, 1, -1, 1, 32, -32, 1, -1),
)


def can_pack(weight: Tensor) -> bool:
    """Whether a weight is one that ``pack_weight`` takes and that F(6 x 6, 3 x 3) is quick with: (K, C, 3, 3), K a
    multiple of 32 and C of 16, both together at most 256 x 256."""
    return winograd.can_pack(weight) and weight.shape[0] * weight.shape[1] <= _LARGEST


def pack_weight(weight: Tensor) -> Tensor:
    """A convolution's weight (K, C, 3, 3) as (K / 32, C, 9, 32); every call of the operator takes it to the 64 points
    anew, so that no memory is held for them."""
    chunks: Tensor = weight.detach().flatten(2).unflatten(0, (-1, CHUNK))
    return chunks.permute(0, 2, 3, 1).contiguous()


def winograd6_conv3x3(
    x: Tensor, weight: Tensor, bias: Tensor, onto: Tensor | None = None, *, relu: bool = False, lanes: int = 16
) -> Tensor:
    """Convolve x (N, C, H, W) with a weight of ``pack_weight`` and a bias (K,) to (N, K, H, W), both channels last in
    memory; the arguments are those of ``winograd.winograd_conv3x3``."""
    return onto_and_relu(torch.ops.cascadezoo.winograd6_conv3x3, x, weight, bias, onto, relu, lanes)


def _reference(x: Tensor, weight: Tensor, bias: Tensor, relu: bool, lanes: int) -> Tensor:
    check("winograd6_conv3x3", x, weight, (bias.numel() // CHUNK, x.shape[-1], 9, CHUNK), bias, lanes)
    g = torch.tensor(_G, dtype=weight.dtype, device=weight.device)
    points = torch.kron(g, g) @ weight.permute(2, 1, 0, 3).flatten(1)
    return by_tiles(x, points.unflatten(1, (x.shape[-1], -1)), bias, relu, x.new_tensor(_B), x.new_tensor(_A))


define(
    "winograd6_conv3x3(Tensor x, Tensor weight, Tensor bias, bool relu, int lanes) -> Tensor",
    _reference,
    fake,
    compiled=("cpu",),
)
