"""The end of a mask head for one class per RoI: a 2 x 2 transposed convolution of stride 2, a ReLU, a 1 x 1 convolution
(Mask R-CNN, https://arxiv.org/abs/1703.06870).

Shapes: R RoIs, C channels in, K channels between the convolutions, P x P cells, 2P x 2P mask logits.
"""

from typing import Any

import torch
from torch import Tensor

from cascadezoo.errors import UsageError
from cascadezoo.ops.library import define

_CHUNK = 32  # channels that lie side by side in a packed weight


def can_pack(weight: Tensor) -> bool:
    """Whether a weight is one that ``pack_deconvolution`` takes: (C, K, 2, 2), K a multiple of 32 and C of 16."""
    return weight.shape[2:] == (2, 2) and weight.shape[1] % _CHUNK == 0 and weight.shape[0] % 16 == 0


def pack_deconvolution(weight: Tensor) -> Tensor:
    """A transposed convolution's weight (C, K, 2, 2) as (4 * K / 32, C, 32)."""
    corners = weight.detach().permute(2, 3, 1, 0).flatten(0, 2)  # (4 * K, C)
    packed: Tensor = corners.unflatten(0, (-1, _CHUNK)).transpose(1, 2).contiguous()
    return packed


def one_class_masks(
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
        x: float32, best channels last; other layouts are copied.
        weight: from ``pack_deconvolution``.
        bias: (K,), the transposed convolution's.
        class_weight, class_bias: (classes, K) and (classes,), the 1 x 1 convolution's.
        labels: in 0..classes-1.
        lanes: the most floats (4, 8 or 16) that the compiled kernel computes at once, where the processor can.
    """
    masks: Tensor = torch.ops.cascadezoo.one_class_masks(
        x.permute(0, 2, 3, 1), weight, bias, class_weight, class_bias, labels, lanes
    )
    return masks


def _reference(
    x: Tensor, weight: Tensor, bias: Tensor, class_weight: Tensor, class_bias: Tensor, labels: Tensor, lanes: int
) -> Tensor:
    _check(x, weight, bias, class_weight, class_bias, labels, lanes)
    return computed(x, weight, bias, class_weight, class_bias, labels)


def computed(
    x: Tensor, weight: Tensor, bias: Tensor, class_weight: Tensor, class_bias: Tensor, labels: Tensor
) -> Tensor:
    """What the operator computes, of x (R, P, P, C) and weights packed in any chunks, by PyTorch."""
    rois, height, width, channels = x.shape
    corners = weight.transpose(1, 2).reshape(4, -1, channels)
    between = (torch.einsum("rhwc,akc->rhwak", x, corners) + bias).relu()
    logits = torch.einsum("rhwak,rk->rhwa", between, class_weight[labels]) + class_bias[labels, None, None, None]
    masks: Tensor = logits.unflatten(3, (2, 2)).transpose(2, 3).reshape(rois, 2 * height, 2 * width)
    return masks


def _check(
    x: Tensor, weight: Tensor, bias: Tensor, class_weight: Tensor, class_bias: Tensor, labels: Tensor, lanes: int
) -> None:
    channels, between = x.shape[-1], bias.numel()
    if channels % 16 or between % _CHUNK:
        raise UsageError(
            f"one_class_masks: it takes multiples of 16 channels and makes multiples of {_CHUNK} of them, not"
            f" {channels} and {between}"
        )
    if weight.shape != (4 * between // _CHUNK, channels, _CHUNK):
        raise UsageError("one_class_masks: weight must be as pack_deconvolution makes it")
    if any(tensor.dtype != torch.float32 for tensor in (x, weight, bias, class_weight, class_bias)):
        raise UsageError("one_class_masks: tensors must be float32")
    check_classes("one_class_masks", x, bias, class_weight, class_bias, labels)
    if lanes not in (4, 8, 16):
        raise UsageError(f"one_class_masks: lanes must be 4, 8 or 16, not {lanes}")


def check_classes(name: str, x: Tensor, bias: Tensor, class_weight: Tensor, class_bias: Tensor, labels: Tensor) -> None:
    """See that what comes after the transposed convolution belongs together; raises UsageError in the name of the
    operator ``name``."""
    between, classes = bias.numel(), class_bias.numel()
    shapes = (bias.shape, class_weight.shape, class_bias.shape, labels.shape)
    if shapes != ((between,), (classes, between), (classes,), (len(x),)):
        raise UsageError(f"{name}: bias must be (K,), class_weight (classes, K), class_bias (classes,) and labels (R,)")
    if labels.dtype != torch.int64 or not bool(((labels >= 0) & (labels < classes)).all()):
        raise UsageError(f"{name}: labels must be int64 and lie in 0..{classes - 1}")


def fake(x: Tensor, *_: Any) -> Tensor:
    """The result's shape and type alone."""
    rois, height, width, _channels = x.shape
    return x.new_empty(rois, 2 * height, 2 * width)


define(
    "one_class_masks(Tensor x, Tensor weight, Tensor bias, Tensor class_weight, Tensor class_bias, Tensor labels,"
    " int lanes) -> Tensor",
    _reference,
    fake,
    compiled=("cpu",),
)
