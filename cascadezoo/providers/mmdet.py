"""mmdetection (OpenMMLab): conventions and specs of its Cascade (Mask) R-CNN entries.

Source: mmdetection 3.3.0, ``configs/cascade_rcnn`` and ``configs/_base_/models/cascade_*_r50_fpn.py``; 2.x computes
the same.  Its BGR models are described here in RGB: conversion reverses the input channels of their first layer.
"""

import math

from cascadezoo.spec.conventions import (
    AnchorGrid,
    Bounds,
    BoxCoder,
    Cascade,
    Conventions,
    Interpolation,
    LevelRule,
    MaskPaste,
    Nms,
    ProposalRule,
    Resize,
    ResizeStep,
    RoIAlign,
    RpnScore,
    ScoreFusion,
    Selection,
    Space,
)
from cascadezoo.spec.convnext import ConvNeXtSpec
from cascadezoo.spec.model import AnyBackbone, BoxHeadSpec, MaskHeadSpec, ModelSpec, PreprocessSpec
from cascadezoo.spec.objective import (
    BestBoxes,
    BoxObjective,
    GIoU,
    MaskObjective,
    Matching,
    Normaliser,
    Objective,
    RpnObjective,
    Sampling,
    SmoothL1,
    StageObjective,
)
from cascadezoo.spec.resnet import ResNetSpec

_LOG_SCALE = (-math.log(1000 / 16), math.log(1000 / 16))  # delta_xywh_bbox_coder.py clamps both sides
_POSITIVE = 1.17549435e-38  # the smallest float32: rpn_head.py keeps sides > 0


def _coder(xy: float, wh: float) -> BoxCoder:
    return BoxCoder(stds=(xy, xy, wh, wh), log_scale=_LOG_SCALE, extent=0)


def _nms(iou: float) -> Nms:
    return Nms(iou=iou, extent=0, inclusive=False, rounded_shift=True)  # mmcv ops/nms.py batched_nms


def _conventions(nms_space: Space) -> Conventions:
    return Conventions(
        resize=Resize(
            interpolation=Interpolation.LINEAR,
            step=ResizeStep.ACHIEVED,
            float32=False,
            rounded_limit=False,
            bounds=Bounds.RESIZED,
        ),
        anchors=AnchorGrid(
            sizes=((32,), (64,), (128,), (256,), (512,)),
            ratios=(0.5, 1.0, 2.0),
            strides=(4, 8, 16, 32, 64),
            extent=0,
            rounded=False,
        ),
        proposals=ProposalRule(
            score=RpnScore.PROBABILITY,
            coder=_coder(1.0, 1.0),
            nms=_nms(0.7),
            min_size=_POSITIVE,
            pre_nms_top_n=1000,
            post_nms_top_n=1000,
        ),
        roi_align=RoIAlign(sampling_ratio=0, aligned=True, skip_empty=False),
        levels=LevelRule(size=56, level=0, epsilon=1e-6, extent=0),
        cascade=Cascade(fusion=ScoreFusion.MEAN_LOGITS, clip_stages=True),
        selection=Selection(
            score_thresh=0.05,
            nms=_nms(0.5),
            decode_space=Space.NETWORK,
            nms_space=nms_space,
            clip_original=False,
            detections_per_img=100,
        ),
        paste=MaskPaste.BILINEAR,
    )


# cascade_roi_head.py: a model with masks suppresses at network scale and maps back afterwards, a box model before
BOX_CONVENTIONS = _conventions(Space.ORIGINAL)
MASK_CONVENTIONS = _conventions(Space.NETWORK)

# SwinTransformer/Swin-Transformer-Object-Detection c7b20110, a fork of 2.11.0: its rpn_head.py drops small boxes only
# where the smallest size is above zero, so that boxes clipped to no width or no height take places among the proposals
FORK_CONVENTIONS = BOX_CONVENTIONS.model_copy(
    update={"proposals": BOX_CONVENTIONS.proposals.model_copy(update={"min_size": 0})}
)


def objective(mask: bool) -> Objective:
    """``configs/_base_/models/cascade_*_r50_fpn.py``, train_cfg and losses."""
    weights = (1.0, 0.5, 0.25)
    return Objective(
        rpn=RpnObjective(
            matching=Matching(positive=0.7, negative=0.3, best=BestBoxes(least=0.3, taken=True)),
            sampling=Sampling(size=256, positive_fraction=0.5),
            inside=True,
            box_loss=SmoothL1(beta=1 / 9),
            objectness_normaliser=Normaliser.SAMPLED,
            box_normaliser=Normaliser.SAMPLED,
            pre_nms_top_n=2000,
            post_nms_top_n=2000,
        ),
        box=BoxObjective(
            stages=tuple(StageObjective(iou=iou, weight=w) for iou, w in zip((0.5, 0.6, 0.7), weights, strict=True)),
            sampling=Sampling(size=512, positive_fraction=0.25),
            resample=True,
            truth_everywhere=True,
            forget_truth=True,
            forget_empty=False,
            loss=SmoothL1(beta=1.0),
        ),
        masks=tuple(MaskObjective(stage=i, weight=w) for i, w in enumerate(weights)) if mask else (),
    )


def plain_objective() -> Objective:
    """``configs/_base_/models/mask_rcnn_r50_fpn.py`` of 2.11.0 to 3.3.0, train_cfg and losses: L1, all anchors, and at
    the heads too an object's best boxes are its own."""
    published = objective(mask=True)
    stage = StageObjective(iou=0.5, weight=1.0, best=BestBoxes(least=0.5, taken=True))
    return Objective(
        rpn=published.rpn.model_copy(update={"inside": False, "box_loss": SmoothL1(beta=0), "post_nms_top_n": 1000}),
        box=published.box.model_copy(update={"stages": (stage,), "loss": SmoothL1(beta=0)}),
        masks=(MaskObjective(stage=0, weight=1.0),),
    )


STAGES = (_coder(0.1, 0.2), _coder(0.05, 0.1), _coder(0.033, 0.067))

PYTORCH_PIXELS = PreprocessSpec(
    min_size=800, max_size=1333, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), size_divisor=32
)
_CAFFE_PIXELS = PYTORCH_PIXELS.model_copy(update={"std": (1.0, 1.0, 1.0)})


def conv_heads(backbone: AnyBackbone, conventions: Conventions) -> ModelSpec:
    """Cascade Mask R-CNN "4conv1fc" on a backbone: box heads of four convolutions and one fully connected layer, deltas
    per class, learned by reg_decoded_bbox with GIoULoss(loss_weight=10.0); three mask heads.

    Source: 3.3.0 ``configs/convnext``, the fork's ``configs/swin`` and InternImage's ``detection/configs/coco``, equal
    in all but backbone and neck.
    """
    published = objective(mask=True)
    return ModelSpec(
        backbone=backbone,
        box_head=BoxHeadSpec(convs=(256, 256, 256, 256), fcs=(1024,), class_specific=True),
        stages=STAGES,
        mask=MaskHeadSpec(heads=len(STAGES)),
        preprocess=PYTORCH_PIXELS,
        conventions=conventions,
        objective=published.model_copy(update={"box": published.box.model_copy(update={"loss": GIoU(weight=10.0)})}),
    )


def plain_heads(backbone: AnyBackbone, conventions: Conventions) -> ModelSpec:
    """Mask R-CNN on a backbone: one box head of two fully connected layers, deltas per class, and one mask head.

    Source: ``configs/_base_/models/mask_rcnn_r50_fpn.py`` of 2.28.1, the fork's ``mask_rcnn_swin_fpn.py`` and
    ConvNeXt's ``mask_rcnn_convnext_fpn.py``, equal in all but backbone and neck.
    """
    return ModelSpec(
        backbone=backbone,
        box_head=BoxHeadSpec(class_specific=True),
        stages=STAGES[:1],
        mask=MaskHeadSpec(heads=1),
        preprocess=PYTORCH_PIXELS,
        conventions=conventions,
        objective=plain_objective(),
    )


_R50 = ResNetSpec(blocks=(3, 4, 6, 3))
_R101 = ResNetSpec(blocks=(3, 4, 23, 3))
_BACKBONES = {
    "r50_caffe": (_R50.model_copy(update={"stride_in_1x1": True}), _CAFFE_PIXELS),
    "r50": (_R50, PYTORCH_PIXELS),
    "r101_caffe": (_R101.model_copy(update={"stride_in_1x1": True}), _CAFFE_PIXELS),
    "r101": (_R101, PYTORCH_PIXELS),
    "x101_32x4d": (_R101.model_copy(update={"groups": 32, "width_per_group": 4}), PYTORCH_PIXELS),
    "x101_64x4d": (_R101.model_copy(update={"groups": 64, "width_per_group": 4}), PYTORCH_PIXELS),
    "x101_32x8d": (_R101.model_copy(update={"groups": 32, "width_per_group": 8}), PYTORCH_PIXELS),
}


# configs/convnext
_CONVNEXT_T = ConvNeXtSpec(width=96, blocks=(3, 3, 9, 3), drop_path=0.4)
_CONVNEXT_S = ConvNeXtSpec(width=96, blocks=(3, 3, 27, 3), drop_path=0.6)


def _spec(backbone: str, mask: bool) -> ModelSpec:
    body, preprocess = _BACKBONES[backbone]
    return ModelSpec(
        backbone=body,
        stages=STAGES,
        mask=MaskHeadSpec(heads=len(STAGES)) if mask else None,
        preprocess=preprocess,
        conventions=MASK_CONVENTIONS if mask else BOX_CONVENTIONS,
        objective=objective(mask),
    )


SPECS: dict[str, ModelSpec] = {
    **{f"cascade_{name}_fpn": _spec(name, mask=False) for name in _BACKBONES if name != "x101_32x8d"},
    **{f"cascade_mask_{name}_fpn": _spec(name, mask=True) for name in _BACKBONES},
    "cascade_mask_convnext_t_fpn": conv_heads(_CONVNEXT_T, MASK_CONVENTIONS),
    "cascade_mask_convnext_s_fpn": conv_heads(_CONVNEXT_S, MASK_CONVENTIONS),
}
