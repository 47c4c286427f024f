"""A spec becomes a network: the one place where modules are put together."""

from functools import lru_cache

import torch

from cascadezoo.coco import COCO, Categories
from cascadezoo.modeling.box_head import BoxHead
from cascadezoo.modeling.detector import Detector
from cascadezoo.modeling.fpn import FPN
from cascadezoo.modeling.init import initialise
from cascadezoo.modeling.mask_head import MaskHead
from cascadezoo.modeling.resnet import ResNet
from cascadezoo.modeling.rpn import RPN
from cascadezoo.spec import ModelSpec


def build(spec: ModelSpec, device: torch.device | str = "cpu") -> Detector:
    """The network of ``spec`` in eval mode, randomly initialised as its publisher does it; on ``meta``, no numbers."""
    with torch.device("meta"):
        model = Detector(
            spec,
            COCO if spec.num_classes == len(COCO) else Categories.numbered(spec.num_classes),
            backbone=ResNet(spec.backbone),
            neck=FPN(spec.backbone.channels, spec.neck.channels),
            rpn=RPN(spec.neck.channels, spec.conventions.anchors, spec.conventions.proposals),
            box_heads=[BoxHead(spec.neck.channels, spec.num_classes, spec.box_head) for _ in spec.stages],
            mask_heads=_mask_heads(spec),
        )
    if torch.device(device).type != "meta":
        model.to_empty(device=device)
        initialise(model)
    return model.eval()


def _mask_heads(spec: ModelSpec) -> list[MaskHead]:
    if spec.mask is None:
        return []
    return [MaskHead(spec.neck.channels, spec.num_classes, spec.mask) for _ in range(spec.mask.heads)]


@lru_cache(maxsize=64)
def canonical_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """The tensors of a model's state dict, by canonical name."""
    return {name: tuple(value.shape) for name, value in build(spec, device="meta").state_dict().items()}
