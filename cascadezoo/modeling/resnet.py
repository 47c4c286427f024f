"""ResNet (https://arxiv.org/abs/1512.03385), ResNeXt (https://arxiv.org/abs/1611.05431) and ResNet-vd
(https://arxiv.org/abs/1812.01187).

Shapes: N images or RoIs, C channels, H x W cells.  A published backbone's batch norms use their running statistics, in
training too.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cascadezoo.distributed import processes, sum_of_processes
from cascadezoo.modeling.folding import Fold, Pair, can_be_kept
from cascadezoo.modeling.layers import Conv, DeformConv
from cascadezoo.spec.norm import Norm
from cascadezoo.spec.resnet import NormLearning, ResNetSpec


class AffineNorm(nn.Module):
    """A scale (``weight``) and a shift (``bias``) per channel.

    Its numbers stay in float32 when the model is cast to a narrower type (``model.half()``): a variance of 70,000 is
    infinite in half precision.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def tensors(self) -> tuple[Tensor, ...]:
        """Whatever ``scale_and_shift`` is computed from."""
        return self.weight, self.bias

    def scale_and_shift(self) -> Pair:
        """(C,) each, at least float32, such that the norm of x is ``x * scale + shift``."""
        return _wide(self.weight), _wide(self.bias)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def keeping_float32(x: Tensor) -> Tensor:
            moved = fn(x)
            kept = moved.dtype == x.dtype or moved.dtype == _wide(moved).dtype
            return moved if kept else x.to(moved.device, torch.float32)

        applied: Self = super()._apply(keeping_float32, recurse)  # type: ignore[no-untyped-call]
        return applied


class FrozenStatNorm(AffineNorm):
    """Batch norm by running statistics; weight and bias still learn."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(channels)
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.eps = eps

    def tensors(self) -> tuple[Tensor, ...]:
        """Whatever ``scale_and_shift`` is computed from."""
        return self.weight, self.bias, self.running_mean, self.running_var

    def scale_and_shift(self) -> Pair:
        """(C,) each, at least float32, such that the norm of x is ``x * scale + shift``."""
        weight, bias, mean, variance = map(_wide, self.tensors())
        scale = weight * torch.rsqrt(variance + self.eps)
        return scale, bias - mean * scale


class BatchNorm(FrozenStatNorm):
    """Batch norm that learns its statistics (https://arxiv.org/abs/1502.03167), of the batch of all processes."""

    momentum = 0.1

    def normalise(self, x: Tensor) -> Tensor:
        """(N, C, H, W) by the batch's mean and variance of each channel; the running statistics follow."""
        if processes() == 1:
            statistics = self.running_mean, self.running_var
            normed: Tensor = F.batch_norm(x, *statistics, self.weight, self.bias, True, self.momentum, self.eps)
            return normed
        x32 = x.float()
        sums = torch.cat((x32.sum((0, 2, 3)), x32.square().sum((0, 2, 3)), x32.new_tensor([x.numel() / x.shape[1]])))
        mean, square, count = sum_of_processes(sums).split((x.shape[1], x.shape[1], 1))
        mean, square = mean / count, square / count
        variance = (square - mean.square()).clamp(min=0)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        out = x32 * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]
        whole: Tensor = out.to(x.dtype)
        return whole


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _norm(norm: Norm, learning: NormLearning, channels: int) -> AffineNorm:
    if norm is Norm.AFFINE:
        made = AffineNorm(channels)
    else:
        made = (BatchNorm if learning is NormLearning.STATISTICS else FrozenStatNorm)(channels)
    return made.requires_grad_(learning is not NormLearning.NOTHING)


class ConvNorm(Conv):
    """A convolution without bias, then a norm, then what follows a ``Conv``.

    Where the norm is a fixed scale and shift, both are one convolution whose weights hold the scale: computed in
    float32, cast once, and kept until a tensor changes (``cascadezoo.modeling.folding``).  A ``BatchNorm`` in training
    needs the batch's statistics first, so it runs after the convolution; one whose weight is frozen keeps its own.
    """

    _fold: Fold | None = None

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        norm: Norm = Norm.BATCH,
        learning: NormLearning = NormLearning.STATISTICS,
        *,
        relu: bool = False,
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups, bias=False, relu=relu)
        self.norm = _norm(norm, learning, outputs)

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        if isinstance(self.norm, BatchNorm) and self.training and self.norm.weight.requires_grad:
            return self.finish(self.norm.normalise(self._conv_forward(x, self.weight, None)), onto)
        return self.compute(x, *self.folded(), onto)

    def folded(self) -> Pair:
        """Weight and bias of the one convolution, in the type of the convolution's own weight."""
        sources = self.weight, *self.norm.tensors()
        if not can_be_kept(sources):
            return self.scaled()
        fold = self._fold
        if fold is None or not fold.is_of(sources):
            fold = self._fold = Fold.of(sources, self.scaled)
        return fold.made

    def scaled(self) -> Pair:
        """What ``folded`` keeps, computed now and not kept."""
        scale, shift = self.norm.scale_and_shift()
        weight = _wide(self.weight) * scale[:, None, None, None]
        return weight.to(self.weight.dtype), shift.to(self.weight.dtype)

    # a kept fold is seen to be out of date when it is next used; these three let go of its memory at once, and give
    # people a way to say that weights have changed: ``model.eval()``

    def train(self, mode: bool = True) -> Self:
        self._fold = None
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._fold = None
        applied: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return applied

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_fold": None}  # type: ignore[no-untyped-call]


class DeformConvNorm(ConvNorm, DeformConv):
    """A deformable convolution without bias, then what follows a ``ConvNorm``."""


def _conv(
    inputs: int, outputs: int, kernel: int, stride: int, spec: ResNetSpec, groups: int = 1, *, relu: bool = True
) -> ConvNorm:
    return ConvNorm(inputs, outputs, kernel, stride, groups, spec.norm, spec.norm_learning, relu=relu)


class Bottleneck(nn.Module):
    """1x1, 3x3 (grouped in ResNeXt) and 1x1 convolutions beside a shortcut, projected in a stage's first block."""

    def __init__(
        self, inputs: int, width: int, outputs: int, stride: int, spec: ResNetSpec, project: bool, deformable: bool
    ) -> None:
        super().__init__()
        stride_1x1, stride_3x3 = (stride, 1) if spec.stride_in_1x1 else (1, stride)
        self.conv1 = _conv(inputs, width, 1, stride_1x1, spec)
        kind = DeformConvNorm if deformable else ConvNorm
        self.conv2 = kind(width, width, 3, stride_3x3, spec.groups, spec.norm, spec.norm_learning, relu=True)
        self.conv3 = _conv(width, outputs, 1, 1, spec)
        self.pool = spec.pooled_shortcut and stride == 2
        shortcut_stride = 1 if self.pool else stride
        self.shortcut = _conv(inputs, outputs, 1, shortcut_stride, spec, relu=False) if project else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.conv1(x))
        if self.pool:
            x = F.avg_pool2d(x, kernel_size=2, stride=2, ceil_mode=True, count_include_pad=False)
        result: Tensor = self.conv3(out, self.shortcut(x))
        return result


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, projected where the shape changes."""

    def __init__(self, inputs: int, width: int, outputs: int, stride: int, spec: ResNetSpec, project: bool) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, width, 3, stride, spec)
        self.conv2 = _conv(width, outputs, 3, 1, spec)
        self.shortcut = _conv(inputs, outputs, 1, stride, spec, relu=False) if project else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv2(self.conv1(x), self.shortcut(x))
        return result


def residual_stage(index: int, inputs: int, blocks: int, spec: ResNetSpec) -> nn.Sequential:
    """Stage ``index`` of 0..3, of ``blocks`` blocks; all but the first halve the sides."""
    outputs, stride = spec.width * 2**index * (1 if spec.basic else 4), 2 if index else 1
    width = outputs if spec.basic else spec.groups * spec.width_per_group * 2**index
    deformable = index + 1 in spec.deformable_stages
    block: Callable[..., nn.Module] = BasicBlock if spec.basic else partial(Bottleneck, deformable=deformable)
    first = block(inputs, width, outputs, stride, spec, project=(inputs, stride) != (outputs, 1))
    rest = [block(outputs, width, outputs, 1, spec, project=False) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


class ResNet(nn.Module):
    """Images (N, 3, H, W) to one map per stage (N, C_i, H / 4 / 2**i, W / 4 / 2**i), finest first."""

    def __init__(self, spec: ResNetSpec) -> None:
        super().__init__()
        if spec.deep_stem:
            half = spec.width // 2
            sizes = [(3, half, 3, 2), (half, half, 3, 1), (half, spec.width, 3, 1)]
        else:
            sizes = [(3, spec.width, 7, 2)]
        self.stem = nn.ModuleList(_conv(*size, spec) for size in sizes)
        inputs = (spec.width, *spec.channels)
        self.stages = [f"layer{i + 1}" for i in range(len(spec.blocks))]
        for i, name in enumerate(self.stages):
            self.add_module(name, residual_stage(i, inputs[i], spec.blocks[i], spec))
        if spec.frozen_stages >= 0:
            for frozen in (self.stem, *map(self.get_submodule, self.stages[: spec.frozen_stages])):
                frozen.requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        for conv in self.stem:
            x = conv(x)
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        features = []
        for name in self.stages:
            x = self.get_submodule(name)(x)
            features.append(x)
        return features
