"""The end of a mask head (Mask R-CNN, https://arxiv.org/abs/1703.06870) for one class per RoI, in bfloat16: a 2 x 2
transposed convolution of stride 2, a ReLU, a 1 x 1 convolution.

What lies between the two convolutions is float32.

Shapes: R RoIs, C channels in, K channels between the convolutions, P x P cells, 2P x 2P mask logits.
"""

import torch
from torch import Tensor

from cascadezoo.errors import UsageError
from cascadezoo.ops.library import define
from cascadezoo.ops.one_class_masks import check_classes, computed, fake

_CHUNK = 32  # channels that lie side by side in a packed weight


def can_pack(weight: Tensor) -> bool:
    """Whether a weight is one that ``pack_deconvolution`` takes: (C, K, 2, 2), C and K multiples of 32."""
    return weight.shape[2:] == (2, 2) and weight.shape[0] % _CHUNK == 0 and weight.shape[1] % _CHUNK == 0


def pack_deconvolution(weight: Tensor) -> Tensor:
    """A transposed convolution's weight (C, K, 2, 2) as (4 * K / 32, C / 2, 32, 2) bfloat16."""
    corners = weight.detach().permute(2, 3, 1, 0).flatten(0, 2)  # (4 * K, C)
    chunks: Tensor = corners.unflatten(1, (-1, 2)).unflatten(0, (-1, _CHUNK)).transpose(1, 2)
    return chunks.bfloat16().contiguous()


def one_class_masks_bf16(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    class_weight: Tensor,
    class_bias: Tensor,
    labels: Tensor,
    *,
    lanes: int = 16,
) -> Tensor:
    """The mask logits (R, 2P, 2P) of features x (R, C, P, P), of one class (R,) int64 each.

    Args:
        x: bfloat16, as all other tensors are; best channels last, other layouts are copied.
        weight: from ``pack_deconvolution``.
        bias: (K,), the transposed convolution's.
        class_weight, class_bias: (classes, K) and (classes,), the 1 x 1 convolution's.
        labels: in 0..classes-1.
        lanes: as ``cascadezoo.ops.winograd_bf16`` takes them.
    """
    masks: Tensor = torch.ops.cascadezoo.one_class_masks_bf16(
        x.permute(0, 2, 3, 1), weight, bias, class_weight, class_bias, labels, lanes
    )
    return masks


def _reference(
    x: Tensor, weight: Tensor, bias: Tensor, class_weight: Tensor, class_bias: Tensor, labels: Tensor, lanes: int
) -> Tensor:
    _check(x, weight, bias, class_weight, class_bias, labels, lanes)
    numbers = (x, weight.transpose(2, 3).flatten(1, 2), bias, class_weight, class_bias)
    x, weight, bias, class_weight, class_bias = (tensor.float() for tensor in numbers)
    return computed(x, weight, bias, class_weight, class_bias, labels).bfloat16()


def _check(
    x: Tensor, weight: Tensor, bias: Tensor, class_weight: Tensor, class_bias: Tensor, labels: Tensor, lanes: int
) -> None:
    name, channels, between = "one_class_masks_bf16", x.shape[-1], bias.numel()
    if channels % _CHUNK or between % _CHUNK:
        raise UsageError(f"{name}: it takes and makes multiples of {_CHUNK} channels, not {channels} and {between}")
    if weight.shape != (4 * between // _CHUNK, channels // 2, _CHUNK, 2):
        raise UsageError(f"{name}: weight must be as pack_deconvolution makes it")
    if any(tensor.dtype != torch.bfloat16 for tensor in (x, weight, bias, class_weight, class_bias)):
        raise UsageError(f"{name}: tensors must be bfloat16")
    check_classes(name, x, bias, class_weight, class_bias, labels)
    if lanes not in (4, 16):
        raise UsageError(f"{name}: lanes must be 4 or 16, not {lanes}")


define(
    "one_class_masks_bf16(Tensor x, Tensor weight, Tensor bias, Tensor class_weight, Tensor class_bias,"
    " Tensor labels, int lanes) -> Tensor",
    _reference,
    fake,
    compiled=("cpu",),
)
