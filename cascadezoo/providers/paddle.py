"""PaddleDetection: conventions and specs of its Cascade (Mask) R-CNN and Mask R-CNN entries.

Source: PaddleDetection 2.6.0, ``configs/cascade_rcnn`` and ``configs/mask_rcnn``, with Paddle's CPU operators.  Code
of 2024 (release/2.6.1, 2.7.1, develop) turns RoIAlign's half-pixel shift off and rounds the resize: not what the
published checkpoints were measured with.
"""

import math

from cascadezoo.conventions import (
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
from cascadezoo.spec import BoxHeadSpec, MaskHeadSpec, ModelSpec, PreprocessSpec, ResNetSpec

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

_PLAIN = (_coder(10, 10, 5, 5),)
_CASCADE = (_coder(10, 10, 5, 5), _coder(20, 20, 10, 10), _coder(30, 30, 15, 15))

_FPN_PIXELS = PreprocessSpec(
    min_size=800, max_size=1333, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), size_divisor=32
)
_C4_PIXELS = _FPN_PIXELS.model_copy(update={"size_divisor": 1})  # pad_to_stride -1

_R50 = ResNetSpec(blocks=(3, 4, 6, 3))
_R101 = ResNetSpec(blocks=(3, 4, 23, 3))
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
    )


_C4 = ModelSpec(
    backbone=ResNetSpec(blocks=(3, 4, 6)),
    neck=None,
    box_head=BoxHeadSpec(resolution=14, fcs=(), class_specific=True),
    stages=_PLAIN,
    mask=MaskHeadSpec(heads=1, convs=(), shares_box_features=True),
    preprocess=_C4_PIXELS,
    conventions=C4_CONVENTIONS,
)

SPECS: dict[str, ModelSpec] = {
    **{f"cascade_{name}_fpn": _spec(name, cascade=True, mask=False) for name in ("r50", "r50_vd")},
    **{f"cascade_mask_{name}_fpn": _spec(name, cascade=True, mask=True) for name in ("r50", "r50_vd")},
    **{f"mask_{name}_fpn": _spec(name, cascade=False, mask=True) for name in _BACKBONES},
    "mask_r50_c4": _C4,
}
