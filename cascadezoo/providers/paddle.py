"""PaddleDetection: conventions and specs of its Cascade (Mask) R-CNN and Mask R-CNN entries.

Source: PaddleDetection 2.6.0, ``configs/cascade_rcnn`` and ``configs/mask_rcnn``, with Paddle's CPU operators.  Code
of 2024 (release/2.6.1, 2.7.1, develop) turns RoIAlign's half-pixel shift off and rounds the resize: not what the
published checkpoints were measured with.
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
from cascadezoo.spec.model import BoxHeadSpec, MaskHeadSpec, ModelSpec, PreprocessSpec
from cascadezoo.spec.objective import (
    BestBoxes,
    BoxObjective,
    Drawing,
    MaskObjective,
    Matching,
    Normaliser,
    Objective,
    RpnObjective,
    Sampling,
    SmoothL1,
    StageObjective,
)
from cascadezoo.spec.resnet import NormLearning, ResNetSpec

_LOG_SCALE = (-math.inf, math.log(1000 / 16))  # bbox_utils.py clips from above only


def _coder(x: float, y: float, w: float, h: float) -> BoxCoder:
    return BoxCoder(stds=(1 / x, 1 / y, 1 / w, 1 / h), log_scale=_LOG_SCALE, extent=0)


def _nms(iou: float) -> Nms:
    return Nms(iou=iou, extent=0, inclusive=False, rounded_shift=False)


_RATIOS = (0.5, 1.0, 2.0)
_FPN_ANCHORS = AnchorGrid(
    sizes=((32,), (64,), (128,), (256,), (512,)), ratios=_RATIOS, strides=(4, 8, 16, 32, 64), extent=0, rounded=False
)
_C4_ANCHORS = AnchorGrid(sizes=((32, 64, 128, 256, 512),), ratios=_RATIOS, strides=(16,), extent=0, rounded=False)


def _conventions(anchors: AnchorGrid, pre_nms_top_n: int) -> Conventions:
    return Conventions(
        resize=Resize(
            interpolation=Interpolation.CUBIC,
            step=ResizeStep.NOMINAL,
            float32=False,
            rounded_limit=False,
            bounds=Bounds.UNROUNDED,
        ),
        anchors=anchors,
        proposals=ProposalRule(
            score=RpnScore.LOGIT,
            coder=_coder(1, 1, 1, 1),
            nms=_nms(0.7),
            min_size=1,  # the kernel takes max(min_size, 1), whatever the configuration says
            pre_nms_top_n=pre_nms_top_n,
            post_nms_top_n=1000,
        ),
        roi_align=RoIAlign(sampling_ratio=0, aligned=True, skip_empty=True),  # the CPU kernel gives such a box NaN
        levels=LevelRule(size=224, level=2, epsilon=1e-6, extent=0),
        cascade=Cascade(fusion=ScoreFusion.MEAN_PROBABILITIES, clip_stages=True),
        selection=Selection(
            score_thresh=0.05,
            nms=_nms(0.5),
            decode_space=Space.NETWORK,
            nms_space=Space.NETWORK,
            clip_original=True,
            detections_per_img=100,
        ),
        paste=MaskPaste.BILINEAR,
    )


FPN_CONVENTIONS = _conventions(_FPN_ANCHORS, pre_nms_top_n=1000)
C4_CONVENTIONS = _conventions(_C4_ANCHORS, pre_nms_top_n=6000)


def _objective(cascade: bool, mask: bool, pre_nms_top_n: int = 2000) -> Objective:
    """``configs/*/_base_/*.yml`` (RPNTargetAssign, train_proposal, BBoxAssigner), ``cascade_head.py``, ``target.py``"""
    return Objective(
        rpn=RpnObjective(
            matching=Matching(positive=0.7, negative=0.3, best=BestBoxes(least=0, taken=False)),
            sampling=Sampling(size=256, positive_fraction=0.5),
            inside=False,
            box_loss=SmoothL1(beta=0),
            objectness_normaliser=Normaliser.NOMINAL,
            box_normaliser=Normaliser.NOMINAL,
            pre_nms_top_n=pre_nms_top_n,
            post_nms_top_n=2000 if cascade or pre_nms_top_n > 2000 else 1000,
        ),
        box=BoxObjective(
            stages=tuple(StageObjective(iou=iou, weight=1 / 3) for iou in (0.5, 0.6, 0.7))
            if cascade
            else (StageObjective(iou=0.5, weight=1),),
            sampling=Sampling(size=512, positive_fraction=0.25),
            resample=False,
            truth_everywhere=False,
            forget_truth=False,
            forget_empty=True,
            loss=SmoothL1(beta=0),
        ),
        masks=(MaskObjective(stage=0, weight=1),) if mask else (),
        drawing=Drawing(least_side=0.1) if mask else None,
    )


_PLAIN = (_coder(10, 10, 5, 5),)
_CASCADE = (_coder(10, 10, 5, 5), _coder(20, 20, 10, 10), _coder(30, 30, 15, 15))

_FPN_PIXELS = PreprocessSpec(
    min_size=800, max_size=1333, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), size_divisor=32
)
_C4_PIXELS = _FPN_PIXELS.model_copy(update={"size_divisor": 1})  # pad_to_stride -1

_R50 = ResNetSpec(blocks=(3, 4, 6, 3), frozen_stages=1, norm_learning=NormLearning.NOTHING)  # freeze_at 0
_R101 = _R50.model_copy(update={"blocks": (3, 4, 23, 3)})
_VD = {"deep_stem": True, "pooled_shortcut": True}
_BACKBONES = {
    "r50": _R50,
    "r101": _R101,
    "r50_vd": _R50.model_copy(update=_VD),
    "r101_vd": _R101.model_copy(update=_VD),
    "x101_vd_64x4d": _R101.model_copy(update={**_VD, "groups": 64, "width_per_group": 4}),
}


def _spec(backbone: str, cascade: bool, mask: bool) -> ModelSpec:
    return ModelSpec(
        backbone=_BACKBONES[backbone],
        box_head=BoxHeadSpec(class_specific=not cascade),
        stages=_CASCADE if cascade else _PLAIN,
        mask=MaskHeadSpec(heads=1) if mask else None,
        preprocess=_FPN_PIXELS,
        conventions=FPN_CONVENTIONS,
        objective=_objective(cascade, mask),
    )


_C4 = ModelSpec(
    backbone=_R50.model_copy(update={"blocks": (3, 4, 6)}),
    neck=None,
    box_head=BoxHeadSpec(resolution=14, fcs=(), class_specific=True),
    stages=_PLAIN,
    mask=MaskHeadSpec(heads=1, convs=(), shares_box_features=True),
    preprocess=_C4_PIXELS,
    conventions=C4_CONVENTIONS,
    objective=_objective(cascade=False, mask=True, pre_nms_top_n=12000),
)

SPECS: dict[str, ModelSpec] = {
    **{f"cascade_{name}_fpn": _spec(name, cascade=True, mask=False) for name in ("r50", "r50_vd")},
    **{f"cascade_mask_{name}_fpn": _spec(name, cascade=True, mask=True) for name in ("r50", "r50_vd")},
    **{f"mask_{name}_fpn": _spec(name, cascade=False, mask=True) for name in _BACKBONES},
    "mask_r50_c4": _C4,
}
