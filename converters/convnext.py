"""ConvNeXt, of its own authors: Mask R-CNN and Cascade Mask R-CNN with FPN.

Source: state dicts of facebookresearch/ConvNeXt 048efce, ``object_detection/``, on the fork of mmdetection 2.11 that
Swin Transformer's detectors ran on; all but the backbone is mmdetection's own.  Layouts are torch's own, the background
class is last and images are RGB.  Files may hold the states of an optimizer and of apex besides, which are left out.
"""

from collections.abc import Collection

from cascadezoo.converters import mmdet, mmdet_config
from cascadezoo.converters.converter import Converter


def _refusal(keys: Collection[str], meta: object) -> str | None:
    def some(prefix: str, part: str = "") -> bool:
        return any(key.startswith(prefix) and part in key for key in keys)

    if some("downsample_layers.") or some("stages.", ".dwconv."):
        return "it is an ImageNet classifier, which ConvNeXt begins training with: give a trained detector"
    if some("backbone.stages.", ".depthwise_conv."):
        return "its backbone is mmdetection's ConvNeXt, whose convolutions are named depthwise_conv"
    if not some("roi_head."):
        return "it has no tensor under roi_head., where ConvNeXt's detectors have their heads"
    if some("backbone.stages.", ".dwconv."):
        return None
    if some("backbone.layer1."):
        return "its backbone is a ResNet, with tensors under backbone.layer1."
    return "it has no dwconv under backbone.stages., where ConvNeXt's detectors have one in each block"


CONVERTER = Converter(
    publisher="convnext",
    hallmark="backbone.stages., named dwconv, and roi_head.",
    key_map=mmdet.key_maps(mmdet.convnext("dwconv", "pwconv"), mmdet.CONVNEXT_HOLES),
    refusal=_refusal,
    describe=mmdet_config.describe,
    suffix=".pth",
    write=mmdet.write,
)
