"""InternImage (OpenGVLab): specs of its Mask R-CNN and Cascade Mask R-CNN entries; conventions are those of
mmdetection 2.28.

Source: OpenGVLab/InternImage 31c962d ``detection/configs/coco``: ``mask_rcnn_internimage_{t,s,b}_fpn_{1x,3x}_coco.py``
and ``cascade_internimage_{l,xl}_fpn_{1x,3x}_coco.py``.  1x and 3x are the same network.
"""

from cascadezoo.providers.mmdet import BOX_CONVENTIONS, conv_heads, plain_heads
from cascadezoo.spec.internimage import InternImageSpec
from cascadezoo.spec.model import ModelSpec

_T = InternImageSpec(width=64, blocks=(4, 4, 18, 4), groups=(4, 8, 16, 32), post_norm=False, drop_path=0.2)
_S = InternImageSpec(width=80, blocks=(4, 4, 21, 4), groups=(5, 10, 20, 40), drop_path=0.3)
_B = InternImageSpec(width=112, blocks=(4, 4, 21, 4), groups=(7, 14, 28, 56), drop_path=0.4)
_L = InternImageSpec(width=160, blocks=(5, 5, 22, 5), groups=(10, 20, 40, 80), offset_scale=2.0, drop_path=0.4)
_XL = InternImageSpec(width=192, blocks=(5, 5, 24, 5), groups=(12, 24, 48, 96), offset_scale=2.0, drop_path=0.4)

# mmdetection 2 maps boxes back before NMS, in models with masks too
SPECS: dict[str, ModelSpec] = {
    "cascade_mask_internimage_l_fpn": conv_heads(_L, BOX_CONVENTIONS),
    "cascade_mask_internimage_xl_fpn": conv_heads(_XL, BOX_CONVENTIONS),
    "mask_internimage_t_fpn": plain_heads(_T, BOX_CONVENTIONS),
    "mask_internimage_s_fpn": plain_heads(_S, BOX_CONVENTIONS),
    "mask_internimage_b_fpn": plain_heads(_B, BOX_CONVENTIONS),
}
