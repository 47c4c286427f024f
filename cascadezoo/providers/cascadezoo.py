"""cascadezoo's own entry: a narrow Cascade Mask R-CNN on ResNet-18, trained on drawn shapes, small enough to ship.

It proves the code from training to evaluation on any machine, without network or data set.  mmdetection's numerics,
with anchors, pyramid levels and numbers of boxes for images of 192 x 256 pixels.
"""

from cascadezoo.providers.mmdet import MASK_CONVENTIONS, PYTORCH_PIXELS, STAGES, objective
from cascadezoo.spec.conventions import AnchorGrid
from cascadezoo.spec.model import BoxHeadSpec, MaskHeadSpec, ModelSpec
from cascadezoo.spec.neck import FPNSpec
from cascadezoo.spec.objective import MaskObjective
from cascadezoo.spec.resnet import NormLearning, ResNetSpec

_ANCHORS = AnchorGrid(
    sizes=((16,), (32,), (64,), (128,), (256,)),
    ratios=(0.5, 1.0, 2.0),
    strides=(4, 8, 16, 32, 64),
    extent=0,
    rounded=False,
)
_PROPOSALS = MASK_CONVENTIONS.proposals.model_copy(update={"pre_nms_top_n": 500, "post_nms_top_n": 200})
_CONVENTIONS = MASK_CONVENTIONS.model_copy(
    update={
        "anchors": _ANCHORS,
        "proposals": _PROPOSALS,
        "levels": MASK_CONVENTIONS.levels.model_copy(update={"size": 28}),
    }
)

_PUBLISHED = objective(mask=True)
_OBJECTIVE = _PUBLISHED.model_copy(
    update={
        "rpn": _PUBLISHED.rpn.model_copy(update={"pre_nms_top_n": 500, "post_nms_top_n": 300, "inside": False}),
        "box": _PUBLISHED.box.model_copy(update={"sampling": _PUBLISHED.box.sampling.model_copy(update={"size": 96})}),
        "masks": (MaskObjective(stage=0, weight=1),),
    }
)

SPECS: dict[str, ModelSpec] = {
    "cascade_mask_r18_fpn": ModelSpec(
        backbone=ResNetSpec(
            blocks=(2, 2, 2, 2), width=24, basic=True, frozen_stages=-1, norm_learning=NormLearning.STATISTICS
        ),
        neck=FPNSpec(channels=48),
        box_head=BoxHeadSpec(fcs=(128, 128)),
        stages=STAGES,
        mask=MaskHeadSpec(heads=1, convs=(48, 48), deconv=48),
        preprocess=PYTORCH_PIXELS.model_copy(update={"min_size": 192, "max_size": 256}),
        conventions=_CONVENTIONS,
        objective=_OBJECTIVE,
        num_classes=8,
    )
}
