"""A spec becomes a network: the one place where modules are put together."""

from functools import lru_cache

import torch
from torch import nn

from cascadezoo.modeling.backbones import BACKBONES
from cascadezoo.modeling.box_head import BoxHead, StageBoxHead
from cascadezoo.modeling.fpn import FPN, LastLevel
from cascadezoo.modeling.init import initialise
from cascadezoo.modeling.mask_head import MaskHead
from cascadezoo.modeling.network import Network
from cascadezoo.modeling.rpn import RPN
from cascadezoo.modeling.simple_pyramid import SimplePyramid
from cascadezoo.spec.model import MaskHeadSpec, ModelSpec
from cascadezoo.spec.neck import FPNSpec, SimplePyramidSpec


def build(spec: ModelSpec, device: torch.device | str = "cpu") -> Network:
    """The network of ``spec`` in eval mode, randomly initialised as its publisher does it; on ``meta``, no numbers."""
    with torch.device("meta"):
        model = Network(
            spec,
            backbone=BACKBONES[spec.backbone.kind](spec.backbone),
            neck=_neck(spec),
            rpn=RPN(spec.feature_channels, spec.conventions.anchors, spec.conventions.proposals, spec.rpn_convs),
            box_heads=[_box_head(spec) for _ in spec.stages],
            mask_heads=[] if spec.mask is None else [_mask_head(spec, spec.mask) for _ in range(spec.mask.heads)],
        )
    if torch.device(device).type != "meta":
        model.to_empty(device=device)
        initialise(model)
    return model.eval()


def _neck(spec: ModelSpec) -> nn.Module:
    match spec.neck:
        case FPNSpec(channels=channels, norm=norm):
            return FPN(spec.backbone.channels, channels, norm)
        case SimplePyramidSpec(channels=channels):
            return SimplePyramid(spec.backbone.channels[-1], channels)
        case None:
            return LastLevel()


def _box_head(spec: ModelSpec) -> BoxHead | StageBoxHead:
    if spec.box_head.fcs or spec.backbone.kind != "resnet":
        return BoxHead(spec.feature_channels, spec.num_classes, spec.box_head)
    return StageBoxHead(spec.feature_channels, spec.num_classes, spec.box_head, spec.backbone)


def _mask_head(spec: ModelSpec, mask: MaskHeadSpec) -> MaskHead:
    channels = 2 * spec.feature_channels if mask.shares_box_features else spec.feature_channels
    return MaskHead(channels, spec.num_classes + mask.background, mask)


@lru_cache(maxsize=64)
def canonical_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """The tensors of a model's state dict, by canonical name."""
    return {name: tuple(value.shape) for name, value in build(spec, device="meta").state_dict().items()}
