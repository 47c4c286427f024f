"""The plain Vision Transformer (https://arxiv.org/abs/2010.11929) as ViTDet uses it
(https://arxiv.org/abs/2203.16527): attention within windows, in some blocks over the whole map.

Shapes: N images, H x W patches, C channels of M heads with D = C / M each; L keys and as many queries, the h x w
patches of a window or of the map.  Between patches and blocks everything is channels last, (N, H, W, C).

Formulas ported from (licences in NOTICE):

- facebookresearch/detectron2 02b5c4e, Copyright (c) Facebook, Inc. and its affiliates, Apache-2.0:
  ``detectron2/modeling/backbone/vit.py``, ``detectron2/modeling/backbone/utils.py``
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from cascadezoo.modeling.channels_last import MLP
from cascadezoo.spec.backbone import drop_rates
from cascadezoo.spec.vit import ViTSpec

_EPS = 1e-6
_BIASES = 2**26  # of an image's attention computed at once where no gradients are: 256 MiB in float32


def resized_positions(table: Tensor, height: int, width: int) -> Tensor:
    """Absolute positions (1, 1 + n * n, C), the first a class token's, as (1, height, width, C): the n x n others,
    cubically interpolated, without antialiasing."""
    side = round((table.shape[1] - 1) ** 0.5)
    grid: Tensor = table[:, 1:].unflatten(1, (side, side))
    if (height, width) == (side, side):
        return grid
    size = (height, width)
    wide = F.interpolate(grid.permute(0, 3, 1, 2).float(), size=size, mode="bicubic", align_corners=False)
    return wide.permute(0, 2, 3, 1).to(table.dtype)


def relative_positions(table: Tensor, length: int) -> Tensor:
    """(length, length, D): row length - 1 + i - j of the table, (2 * length - 1, D), for query i and key j.

    A table for another length is linearly interpolated along its rows first.
    """
    rows = 2 * length - 1
    if table.shape[0] != rows:
        table = F.interpolate(table.t()[None].float(), size=rows, mode="linear", align_corners=False)[0].t().to(table)
    places = torch.arange(length, device=table.device)
    return table[places[:, None] - places + length - 1]


class Attention(nn.Module):
    """Self-attention among all patches of a map, or of a window, with relative positions of rows and of columns.

    The logit of query q at (y, x) and key k at (y', x') is q k / sqrt(D) + q R_h[y - y'] + q R_w[x - x'].
    """

    def __init__(self, channels: int, heads: int, length: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * length - 1, channels // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * length - 1, channels // heads))

    def init_weights(self) -> None:
        """Random weights; no place is preferred to another."""
        nn.init.trunc_normal_(self.qkv.weight, std=0.02)
        nn.init.trunc_normal_(self.proj.weight, std=0.02)
        nn.init.zeros_(self.rel_pos_h)
        nn.init.zeros_(self.rel_pos_w)

    def forward(self, x: Tensor) -> Tensor:
        """(N, h, w, C) to the same shape."""
        n, height, width, _ = x.shape
        q, k, v = self.qkv(x).view(n, height * width, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # (N, M, L, D) each
        places = q.unflatten(2, (height, width))
        of_rows = torch.einsum("nmhwd,hkd->nmhwk", places, relative_positions(self.rel_pos_h, height)).flatten(2, 3)
        of_columns = torch.einsum("nmhwd,wkd->nmhwk", places, relative_positions(self.rel_pos_w, width)).flatten(2, 3)
        found = _attended(q, k, v, of_rows, of_columns)
        out: Tensor = self.proj(found.transpose(1, 2).reshape(x.shape))
        return out


def _attended(q: Tensor, k: Tensor, v: Tensor, of_rows: Tensor, of_columns: Tensor) -> Tensor:
    """Attention of q, k and v (N, M, L, D) with the biases (N, M, L, h) of a key's row and (N, M, L, w) of its column:
    (N, M, L, D).

    Where no gradients are computed, some queries at a time: at 1024 pixels and 16 heads the biases of all take a
    gigabyte, and a quarter of them at a time costs no time that could be measured.
    """
    queries, keys = q.shape[2], k.shape[2]
    most = queries if torch.is_grad_enabled() else max(1, _BIASES // (q.shape[1] * keys))
    parts = [
        F.scaled_dot_product_attention(some, k, v, (rows[..., :, None] + columns[..., None, :]).flatten(-2))
        for some, rows, columns in zip(*(x.split(most, 2) for x in (q, of_rows, of_columns)), strict=True)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2)


class Block(nn.Module):
    """Attention and an MLP, each normed before, added to what goes in, and in training left out at times."""

    def __init__(self, index: int, spec: ViTSpec) -> None:
        super().__init__()
        self.window = 0 if index in spec.global_blocks else spec.window
        self.norm1 = nn.LayerNorm(spec.width, eps=_EPS)
        self.attn = Attention(spec.width, spec.heads, self.window or spec.image_size // spec.patch)
        self.norm2 = nn.LayerNorm(spec.width, eps=_EPS)
        self.mlp = MLP(spec.width, int(spec.width * spec.mlp_ratio))
        self.drop_path = StochasticDepth(drop_rates(spec.drop_path, spec.blocks)[0][index], "row")

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) to the same shape."""
        x = x + self.drop_path(self._attended(self.norm1(x)))
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out

    def _attended(self, x: Tensor) -> Tensor:
        if not self.window:
            return self.attn(x)  # type: ignore[no-any-return]
        height, width = x.shape[1:3]
        windows = partitioned(x, self.window)
        return joined(self.attn(windows), height, width)


def partitioned(x: Tensor, side: int) -> Tensor:
    """(N, H, W, C) to windows (N * rows * columns, side, side, C), row by row; zeros fill the last ones at right and
    bottom, and take part in the attention."""
    height, width, channels = x.shape[1:]
    x = F.pad(x, (0, 0, 0, -width % side, 0, -height % side))
    cells: Tensor = x.unflatten(2, (-1, side)).unflatten(1, (-1, side)).transpose(2, 3)
    return cells.reshape(-1, side, side, channels)


def joined(windows: Tensor, height: int, width: int) -> Tensor:
    """``partitioned`` undone: (N, H, W, C), without what was filled in."""
    side, channels = windows.shape[2:]
    rows, columns = -(-height // side), -(-width // side)
    x = windows.view(-1, rows, columns, side, side, channels).transpose(2, 3)
    return x.reshape(-1, rows * side, columns * side, channels)[:, :height, :width]


class ViT(nn.Module):
    """Images (N, 3, P * H, P * W), of patches of P x P pixels, to one map (N, C, H, W).

    What remains of an image at right and bottom, less than a patch, is not seen, as published.
    """

    def __init__(self, spec: ViTSpec) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, spec.width, spec.patch, stride=spec.patch)
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (spec.pretrained_size // spec.patch) ** 2, spec.width))
        self.blocks = nn.ModuleList(Block(index, spec) for index in range(spec.blocks[0]))

    def init_weights(self) -> None:
        """Random positions."""
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        x = self.patch_embed(pixels).permute(0, 2, 3, 1)
        x = x + resized_positions(self.pos_embed, *x.shape[1:3])
        for block in self.blocks:
            x = block(x)
        return [x.permute(0, 3, 1, 2)]
