"""A lean network's layers on a CPU: each does what follows it in the same pass over memory, by oneDNN's own operators,
and 3 x 3 convolutions take Winograd's way where it is quicker.

They compute as the layers they replace do, except for the order of sums.  ``exact`` leaves Winograd's way out: its
rounding errors are larger than those of a plain sum, for 256 channels below 9e-6 of the results' spread
(``cascadezoo.ops.winograd6``; layers of more channels: ``cascadezoo.ops.winograd``), in bfloat16 two to four times as
large (``cascadezoo.ops.winograd_bf16``).
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cascadezoo.modeling.channels_last import MLP
from cascadezoo.modeling.layers import Conv, DeconvReLU, LinearReLU
from cascadezoo.modeling.mask_head import MaskHead
from cascadezoo.ops import one_class_masks, one_class_masks_bf16, winograd, winograd6, winograd_bf16
from cascadezoo.ops.library import COMPILED

_WIDE = 16  # channels of an input, from which on oneDNN's layouts pay
_ROWS = 1000  # of a linear layer's input, a hint: the proposals of an image

_onednn = torch.ops.mkldnn


class Kernels(NamedTuple):
    """The compiled operators of one type, and whether they are quicker here than oneDNN's."""

    convs: tuple[tuple[ModuleType, Callable[..., Tensor]], ...]  # the first that takes a weight is the quickest
    masks: ModuleType
    end: Callable[..., Tensor]
    are_quick: Callable[[], bool]


def _has_vectors() -> bool:
    """Whether the operators are compiled, and for a processor like this one."""
    return "cpu" in COMPILED and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


KERNELS = {
    torch.float32: Kernels(
        ((winograd6, winograd6.winograd6_conv3x3), (winograd, winograd.winograd_conv3x3)),
        one_class_masks,
        one_class_masks.one_class_masks,
        _has_vectors,
    ),
    torch.bfloat16: Kernels(
        ((winograd_bf16, winograd_bf16.winograd_conv3x3_bf16),),
        one_class_masks_bf16,
        one_class_masks_bf16.one_class_masks_bf16,
        winograd_bf16.is_quick,
    ),
}


def for_cpu(network: nn.Module, exact: bool = False) -> None:
    """Put this file's layers in the places of a lean network's; where torch has no oneDNN it stays as it is."""
    if not torch.backends.mkldnn.is_available():
        return
    for name, child in network.named_children():
        setattr(network, name, _replaced(child, exact))


def _replaced(module: nn.Module, exact: bool) -> nn.Module:
    make = _LAYERS.get(type(module))
    made = module if make is None else make(module, exact)
    if made is module:
        for_cpu(module, exact)
    return made


class OneDNNConv(nn.Module):
    """A convolution, the sum and the ReLU that follow it, as one operator."""

    def __init__(self, conv: Any) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.relu = getattr(conv, "relu", False)
        self.geometry = list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """As ``Conv.forward``; the result lies in the memory of ``onto``."""
        if onto is None:
            after = "relu" if self.relu else "none"
            out: Tensor = _onednn._convolution_pointwise(x, self.weight, self.bias, *self.geometry, after, [], "")
            return out
        after_sum = "relu" if self.relu else None
        sum_: Tensor = _onednn._convolution_pointwise_.binary(
            onto, x, self.weight, self.bias, *self.geometry, "add", 1.0, after_sum, [], ""
        )
        return sum_


class WinogradConv(nn.Module):
    """A 3 x 3 convolution of stride 1 by Winograd's way."""

    def __init__(self, conv: Any, operator: ModuleType, convolve: Callable[..., Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(operator.pack_weight(conv.weight), requires_grad=False)
        self.bias = nn.Parameter(conv.weight.new_zeros(conv.out_channels), False) if conv.bias is None else conv.bias
        self.relu = getattr(conv, "relu", False)
        self.convolve = convolve

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """As ``Conv.forward``."""
        return self.convolve(x, self.weight, self.bias, onto, relu=self.relu)


class OneDNNLinear(nn.Module):
    """A linear layer whose weight is packed once, and the ReLU or the GELU by the error function that may follow it."""

    def __init__(self, linear: nn.Linear, gelu: bool = False) -> None:
        super().__init__()
        packed = _onednn._reorder_linear_weight(linear.weight.detach().contiguous(), _ROWS)
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.bias = linear.bias
        self.after = "gelu" if gelu else "relu" if isinstance(linear, LinearReLU) else "none"

    def forward(self, x: Tensor) -> Tensor:
        # "none": the GELU that is not approximated
        out: Tensor = _onednn._linear_pointwise(x, self.weight, self.bias, self.after, [], "none")
        return out


class OneDNNMLP(nn.Module):
    """An ``MLP`` whose hidden numbers, the most of a network, go through memory once."""

    def __init__(self, mlp: MLP) -> None:
        super().__init__()
        self.fc1, self.fc2 = OneDNNLinear(mlp.fc1, gelu=True), OneDNNLinear(mlp.fc2)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to the same shape."""
        out: Tensor = self.fc2(self.fc1(x))
        return out


class OneClassMaskHead(nn.Module):
    """A mask head that computes the masks of the detected classes alone; ``end`` is what follows its convolutions."""

    def __init__(self, convs: list[nn.Module], end: nn.Module) -> None:
        super().__init__()
        self.convs, self.end = nn.ModuleList(convs), end

    def of_classes(self, pooled: Tensor, labels: Tensor) -> Tensor:
        """The mask logits (R, M, M) of pooled features (R, C, P, P), of one class (R,) int64 each."""
        x = pooled
        for conv in self.convs:
            x = conv(x)
        logits: Tensor = self.end(x, labels)
        return logits


class CompiledMaskEnd(nn.Module):
    """From the last features (R, C, P, P) of a mask head to the logits (R, 2P, 2P) of a class each, as one operator."""

    def __init__(self, deconv: DeconvReLU, logits: nn.Conv2d, kernels: "Kernels") -> None:
        super().__init__()
        self.weight = nn.Parameter(kernels.masks.pack_deconvolution(deconv.weight), requires_grad=False)
        self.class_weight = nn.Parameter(logits.weight.flatten(1), requires_grad=False)
        self.bias, self.class_bias = deconv.bias, logits.bias
        self.end = kernels.end

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return self.end(x, self.weight, self.bias, self.class_weight, self.class_bias, labels)


class OneDNNMaskEnd(nn.Module):
    """The same by oneDNN.

    The 2 x 2 transposed convolution of stride 2 is a linear layer from each cell to its four; each of these is then
    multiplied with the class's weights, so that only single numbers need to be moved to their places.
    """

    def __init__(self, deconv: DeconvReLU, logits: nn.Conv2d) -> None:
        super().__init__()
        inputs, outputs = deconv.weight.shape[:2]
        cells = LinearReLU(inputs, 4 * outputs, device="meta")
        assert deconv.bias is not None
        assert logits.bias is not None
        cells.weight = nn.Parameter(deconv.weight.permute(2, 3, 1, 0).reshape(-1, inputs), requires_grad=False)
        cells.bias = nn.Parameter(deconv.bias.repeat(4), requires_grad=False)
        self.cells = OneDNNLinear(cells)
        self.class_weight = nn.Parameter(logits.weight.flatten(1), requires_grad=False)
        self.class_bias = nn.Parameter(logits.bias, requires_grad=False)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        rows, _, height, width = x.shape
        cells = self.cells(x.permute(0, 2, 3, 1).flatten(1, 2)).unflatten(2, (4, -1)).flatten(1, 2)  # (R, P * P * 4, C)
        weight, bias = self.class_weight[labels, :, None], self.class_bias[labels, None, None]
        logits = torch.baddbmm(bias, cells, weight).view(rows, height, width, 2, 2)
        return logits.permute(0, 1, 3, 2, 4).reshape(rows, 2 * height, 2 * width)


def _mask_head(head: MaskHead, exact: bool) -> nn.Module:
    return OneClassMaskHead([_replaced(conv, exact) for conv in head.convs], _mask_end(head.deconv, head.mask_logits))


def _mask_end(deconv: DeconvReLU, logits: nn.Conv2d) -> nn.Module:
    kernels = KERNELS.get(deconv.weight.dtype)
    if kernels is not None and kernels.masks.can_pack(deconv.weight) and kernels.are_quick():
        return CompiledMaskEnd(deconv, logits, kernels)
    return OneDNNMaskEnd(deconv, logits)


def _conv(conv: Any, exact: bool) -> Any:
    if conv.in_channels < _WIDE:  # an image's colours: torch's own way is quicker there
        return conv
    plain = conv.stride == (1, 1) and conv.padding == (1, 1) and conv.dilation == (1, 1) and conv.groups == 1
    kernels = KERNELS.get(conv.weight.dtype)
    if exact or not plain or kernels is None:
        return OneDNNConv(conv)
    for operator, convolve in kernels.convs:
        if operator.can_pack(conv.weight) and kernels.are_quick():
            return WinogradConv(conv, operator, convolve)
    return OneDNNConv(conv)


def _linear(linear: nn.Linear, _: bool) -> nn.Module:
    return OneDNNLinear(linear)


_LAYERS: dict[type[nn.Module], Callable[[Any, bool], nn.Module]] = {
    Conv: _conv,
    nn.Conv2d: _conv,
    nn.Linear: _linear,
    LinearReLU: _linear,
    MLP: lambda mlp, _: OneDNNMLP(mlp),
    MaskHead: _mask_head,
}
