"""Arguments of the operators that are layers of a network on a CPU, and what they give, for ``test_operators.py``."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d

from cascadezoo.ops.one_class_masks import pack_deconvolution
from cascadezoo.ops.winograd import pack_weight


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def winograd_arguments(dtype: torch.dtype) -> list[Any]:
    weight = noise(32, 16, 3, 3, seed=1)
    return [noise(2, 9, 14, 16).to(dtype), pack_weight(weight).to(dtype), noise(32, seed=2).to(dtype), False, 16]


def winograd_expected(x: Tensor, packed: Tensor, bias: Tensor, *_: Any) -> list[Tensor]:
    weight = noise(32, 16, 3, 3, seed=1)
    return [conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=1).permute(0, 2, 3, 1)]


def mask_end_arguments(dtype: torch.dtype) -> list[Any]:
    numbers = (
        noise(2, 3, 5, 16),
        pack_deconvolution(noise(16, 32, 2, 2, seed=1)),
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
