"""The operators that are layers of a network, for the sweep of ``test_operators.py``."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d
from torchvision.ops import deform_conv2d as torchvisions_deform_conv2d

from cascadezoo.ops import one_class_masks, one_class_masks_bf16, winograd, winograd6, winograd_bf16


class Operator(NamedTuple):
    """``arguments`` of a type, and what the operator gives for them by ``expected``, in float64 on the CPU."""

    arguments: Callable[[torch.dtype], list[Any]]
    expected: Callable[..., list[Tensor]]
    dtypes: tuple[torch.dtype, ...]
    differentiable: bool = False


_ALL = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def winograd_arguments(dtype: torch.dtype) -> list[Any]:
    packed = winograd.pack_weight(noise(32, 32, 3, 3, seed=1)).to(dtype)
    return [noise(2, 9, 14, 32).to(dtype), packed, noise(32, seed=2).to(dtype), False, 16]


def winograd6_arguments(dtype: torch.dtype) -> list[Any]:
    x, _, *rest = winograd_arguments(dtype)
    return [x, winograd6.pack_weight(noise(32, 32, 3, 3, seed=1)).to(dtype), *rest]


def winograd_bf16_arguments(dtype: torch.dtype) -> list[Any]:
    x, _, bias, *_ = winograd_arguments(dtype)
    packed = winograd_bf16.pack_weight(noise(32, 32, 3, 3, seed=1)).to(dtype)
    return [x / 4 + 2, packed, bias, None, False, winograd_bf16.widest()]


def winograd_expected(x: Tensor, packed: Tensor, bias: Tensor, *_: Any) -> list[Tensor]:
    weight = noise(32, 32, 3, 3, seed=1)
    return [conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=1).permute(0, 2, 3, 1)]


def gradient_arguments(dtype: torch.dtype) -> list[Any]:
    return [noise(2, 9, 14, 16).to(dtype), noise(2, 9, 14, 32, seed=1).to(dtype), 16]


def gradient_expected(x: Tensor, grad: Tensor, _: int) -> list[Tensor]:
    packed = torch.zeros(1, 36, 16, 32, requires_grad=True)
    out = winograd._reference(x.float(), packed, torch.zeros(32), False, 16)
    return list(torch.autograd.grad(out, packed, grad.float()))


def mask_end_arguments(dtype: torch.dtype) -> list[Any]:
    numbers = (
        noise(2, 3, 5, 16),
        one_class_masks.pack_deconvolution(noise(16, 32, 2, 2, seed=1)),
        noise(32),
        noise(4, 32, seed=2),
        noise(4),
    )
    return [*(each.to(dtype) for each in numbers), torch.tensor([3, 1]), 16]


def mask_end_expected(
    x: Tensor, _: Tensor, bias: Tensor, weight: Tensor, end: Tensor, labels: Tensor, *__: Any
) -> list[Tensor]:
    between = conv_transpose2d(x.permute(0, 3, 1, 2), noise(16, 32, 2, 2, seed=1), bias, stride=2).relu()
    return [conv2d(between, weight[..., None, None], end)[torch.arange(2), labels]]


def masks_bf16_arguments(dtype: torch.dtype) -> list[Any]:
    x, weight, bias = noise(3, 5, 6, 32), noise(32, 64, 2, 2, seed=1), noise(64, seed=2)
    packed = one_class_masks_bf16.pack_deconvolution(weight)
    numbers = [each.to(dtype) for each in (x, packed, bias, noise(4, 64, seed=3), noise(4, seed=4))]
    return [*numbers, torch.tensor([3, 0, 2]), winograd_bf16.widest()]


def masks_bf16_expected(
    x: Tensor, packed: Tensor, bias: Tensor, classes: Tensor, class_bias: Tensor, labels: Tensor, _: int
) -> list[Tensor]:
    weight = noise(32, 64, 2, 2, seed=1).bfloat16().double()
    between = conv_transpose2d(x.permute(0, 3, 1, 2), weight, bias, stride=2).relu()
    return [conv2d(between, classes[..., None, None], class_bias)[torch.arange(3), labels]]


def deform_arguments(dtype: torch.dtype) -> list[Any]:
    """Of two groups, of stride 2."""
    x, offset = noise(2, 7, 8, 32), noise(2, 4, 4, 18, seed=1)
    return [*(each.to(dtype) for each in (x, offset, noise(32, 16, 3, 3, seed=2) / 12, noise(32))), 2, 1, 2]


def deform_expected(
    x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, stride: int, pad: int, _: int
) -> list[Tensor]:
    out = torchvisions_deform_conv2d(x.permute(0, 3, 1, 2), offset.permute(0, 3, 1, 2), weight, bias, stride, pad)
    return [out.permute(0, 2, 3, 1)]


LAYERS = {
    "deform_conv2d": Operator(deform_arguments, deform_expected, _ALL, differentiable=True),
    "winograd_conv3x3": Operator(winograd_arguments, winograd_expected, (torch.float32,)),
    "winograd6_conv3x3": Operator(winograd6_arguments, winograd_expected, (torch.float32,)),
    "winograd_weight_gradient": Operator(gradient_arguments, gradient_expected, (torch.float32,)),
    "one_class_masks": Operator(mask_end_arguments, mask_end_expected, (torch.float32,)),
    "winograd_conv3x3_bf16": Operator(winograd_bf16_arguments, winograd_expected, (torch.bfloat16,)),
    "one_class_masks_bf16": Operator(masks_bf16_arguments, masks_bf16_expected, (torch.bfloat16,)),
}
