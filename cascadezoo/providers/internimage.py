"""InternImage (OpenGVLab): specs of its Cascade Mask R-CNN entries; conventions are those of mmdetection 2.28.

Source: OpenGVLab/InternImage ``detection/configs/coco/cascade_internimage_{l,xl}_fpn_{1x,3x}_coco.py``.  1x and 3x
are the same network.
"""

from cascadezoo.providers.mmdet import BOX_CONVENTIONS, PYTORCH_PIXELS, STAGES, objective
from cascadezoo.spec.internimage import InternImageSpec
from cascadezoo.spec.model import BoxHeadSpec, MaskHeadSpec, ModelSpec
from cascadezoo.spec.objective import GIoU, Objective

_L = InternImageSpec(width=160, blocks=(5, 5, 22, 5), groups=(10, 20, 40, 80), offset_scale=2.0, drop_path=0.4)
_XL = InternImageSpec(width=192, blocks=(5, 5, 24, 5), groups=(12, 24, 48, 96), offset_scale=2.0, drop_path=0.4)


def _objective() -> Objective:
    """mmdetection's, but for the box loss: reg_decoded_bbox with GIoULoss(loss_weight=10.0)."""
    published = objective(mask=True)
    return published.model_copy(update={"box": published.box.model_copy(update={"loss": GIoU(weight=10.0)})})


def _spec(backbone: InternImageSpec) -> ModelSpec:
    return ModelSpec(
        backbone=backbone,
        box_head=BoxHeadSpec(convs=(256, 256, 256, 256), fcs=(1024,), class_specific=True),
        stages=STAGES,
        mask=MaskHeadSpec(heads=len(STAGES)),
        preprocess=PYTORCH_PIXELS,
        conventions=BOX_CONVENTIONS,  # mmdetection 2 maps boxes back before NMS, in models with masks too
        objective=_objective(),
    )


SPECS: dict[str, ModelSpec] = {
    "cascade_mask_internimage_l_fpn": _spec(_L),
    "cascade_mask_internimage_xl_fpn": _spec(_XL),
}
