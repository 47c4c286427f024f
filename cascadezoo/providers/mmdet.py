"""mmdetection (OpenMMLab): conventions and specs of its Cascade (Mask) R-CNN entries.

Source: mmdetection 3.3.0, ``configs/cascade_rcnn`` and ``configs/_base_/models/cascade_*_r50_fpn.py``; 2.x computes
the same.  Its BGR models are described here in RGB: conversion reverses the input channels of their first layer.
"""

import math

from cascadezoo.conventions import (
    AnchorGrid,
    BoxCoder,
    Conventions,
    LevelRule,
    Nms,
    NmsSpace,
    ProposalRule,
    RoIAlign,
    Selection,
)
from cascadezoo.spec import MaskHeadSpec, ModelSpec, PreprocessSpec, ResNetSpec

_LOG_SCALE = (-math.log(1000 / 16), math.log(1000 / 16))  # delta_xywh_bbox_coder.py clamps both sides


def _coder(xy: float, wh: float) -> BoxCoder:
    return BoxCoder(stds=(xy, xy, wh, wh), log_scale=_LOG_SCALE)


def _conventions(nms_space: NmsSpace) -> Conventions:
    return Conventions(
        anchors=AnchorGrid(sizes=(32, 64, 128, 256, 512), ratios=(0.5, 1.0, 2.0), strides=(4, 8, 16, 32, 64)),
        proposals=ProposalRule(coder=_coder(1.0, 1.0), nms=Nms(iou=0.7), pre_nms_top_n=1000, post_nms_top_n=1000),
        roi_align=RoIAlign(sampling_ratio=0, aligned=True),
        levels=LevelRule(finest_size=56, epsilon=1e-6),
        selection=Selection(score_thresh=0.05, nms=Nms(iou=0.5), nms_space=nms_space, detections_per_img=100),
    )


# cascade_roi_head.py: a model with masks suppresses at network scale and maps back afterwards, a box model before
BOX_CONVENTIONS = _conventions(NmsSpace.ORIGINAL)
MASK_CONVENTIONS = _conventions(NmsSpace.NETWORK)

_STAGES = (_coder(0.1, 0.2), _coder(0.05, 0.1), _coder(0.033, 0.067))

_PYTORCH = PreprocessSpec(
    min_size=800, max_size=1333, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), size_divisor=32
)
_CAFFE = _PYTORCH.model_copy(update={"std": (1.0, 1.0, 1.0)})

_R50 = ResNetSpec(blocks=(3, 4, 6, 3))
_R101 = ResNetSpec(blocks=(3, 4, 23, 3))
_BACKBONES = {
    "r50_caffe": (_R50.model_copy(update={"stride_in_1x1": True}), _CAFFE),
    "r50": (_R50, _PYTORCH),
    "r101_caffe": (_R101.model_copy(update={"stride_in_1x1": True}), _CAFFE),
    "r101": (_R101, _PYTORCH),
    "x101_32x4d": (_R101.model_copy(update={"groups": 32, "width_per_group": 4}), _PYTORCH),
    "x101_64x4d": (_R101.model_copy(update={"groups": 64, "width_per_group": 4}), _PYTORCH),
    "x101_32x8d": (_R101.model_copy(update={"groups": 32, "width_per_group": 8}), _PYTORCH),
}


def _spec(backbone: str, mask: bool) -> ModelSpec:
    body, preprocess = _BACKBONES[backbone]
    return ModelSpec(
        backbone=body,
        stages=_STAGES,
        mask=MaskHeadSpec(heads=len(_STAGES)) if mask else None,
        preprocess=preprocess,
        conventions=MASK_CONVENTIONS if mask else BOX_CONVENTIONS,
    )


SPECS: dict[str, ModelSpec] = {
    **{f"cascade_{name}_fpn": _spec(name, mask=False) for name in _BACKBONES if name != "x101_32x8d"},
    **{f"cascade_mask_{name}_fpn": _spec(name, mask=True) for name in _BACKBONES},
}
