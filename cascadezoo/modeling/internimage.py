"""InternImage (https://arxiv.org/abs/2211.05778): deformable convolutions in the layout of a vision transformer.

Everything between two convolutions is channels last, (N, H, W, C).

Formulas ported from (licences in NOTICE):

- OpenGVLab/InternImage 31c962d, Copyright (c) 2022 OpenGVLab, MIT:
  ``detection/mmdet_custom/models/backbones/intern_image.py``, ``detection/ops_dcnv3/modules/dcnv3.py``
"""

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from cascadezoo.modeling.channels_last import MLP, convolved, gelu
from cascadezoo.ops.dcnv3 import dcnv3
from cascadezoo.ops.dcnv3_fused import dcnv3_fused, packed
from cascadezoo.spec.backbone import drop_rates
from cascadezoo.spec.internimage import InternImageSpec

_KERNEL = 3
_EPS = 1e-6


class DCNv3(nn.Module):
    """Deformable convolution v3: each group samples its own 3 x 3 moved points, weighted by a softmax over them."""

    def __init__(self, channels: int, groups: int, offset_scale: float) -> None:
        super().__init__()
        points = groups * _KERNEL**2
        self.groups, self.offset_scale = groups, offset_scale
        self.input_proj = nn.Linear(channels, channels)
        self.dw_conv = nn.Conv2d(channels, channels, _KERNEL, padding=_KERNEL // 2, groups=channels)
        self.dw_norm = nn.LayerNorm(channels, eps=_EPS)
        self.offset = nn.Linear(channels, 2 * points)
        self.mask = nn.Linear(channels, points)
        self.output_proj = nn.Linear(channels, channels)

    def init_weights(self) -> None:
        """Random weights; every point begins at its own place on the kernel's grid, all of one weight."""
        for linear in (self.input_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
        for linear in (self.offset, self.mask):
            nn.init.zeros_(linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) to the same shape."""
        guide = gelu(self.dw_norm(convolved(self.dw_conv, x)))
        weights = self.mask(guide).unflatten(-1, (self.groups, -1)).softmax(-1).flatten(-2)
        sampled = dcnv3(
            self.input_proj(x),
            self.offset(guide),
            weights,
            kernel=_KERNEL,
            stride=1,
            pad=_KERNEL // 2,
            dilation=1,
            groups=self.groups,
            offset_scale=self.offset_scale,
        )
        out: Tensor = self.output_proj(sampled)
        return out

    def fused(self) -> "FusedDCNv3":
        """The same for inference, of the same layers where these stay as they are."""
        return FusedDCNv3(self)


class FusedDCNv3(nn.Module):
    """A ``DCNv3`` for inference: one layer gives offsets and logits, and one operator all that follows from them."""

    def __init__(self, dcn: DCNv3) -> None:
        super().__init__()
        self.groups, self.offset_scale = dcn.groups, dcn.offset_scale
        self.input_proj, self.dw_conv, self.dw_norm = dcn.input_proj, dcn.dw_conv, dcn.dw_norm
        weight, bias = (
            packed(offset.detach(), mask.detach(), dcn.groups)
            for offset, mask in ((dcn.offset.weight, dcn.mask.weight), (dcn.offset.bias, dcn.mask.bias))
        )
        self.offset_mask = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
        self.offset_mask.weight, self.offset_mask.bias = (nn.Parameter(t, requires_grad=False) for t in (weight, bias))
        self.output_proj = dcn.output_proj

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) to the same shape; without gradients."""
        guide = gelu(self.dw_norm(convolved(self.dw_conv, x)))
        sampled = dcnv3_fused(
            self.input_proj(x),
            self.offset_mask(guide),
            stride=1,
            pad=_KERNEL // 2,
            dilation=1,
            groups=self.groups,
            offset_scale=self.offset_scale,
        )
        out: Tensor = self.output_proj(sampled)
        return out


class Block(nn.Module):
    """Two residual branches, each normed before or after, scaled per channel, and in training left out at times."""

    def __init__(self, channels: int, groups: int, drop_path: float, spec: InternImageSpec) -> None:
        super().__init__()
        self.post_norm = spec.post_norm
        self.norm1 = nn.LayerNorm(channels, eps=_EPS)
        self.dcn = DCNv3(channels, groups, spec.offset_scale)
        self.norm2 = nn.LayerNorm(channels, eps=_EPS)
        self.mlp = MLP(channels, int(channels * spec.mlp_ratio))
        self.gamma1 = nn.Parameter(torch.ones(channels))
        self.gamma2 = nn.Parameter(torch.ones(channels))
        self.drop_path = StochasticDepth(drop_path, "row")

    def init_weights(self) -> None:
        """Factors of 1."""
        nn.init.ones_(self.gamma1)
        nn.init.ones_(self.gamma2)

    def forward(self, x: Tensor) -> Tensor:
        if self.post_norm:
            x = x + self.drop_path(self.gamma1 * self.norm1(self.dcn(x)))
            x = x + self.drop_path(self.gamma2 * self.norm2(self.mlp(x)))
        else:
            x = x + self.drop_path(self.gamma1 * self.dcn(self.norm1(x)))
            x = x + self.drop_path(self.gamma2 * self.mlp(self.norm2(x)))
        return x


class Stem(nn.Module):
    """Images (N, 3, H, W) to (N, H / 4, W / 4, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels // 2, 3, stride=2, padding=1)
        self.norm1 = nn.LayerNorm(channels // 2, eps=_EPS)
        self.conv2 = nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1)
        self.norm2 = nn.LayerNorm(channels, eps=_EPS)

    def forward(self, pixels: Tensor) -> Tensor:
        x = gelu(self.norm1(convolved(self.conv1, pixels.permute(0, 2, 3, 1))))
        out: Tensor = self.norm2(convolved(self.conv2, x))
        return out


class Downsample(nn.Module):
    """(N, H, W, C) to (N, H / 2, W / 2, 2 * C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False)
        self.norm = nn.LayerNorm(2 * channels, eps=_EPS)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(convolved(self.conv, x))
        return out


class Stage(nn.Module):
    """Blocks of one width; where norms come first, one more closes the stage."""

    def __init__(self, index: int, spec: InternImageSpec) -> None:
        super().__init__()
        channels, groups = spec.channels[index], spec.groups[index]
        rates = drop_rates(spec.drop_path, spec.blocks)[index]
        self.blocks = nn.Sequential(*[Block(channels, groups, rate, spec) for rate in rates])
        self.norm = nn.Identity() if spec.post_norm else nn.LayerNorm(channels, eps=_EPS)
        self.downsample = Downsample(channels) if index + 1 < len(spec.blocks) else nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the neck reads, and what the next stage does."""
        x = self.norm(self.blocks(x))
        return x, self.downsample(x)


class InternImage(nn.Module):
    """Images (N, 3, H, W) to four feature maps (N, C * 2**i, H / 4 / 2**i, W / 4 / 2**i), finest first."""

    def __init__(self, spec: InternImageSpec) -> None:
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
