"""ResNet (https://arxiv.org/abs/1512.03385) and ResNeXt (https://arxiv.org/abs/1611.05431) with bottleneck blocks.

Batch norms use their running statistics, in training too, as every detector of the zoo does.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cascadezoo.spec import ResNetSpec


class FrozenStatNorm(nn.Module):
    """Batch norm by running statistics, as a scale and a shift per channel; weight and bias still learn."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.eps = eps

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """(C,) each, such that the norm of x is ``x * scale + shift``."""
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale


class ConvNorm(nn.Conv2d):
    """Convolution without bias, then norm, computed as one convolution: the norm's scale goes into the weights."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
        self.norm = FrozenStatNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = self.norm.scale_and_shift()
        out: Tensor = self._conv_forward(x, self.weight * scale[:, None, None, None], shift)
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3 (grouped in ResNeXt) and 1x1 convolutions beside a shortcut."""

    def __init__(self, inputs: int, width: int, outputs: int, stride: int, spec: ResNetSpec, project: bool) -> None:
        super().__init__()
        stride_1x1, stride_3x3 = (stride, 1) if spec.stride_in_1x1 else (1, stride)
        self.conv1 = ConvNorm(inputs, width, 1, stride_1x1)
        self.conv2 = ConvNorm(width, width, 3, stride_3x3, spec.groups)
        self.conv3 = ConvNorm(width, outputs, 1)
        self.shortcut = ConvNorm(inputs, outputs, 1, stride) if project else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.conv1(x), inplace=True)
        out = F.relu(self.conv2(out), inplace=True)
        out = self.conv3(out)
        return F.relu(out + self.shortcut(x), inplace=True)


class ResNet(nn.Module):
    """Pictures (N, 3, H, W) to four feature maps (N, 256 * 2**i, H / 4 / 2**i, W / 4 / 2**i), finest first."""

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self, spec: ResNetSpec) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvNorm(3, 64, 7, stride=2))
        inputs = 64
        for stage, (blocks, outputs) in enumerate(zip(spec.blocks, spec.channels, strict=True)):
            width = spec.groups * spec.width_per_group * 2**stage
            rows = [
                Bottleneck(
                    inputs if i == 0 else outputs, width, outputs, 2 if stage and i == 0 else 1, spec, project=i == 0
                )
                for i in range(blocks)
            ]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*rows))
            inputs = outputs

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu(self.stem(x), inplace=True)
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        features = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features
