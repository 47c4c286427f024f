"""A network's lean form: the same detections, except for rounding, by fewer operators.

Norms lie in the weights of the convolutions before them, these weights lie as images do (channels last), box heads read
pooled features as pooling leaves them, without a transposition, and DCNv3 is one operator with its softmax.  A kind of
module that can do with fewer operators is one row of ``_RULES``.
"""

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cascadezoo.modeling import convnext
from cascadezoo.modeling.box_head import BoxHead
from cascadezoo.modeling.channels_last import convolved
from cascadezoo.modeling.internimage import Block, DCNv3
from cascadezoo.modeling.layers import Conv, DeconvReLU, DeformConv
from cascadezoo.modeling.network import Network
from cascadezoo.modeling.norms import ConvLayerNorm
from cascadezoo.modeling.resnet import ConvNorm, DeformConvNorm

N = TypeVar("N", bound=Network)
C = TypeVar("C", bound=Conv)


@torch.inference_mode(False)
@torch.no_grad()
def lean(network: N, device: torch.device | None = None, fused: bool = True) -> N:
    """The network for inference on ``device``, by default its own: a copy of the same class in evaluation mode, whose
    parameters want no gradients.

    Without ``fused`` DCNv3 stays apart from its softmax: of the two as one operator there is no kernel for CPUs.

    Tensors that need no change are shared with ``network``, whose weights should stay as they are from then on: a
    change would reach some layers and not others.
    """
    shared: dict[int, Any] = {id(x): _frozen(x) for x in network.parameters()}
    shared |= {id(x): x for x in (*network.buffers(), network.spec)}
    made = copy.deepcopy(network, shared)
    if device is not None:
        made.to(device)
    _substitute(made, _RULES if fused else {kind: rule for kind, rule in _RULES.items() if kind is not DCNv3})
    return made.eval()


def _substitute(parent: nn.Module, rules: "_Rules") -> None:
    """What the rules make of the modules inside ``parent``, and inside what they made, in their places."""
    for name, child in parent.named_children():
        rule = rules.get(type(child))
        made = child if rule is None else rule(child)
        setattr(parent, name, made)
        _substitute(made, rules)


def _one_convolution(conv: ConvNorm) -> nn.Module:
    """Convolution and norm as one convolution."""
    return _channels_last(_with_norm(Conv, conv))


def _one_deformable_convolution(conv: DeformConvNorm) -> nn.Module:
    """The same where points are moved: the convolution that says by how much has no norm and stays as it is."""
    made = _with_norm(DeformConv, conv)
    made.offset = conv.offset
    return made


def _with_norm(kind: type[C], conv: ConvNorm) -> C:
    weight, bias = conv.scaled()
    with torch.device("meta"):
        made = kind(
            conv.in_channels, conv.out_channels, conv.kernel_size[0], conv.stride[0], conv.groups, relu=conv.relu
        )
    made.weight, made.bias = _frozen(weight), _frozen(bias)
    return made


def _channels_last(conv: nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    """A convolution whose weight lies as images do, so that nothing lays it out anew for each of them."""
    conv.weight = _frozen(conv.weight.contiguous(memory_format=torch.channels_last))
    return conv


class NormedConv(nn.Module):
    """A convolution, its layer norm, and what follows them, each a layer that can be replaced by itself."""

    def __init__(self, conv: ConvLayerNorm) -> None:
        super().__init__()
        with torch.device("meta"):
            self.conv = Conv(conv.in_channels, conv.out_channels, conv.kernel_size[0], bias=False)
        self.conv.weight = conv.weight
        self.norm, self.relu = conv.norm, conv.relu

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """As ``Conv.forward``."""
        x = self.norm(self.conv(x))
        if onto is not None:
            x = x.add_(onto)
        return F.relu(x, inplace=True) if self.relu else x


class FlattenChannelsLast(nn.Module):
    """(R, C, P, P) to (R, P * P * C), a view of what lies channels last."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


def _reading_channels_last(head: BoxHead) -> BoxHead:
    """A box head whose first linear layer has its columns in the order in which its input lies."""
    first = head.fcs[0]
    weight: Tensor = first.get_parameter("weight")
    columns = weight.unflatten(1, (-1, head.resolution, head.resolution)).permute(0, 2, 3, 1)
    first.weight = _frozen(columns.flatten(1))
    head.flatten = FlattenChannelsLast()
    return head


class ScaledBlock(nn.Module):
    """InternImage's block for inference, whose branches end in a layer that holds their scale."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.post_norm = block.post_norm
        self.norm1, self.dcn, self.norm2, self.mlp = block.norm1, block.dcn, block.norm2, block.mlp
        ends = (block.norm1, block.norm2) if self.post_norm else (block.dcn.output_proj, block.mlp.fc2)
        for end, gamma in zip(ends, (block.gamma1, block.gamma2), strict=True):
            _scale(end, gamma)

    def forward(self, x: Tensor) -> Tensor:
        if self.post_norm:
            x = x + self.norm1(self.dcn(x))
            x = x + self.norm2(self.mlp(x))
        else:
            x = x + self.dcn(self.norm1(x))
            x = x + self.mlp(self.norm2(x))
        return x


class ScaledConvNeXtBlock(nn.Module):
    """ConvNeXt's block for inference, whose MLP ends in a layer that holds the branch's scale."""

    def __init__(self, block: convnext.Block) -> None:
        super().__init__()
        self.dwconv, self.norm, self.mlp = block.dwconv, block.norm, block.mlp
        _scale(block.mlp.fc2, block.gamma)

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.mlp(self.norm(convolved(self.dwconv, x)))
        return branch.add_(x)


def _scale(end: nn.Module, gamma: Tensor) -> None:
    """Have a linear layer's or a norm's results multiplied by ``gamma``."""
    weight, bias = end.get_parameter("weight"), end.get_parameter("bias")
    end.weight = _frozen(weight * gamma.view(-1, *[1] * (weight.ndim - 1)))
    end.bias = _frozen(bias * gamma)


def _frozen(x: Tensor) -> nn.Parameter:
    return nn.Parameter(x.detach(), requires_grad=False)


_Rules = dict[type[nn.Module], Callable[[Any], nn.Module]]
_RULES: _Rules = {
    ConvNorm: _one_convolution,
    DeformConvNorm: _one_deformable_convolution,
    ConvLayerNorm: NormedConv,
    Conv: _channels_last,
    DeconvReLU: _channels_last,
    nn.Conv2d: _channels_last,
    nn.ConvTranspose2d: _channels_last,
    BoxHead: _reading_channels_last,
    Block: ScaledBlock,
    convnext.Block: ScaledConvNeXtBlock,
    DCNv3: DCNv3.fused,
}
