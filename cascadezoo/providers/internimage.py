"""InternImage (OpenGVLab): specs of its Cascade Mask R-CNN entries; conventions are those of mmdetection 2.28.

Source: OpenGVLab/InternImage ``detection/configs/coco/cascade_internimage_{l,xl}_fpn_{1x,3x}_coco.py``.  1x and 3x
are the same network.
"""

from cascadezoo.providers.mmdet import BOX_CONVENTIONS, conv_heads
from cascadezoo.spec.internimage import InternImageSpec
from cascadezoo.spec.model import ModelSpec

_L = InternImageSpec(width=160, blocks=(5, 5, 22, 5), groups=(10, 20, 40, 80), offset_scale=2.0, drop_path=0.4)
_XL = InternImageSpec(width=192, blocks=(5, 5, 24, 5), groups=(12, 24, 48, 96), offset_scale=2.0, drop_path=0.4)

# mmdetection 2 maps boxes back before NMS, in models with masks too
SPECS: dict[str, ModelSpec] = {
    "cascade_mask_internimage_l_fpn": conv_heads(_L, BOX_CONVENTIONS),
    "cascade_mask_internimage_xl_fpn": conv_heads(_XL, BOX_CONVENTIONS),
}
