"""Swin Transformer (Microsoft): specs of its Cascade Mask R-CNN and Mask R-CNN entries; conventions are those of its
fork of mmdetection 2.11.

Source: SwinTransformer/Swin-Transformer-Object-Detection c7b20110 ``configs/swin``.  Schedules and MoBY's pretraining
share a network; T drops no paths in a cascade's 1x, and in Mask R-CNN fewer there (0.1) than in 3x (0.2).
"""

from cascadezoo.providers.mmdet import FORK_CONVENTIONS, conv_heads, plain_heads
from cascadezoo.spec.model import ModelSpec
from cascadezoo.spec.swin import SwinSpec

_BACKBONES = {
    "t": SwinSpec(width=96, blocks=(2, 2, 6, 2), heads=(3, 6, 12, 24), drop_path=0.2),
    "s": SwinSpec(width=96, blocks=(2, 2, 18, 2), heads=(3, 6, 12, 24), drop_path=0.2),
    "b": SwinSpec(width=128, blocks=(2, 2, 18, 2), heads=(4, 8, 16, 32), drop_path=0.3),
}

SPECS: dict[str, ModelSpec] = {
    **{f"cascade_mask_swin_{size}_fpn": conv_heads(body, FORK_CONVENTIONS) for size, body in _BACKBONES.items()},
    **{f"mask_swin_{size}_fpn": plain_heads(_BACKBONES[size], FORK_CONVENTIONS) for size in ("t", "s")},
}
