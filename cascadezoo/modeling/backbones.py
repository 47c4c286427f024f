"""Backbones by the ``kind`` of their record: the one list of them."""

from collections.abc import Callable
from typing import Any

from torch import nn

from cascadezoo.modeling.convnext import ConvNeXt
from cascadezoo.modeling.internimage import InternImage
from cascadezoo.modeling.resnet import ResNet
from cascadezoo.modeling.swin import Swin
from cascadezoo.modeling.vit import ViT

BACKBONES: dict[str, Callable[[Any], nn.Module]] = {
    "resnet": ResNet,
    "internimage": InternImage,
    "swin": Swin,
    "convnext": ConvNeXt,
    "vit": ViT,
}
