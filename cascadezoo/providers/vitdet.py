"""detectron2's ViTDet project: specs of its Cascade Mask R-CNN with plain ViTs and with Swin Transformers.

Source: facebookresearch/detectron2 02b5c4e, ``projects/ViTDet/configs/COCO/cascade_mask_rcnn_*.py`` and
``projects/ViTDet/configs/common/coco_loader_lsj.py``.
"""

from cascadezoo.providers.detectron2 import STAGES, conventions, objective
from cascadezoo.spec.model import AnyBackbone, BoxHeadSpec, MaskHeadSpec, ModelSpec, PreprocessSpec
from cascadezoo.spec.neck import AnyNeck, FPNSpec, SimplePyramidSpec
from cascadezoo.spec.norm import Norm
from cascadezoo.spec.swin import SwinSpec
from cascadezoo.spec.vit import ViTSpec

# of 2022: torchvision of December 2021 to February 2025 shifts no more than 5000 boxes on a GPU
_CONVENTIONS = conventions(shift_limit=5000)

_VITS = {
    "b": ViTSpec(width=768, blocks=(12,), heads=12, global_blocks=(2, 5, 8, 11), drop_path=0.1),
    "l": ViTSpec(width=1024, blocks=(24,), heads=16, global_blocks=(5, 11, 17, 23), drop_path=0.4),
    "h": ViTSpec(width=1280, blocks=(32,), heads=16, global_blocks=(7, 15, 23, 31), drop_path=0.5),
}
_SWINS = {
    "b": SwinSpec(width=128, blocks=(2, 2, 18, 2), heads=(4, 8, 16, 32), drop_path=0.4),
    "l": SwinSpec(width=192, blocks=(2, 2, 18, 2), heads=(6, 12, 24, 48), drop_path=0.4),
}


def _spec(backbone: AnyBackbone, neck: AnyNeck, size_divisor: int) -> ModelSpec:
    return ModelSpec(
        backbone=backbone,
        neck=neck,
        rpn_convs=2,  # conv_dims [-1, -1]
        box_head=BoxHeadSpec(convs=(256, 256, 256, 256), norm=Norm.LAYER, fcs=(1024,)),
        stages=STAGES,
        mask=MaskHeadSpec(heads=1, norm=Norm.LAYER),
        preprocess=PreprocessSpec(
            min_size=1024,
            max_size=1024,
            mean=(123.675, 116.28, 103.53),
            std=(58.395, 57.12, 57.375),
            size_divisor=size_divisor,
            square=True,
        ),
        conventions=_CONVENTIONS,
        objective=objective(post_nms_top_n=1000),
    )


# FPN has the square's side rounded up to multiples of its coarsest stride.  The simple pyramid spells its own wish
# "size_divisiblity", which nothing reads: its square is of any side, and of 1000 pixels the patches cover 992
SPECS: dict[str, ModelSpec] = {
    **{f"cascade_mask_vitdet_{size}": _spec(body, SimplePyramidSpec(), 1) for size, body in _VITS.items()},
    **{f"cascade_mask_swin_{size}": _spec(body, FPNSpec(norm=Norm.LAYER), 32) for size, body in _SWINS.items()},
}
