"""ConvNeXt (https://arxiv.org/abs/2201.03545): a convolutional network in the layout of a hierarchical transformer.

Everything between two convolutions is channels last, (N, H, W, C).

Formulas ported from (licences in NOTICE):

- facebookresearch/ConvNeXt 048efce, Copyright (c) Meta Platforms, Inc. and affiliates, MIT:
  ``object_detection/mmdet/models/backbones/convnext.py``
"""

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from cascadezoo.modeling.channels_last import MLP, convolved
from cascadezoo.spec.backbone import drop_rates
from cascadezoo.spec.convnext import ConvNeXtSpec

_KERNEL = 7
_EPS = 1e-6
_HIDDEN = 4  # channels of an MLP's hidden layer per channel


def _norm(channels: int) -> nn.LayerNorm:
    return nn.LayerNorm(channels, eps=_EPS)


class Block(nn.Module):
    """A residual branch: each channel convolved alone, normed, then mixed by an MLP, and scaled per channel; in
    training left out at times."""

    def __init__(self, channels: int, drop_path: float) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, _KERNEL, padding=_KERNEL // 2, groups=channels)
        self.norm = _norm(channels)
        self.mlp = MLP(channels, _HIDDEN * channels)
        self.gamma = nn.Parameter(torch.ones(channels))
        self.drop_path = StochasticDepth(drop_path, "row")

    def init_weights(self) -> None:
        """Random weights, and factors of 1, as the detectors' configurations have it."""
        nn.init.trunc_normal_(self.dwconv.weight, std=0.02)
        nn.init.ones_(self.gamma)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) to the same shape."""
        branch = self.gamma * self.mlp(self.norm(convolved(self.dwconv, x)))
        out: Tensor = x + self.drop_path(branch)
        return out


class Stem(nn.Module):
    """Images (N, 3, H, W) to (N, H / 4, W / 4, C): patches of 4 x 4 pixels, normed."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 4, stride=4)
        self.norm = _norm(channels)

    def init_weights(self) -> None:
        """Random weights."""
        nn.init.trunc_normal_(self.conv.weight, std=0.02)

    def forward(self, pixels: Tensor) -> Tensor:
        out: Tensor = self.norm(convolved(self.conv, pixels.permute(0, 2, 3, 1)))
        return out


class Downsample(nn.Module):
    """(N, H, W, C) to (N, H / 2, W / 2, 2 * C): normed, then patches of 2 x 2 cells."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.conv = nn.Conv2d(channels, 2 * channels, 2, stride=2)

    def init_weights(self) -> None:
        """Random weights."""
        nn.init.trunc_normal_(self.conv.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        return convolved(self.conv, self.norm(x))


class Stage(nn.Module):
    """Blocks of one width, before them in all stages but the first a downsampling; the neck reads a normed copy of what
    they put out, the next stage that itself."""

    def __init__(self, index: int, spec: ConvNeXtSpec) -> None:
        super().__init__()
        channels = spec.channels[index]
        rates = drop_rates(spec.drop_path, spec.blocks)[index]
        self.downsample = Downsample(spec.channels[index - 1]) if index else nn.Identity()
        self.blocks = nn.Sequential(*[Block(channels, rate) for rate in rates])
        self.norm = _norm(channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the neck reads, and what the next stage does."""
        x = self.blocks(self.downsample(x))
        return self.norm(x), x


class ConvNeXt(nn.Module):
    """Images (N, 3, H, W) to four feature maps (N, C * 2**i, H / 4 / 2**i, W / 4 / 2**i), finest first."""

    def __init__(self, spec: ConvNeXtSpec) -> None:
        super().__init__()
        self.stem = Stem(spec.width)
        self.stages = nn.ModuleList(Stage(i, spec) for i in range(len(spec.blocks)))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        x = self.stem(pixels)
        features = []
        for stage in self.stages:
            feature, x = stage(x)
            features.append(feature.permute(0, 3, 1, 2))
        return features
