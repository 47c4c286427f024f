"""ConvNeXt (Meta): specs of its Cascade Mask R-CNN and Mask R-CNN entries; conventions are those of the fork of
mmdetection 2.11 that Swin Transformer's detectors ran on.

Source: facebookresearch/ConvNeXt 048efce ``object_detection/configs/convnext``.  B is the same network whether its
backbone was pretrained on ImageNet-1K or 22K, but that the latter drops fewer paths (0.6).
"""

from cascadezoo.providers.mmdet import FORK_CONVENTIONS, conv_heads, plain_heads
from cascadezoo.spec.convnext import ConvNeXtSpec
from cascadezoo.spec.model import ModelSpec

_BACKBONES = {
    "t": ConvNeXtSpec(width=96, blocks=(3, 3, 9, 3), drop_path=0.4),
    "s": ConvNeXtSpec(width=96, blocks=(3, 3, 27, 3), drop_path=0.6),
    "b": ConvNeXtSpec(width=128, blocks=(3, 3, 27, 3), drop_path=0.7),
    "l": ConvNeXtSpec(width=192, blocks=(3, 3, 27, 3), drop_path=0.7),
    "xl": ConvNeXtSpec(width=256, blocks=(3, 3, 27, 3), drop_path=0.8),
}

SPECS: dict[str, ModelSpec] = {
    **{f"cascade_mask_convnext_{size}_fpn": conv_heads(body, FORK_CONVENTIONS) for size, body in _BACKBONES.items()},
    "mask_convnext_t_fpn": plain_heads(_BACKBONES["t"], FORK_CONVENTIONS),
}
