"""Swin Transformer (https://arxiv.org/abs/2103.14030): attention within windows, which every second block shifts.

Everything after the stem is channels last, (N, H, W, C).  A map is padded to whole windows after a block's first norm,
and then shifted: its padded cells are keys and values as all others are.  However few windows a map has, it is shifted.

Formulas ported from (licences in NOTICE):

- SwinTransformer/Swin-Transformer-Object-Detection c7b20110, Copyright (c) 2021 Microsoft, MIT:
  ``mmdet/models/backbones/swin_transformer.py``
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from cascadezoo.modeling.channels_last import MLP, convolved
from cascadezoo.spec.backbone import drop_rates
from cascadezoo.spec.swin import SwinSpec

_EPS = 1e-5
_PATCH = 4  # pixels of a side
_APART = -100.0  # added to the logits of two cells that only the shift has brought into one window


class Positions(NamedTuple):
    """What the places of a window's w * w cells, row by row, say of a query and a key; the same in every block.

    Attributes:
        relative: (w * w, w * w) int64: their row of the table of relative positions.
        apart: (4, 1, w * w, w * w): 0, or ``_APART`` where the shift has brought them together, in a window of the
            interior, of the last column, of the last row and of both.
    """

    relative: Tensor
    apart: Tensor


def positions(window: int, weight: Tensor) -> Positions:
    """The positions in windows of ``window`` cells a side, on the device and in the type of ``weight``."""
    steps = torch.arange(window, device=weight.device)
    y, x = steps.repeat_interleave(window), steps.repeat(window)
    down, right = y[:, None] - y, x[:, None] - x
    relative = (down + window - 1) * (2 * window - 1) + right + window - 1
    wrapped_y, wrapped_x = (place >= window - window // 2 for place in (y, x))  # came from the map's other end
    rows, columns = (wrapped[:, None] != wrapped for wrapped in (wrapped_y, wrapped_x))
    apart = torch.stack([torch.zeros_like(rows), columns, rows, rows | columns])
    return Positions(relative, apart[:, None].to(weight.dtype) * _APART)


class Windows(NamedTuple):
    """A map of H x W cells, padded to rows x columns of windows and then shifted, as places to copy from.

    There are V windows: rows * columns, or 2 where that is one, so that a traced graph, in which torch makes a special
    case of one, is for more as well.  The second then is the first once more, and nobody reads it.

    Attributes:
        cells: (V * w * w,) int64: the cell at each place of each window, row by row, the first being 1; 0 where the map
            is padded.
        places: (H * W,) int64: the place of each cell.
        kinds: (V,) int64: which of ``Positions.apart`` is each window's; None without a shift.
    """

    cells: Tensor
    places: Tensor
    kinds: Tensor | None


def cut(height: int, width: int, window: int, shift: int, device: torch.device) -> Windows:
    """The windows of a map: the cell (y, x) of the shifted map is (y + shift, x + shift) of the padded one, modulo its
    sides.

    Sides enter the arithmetic alone, and decide nothing: a traced graph is for maps of any size.
    """
    rows, columns = -(-height // window), -(-width // window)
    count = rows * columns
    count += 1 // count
    place = torch.arange(count * window**2, device=device)
    one, inside = place // window**2, place % window**2
    y = (one // columns * window + inside // window + shift) % (rows * window)
    x = (one % columns * window + inside % window + shift) % (columns * window)
    cells = (y * width + x + 1) * ((y < height) & (x < width))
    cell = torch.arange(height * width, device=device)
    y, x = (cell // width - shift) % (rows * window), (cell % width - shift) % (columns * window)
    places = ((y // window * columns + x // window) * window + y % window) * window + x % window
    if not shift:
        return Windows(cells, places, None)
    one = torch.arange(count, device=device)
    return Windows(cells, places, 2 * (one // columns == rows - 1) + (one % columns == columns - 1).long())


class WindowAttention(nn.Module):
    """Multi-head attention within windows, with a learned bias for each relative position of a query and a key."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.cells = heads, window**2
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def init_weights(self) -> None:
        """Random weights."""
        for weight in (self.relative_position_bias_table, self.qkv.weight, self.proj.weight):
            nn.init.trunc_normal_(weight, std=0.02)

    def forward(self, x: Tensor, windows: Windows, positions: Positions) -> Tensor:
        """(N, H, W, C) to the same shape."""
        n, height, width = x.shape[:3]
        padded = F.pad(x.flatten(1, 2), (0, 0, 1, 0))  # a cell of zeros is the first
        cells = padded.index_select(1, windows.cells).unflatten(1, (-1, self.cells)).flatten(0, 1)
        q, k, v = self.qkv(cells).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, self._bias(n, windows, positions))
        cells = self.proj(attended.transpose(1, 2).flatten(2)).unflatten(0, (n, -1)).flatten(1, 2)
        out: Tensor = cells.index_select(1, windows.places).unflatten(1, (height, width))
        return out

    def _bias(self, n: int, windows: Windows, positions: Positions) -> Tensor:
        """What is added to the logits of all windows (1, heads, w * w, w * w), or of each of those of n maps."""
        bias = self.relative_position_bias_table[positions.relative].permute(2, 0, 1)[None]
        if windows.kinds is None:
            return bias
        return (bias + positions.apart).index_select(0, windows.kinds.repeat(n))


class Block(nn.Module):
    """Attention within windows, then an MLP: two residual branches, each normed first, and in training left out at
    times."""

    def __init__(self, channels: int, heads: int, drop_path: float, spec: SwinSpec) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=_EPS)
        self.attn = WindowAttention(channels, heads, spec.window)
        self.norm2 = nn.LayerNorm(channels, eps=_EPS)
        self.mlp = MLP(channels, int(channels * spec.mlp_ratio))
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, x: Tensor, windows: Windows, positions: Positions) -> Tensor:
        """(N, H, W, C) to the same shape."""
        x = x + self.drop_path(self.attn(self.norm1(x), windows, positions))
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out


class Stem(nn.Module):
    """Images (N, 3, H, W) to (N, H / 4, W / 4, C): patches of 4 x 4 pixels, normed."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, _PATCH, stride=_PATCH)
        self.norm = nn.LayerNorm(channels, eps=_EPS)

    def forward(self, pixels: Tensor) -> Tensor:
        out: Tensor = self.norm(convolved(self.conv, pixels.permute(0, 2, 3, 1)))
        return out


class PatchMerging(nn.Module):
    """(N, H, W, C) to (N, H / 2, W / 2, 2 * C): the channels of 2 x 2 cells side by side, normed, then mixed."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels, eps=_EPS)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def init_weights(self) -> None:
        """Random weights."""
        nn.init.trunc_normal_(self.reduction.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        cells = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # (N, H / 2, 2, W / 2, 2, C)
        merged = cells.permute(0, 1, 3, 4, 2, 5).flatten(3)  # the upper cell of a column before the lower one
        out: Tensor = self.reduction(self.norm(merged))
        return out


class Stage(nn.Module):
    """Blocks of one width, every second of them shifted; the neck reads a normed copy of what they put out, the next
    stage that itself, merged."""

    def __init__(self, index: int, spec: SwinSpec) -> None:
        super().__init__()
        channels, heads = spec.channels[index], spec.heads[index]
        rates = drop_rates(spec.drop_path, spec.blocks)[index]
        self.window = spec.window
        self.blocks = nn.ModuleList(Block(channels, heads, rate, spec) for rate in rates)
        self.norm = nn.LayerNorm(channels, eps=_EPS)
        self.downsample = PatchMerging(channels) if index + 1 < len(spec.blocks) else nn.Identity()

    def forward(self, x: Tensor, positions: Positions) -> tuple[Tensor, Tensor]:
        """What the neck reads, and what the next stage does."""
        height, width = x.shape[1:3]
        plain, shifted = (cut(height, width, self.window, by, x.device) for by in (0, self.window // 2))
        for i, block in enumerate(self.blocks):
            x = block(x, shifted if i % 2 else plain, positions)
        return self.norm(x), self.downsample(x)


class Swin(nn.Module):
    """Images (N, 3, H, W), H and W multiples of 32, to four feature maps (N, C * 2**i, H / 4 / 2**i, W / 4 / 2**i),
    finest first."""

    def __init__(self, spec: SwinSpec) -> None:
        super().__init__()
        self.window = spec.window
        self.stem = Stem(spec.width)
        self.stages = nn.ModuleList(Stage(i, spec) for i in range(len(spec.blocks)))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        x = self.stem(pixels)
        places = positions(self.window, x)
        features = []
        for stage in self.stages:
            feature, x = stage(x, places)
            features.append(feature.permute(0, 3, 1, 2))
        return features
