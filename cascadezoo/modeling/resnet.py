"""ResNet (https://arxiv.org/abs/1512.03385), ResNeXt (https://arxiv.org/abs/1611.05431) and ResNet-vd
(https://arxiv.org/abs/1812.01187) with bottleneck blocks.

Batch norms use their running statistics, in training too, as every detector of the zoo does.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cascadezoo.spec import Norm, ResNetSpec


class AffineNorm(nn.Module):
    """A scale (``weight``) and a shift (``bias``) per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """(C,) each, such that the norm of x is ``x * scale + shift``."""
        return self.weight, self.bias


class FrozenStatNorm(AffineNorm):
    """Batch norm by running statistics; weight and bias still learn."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(channels)
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.eps = eps

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """(C,) each, such that the norm of x is ``x * scale + shift``."""
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale


_NORMS = {Norm.BATCH: FrozenStatNorm, Norm.AFFINE: AffineNorm}


class ConvNorm(nn.Conv2d):
    """Convolution without bias, then norm, computed as one convolution: the norm's scale goes into the weights."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, norm: Norm = Norm.BATCH
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
        self.norm = _NORMS[norm](outputs)

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = self.norm.scale_and_shift()
        out: Tensor = self._conv_forward(x, self.weight * scale[:, None, None, None], shift)
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3 (grouped in ResNeXt) and 1x1 convolutions beside a shortcut, projected in a stage's first block."""

    def __init__(self, inputs: int, width: int, outputs: int, stride: int, spec: ResNetSpec, project: bool) -> None:
        super().__init__()
        stride_1x1, stride_3x3 = (stride, 1) if spec.stride_in_1x1 else (1, stride)
        self.conv1 = ConvNorm(inputs, width, 1, stride_1x1, norm=spec.norm)
        self.conv2 = ConvNorm(width, width, 3, stride_3x3, spec.groups, norm=spec.norm)
        self.conv3 = ConvNorm(width, outputs, 1, norm=spec.norm)
        self.pool = spec.pooled_shortcut and stride == 2
        shortcut_stride = 1 if self.pool else stride
        self.shortcut = ConvNorm(inputs, outputs, 1, shortcut_stride, norm=spec.norm) if project else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.conv1(x), inplace=True)
        out = F.relu(self.conv2(out), inplace=True)
        out = self.conv3(out)
        if self.pool:
            x = F.avg_pool2d(x, kernel_size=2, stride=2, ceil_mode=True, count_include_pad=False)
        return F.relu(out + self.shortcut(x), inplace=True)


def residual_stage(index: int, inputs: int, blocks: int, spec: ResNetSpec) -> nn.Sequential:
    """Stage ``index`` of 0..3: ``blocks`` blocks to 256 * 2**index channels; all but the first halve the sides."""
    width, outputs = spec.groups * spec.width_per_group * 2**index, 256 * 2**index
    first = Bottleneck(inputs, width, outputs, 2 if index else 1, spec, project=True)
    rest = [Bottleneck(outputs, width, outputs, 1, spec, project=False) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


class ResNet(nn.Module):
    """Pictures (N, 3, H, W) to one map a stage (N, 256 * 2**i, H / 4 / 2**i, W / 4 / 2**i), finest first."""

    def __init__(self, spec: ResNetSpec) -> None:
        super().__init__()
        if spec.deep_stem:
            convs = (
                ConvNorm(3, 32, 3, stride=2, norm=spec.norm),
                ConvNorm(32, 32, 3, norm=spec.norm),
                ConvNorm(32, 64, 3, norm=spec.norm),
            )
            self.stem = nn.ModuleList(convs)
        else:
            self.stem = nn.ModuleList([ConvNorm(3, 64, 7, stride=2, norm=spec.norm)])
        inputs = (64, *spec.channels)
        self.stages = [f"layer{i + 1}" for i in range(len(spec.blocks))]
        for i, name in enumerate(self.stages):
            self.add_module(name, residual_stage(i, inputs[i], spec.blocks[i], spec))

    def forward(self, x: Tensor) -> list[Tensor]:
        for conv in self.stem:
            x = F.relu(conv(x), inplace=True)
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        features = []
        for name in self.stages:
            x = self.get_submodule(name)(x)
            features.append(x)
        return features
