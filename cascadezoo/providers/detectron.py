"""Detectron (Facebook AI Research) and Detectron-Cascade-RCNN (Cai and Vasconcelos): conventions and specs.

Source: zhaoweicai/Detectron-Cascade-RCNN, built on Detectron at e8942c8.  x2 is the last pixel inside a box everywhere.
Its BGR models are described here in RGB: conversion reverses the input channels of their first layer.
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
from cascadezoo.spec.norm import Norm
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

_LOG_SCALE = (-math.inf, math.log(1000 / 16))  # utils/boxes.py clips from above only


def _coder(x: float, y: float, w: float, h: float) -> BoxCoder:
    return BoxCoder(stds=(1 / x, 1 / y, 1 / w, 1 / h), log_scale=_LOG_SCALE, extent=1)


def _nms(iou: float) -> Nms:
    return Nms(iou=iou, extent=1, inclusive=True, rounded_shift=False)  # utils/cython_nms.pyx


CONVENTIONS = Conventions(
    resize=Resize(
        interpolation=Interpolation.LINEAR,
        step=ResizeStep.NOMINAL,
        float32=True,
        rounded_limit=True,
        bounds=Bounds.PADDED,  # generate_proposals.py clips to the padded blob
    ),
    anchors=AnchorGrid(
        sizes=((32,), (64,), (128,), (256,), (512,)),
        ratios=(0.5, 1.0, 2.0),
        strides=(4, 8, 16, 32, 64),
        extent=1,
        rounded=True,
    ),
    proposals=ProposalRule(
        score=RpnScore.PROBABILITY,
        coder=_coder(1, 1, 1, 1),
        nms=_nms(0.7),
        min_size=1,
        pre_nms_top_n=1000,
        post_nms_top_n=1000,
    ),
    roi_align=RoIAlign(sampling_ratio=2, aligned=False, skip_empty=False),
    levels=LevelRule(size=224, level=2, epsilon=1e-6, extent=1),
    cascade=Cascade(fusion=ScoreFusion.LAST_FEATURES, clip_stages=False),
    selection=Selection(
        score_thresh=0.05,
        nms=_nms(0.5),
        decode_space=Space.ORIGINAL,
        nms_space=Space.ORIGINAL,
        clip_original=False,
        detections_per_img=100,
    ),
    paste=MaskPaste.INTEGER_BOX,
)


def _objective(cascade: bool, mask: bool) -> Objective:
    """``roi_data/rpn.py``, ``roi_data/fast_rcnn.py``, ``roi_data/cascade_rcnn.py``, ``modeling/rpn_heads.py`` and
    ``modeling/cascade_rcnn_heads.py``; masks learn at the last stage (MRCNN.AT_STAGE)."""
    ious, weights = ((0.5, 0.6, 0.7), (1.0, 0.5, 0.25)) if cascade else ((0.5,), (1.0,))
    return Objective(
        rpn=RpnObjective(
            matching=Matching(positive=0.7, negative=0.3, best=BestBoxes(least=0, taken=False)),
            sampling=Sampling(size=256, positive_fraction=0.5, replacement=True),
            inside=True,
            box_loss=SmoothL1(beta=1 / 9),
            objectness_normaliser=Normaliser.NOMINAL,
            box_normaliser=Normaliser.IMAGE,
            pre_nms_top_n=2000,
            post_nms_top_n=2000,
        ),
        box=BoxObjective(
            stages=tuple(StageObjective(iou=iou, weight=w) for iou, w in zip(ious, weights, strict=True)),
            sampling=Sampling(size=512, positive_fraction=0.25),
            resample=False,
            truth_everywhere=True,
            forget_truth=True,
            forget_empty=True,
            loss=SmoothL1(beta=1.0),
            full_head_gradients=True,
        ),
        masks=(MaskObjective(stage=len(ious) - 1, weight=1),) if mask else (),
        drawing=Drawing(least_side=1, nearest=True) if mask else None,
    )


_PLAIN = (_coder(10, 10, 5, 5),)
_CASCADE = (_coder(10, 10, 5, 5), _coder(20, 20, 10, 10), _coder(30, 30, 15, 15))

_PIXELS = PreprocessSpec(
    min_size=800, max_size=1333, mean=(122.7717, 115.9465, 102.9801), std=(1.0, 1.0, 1.0), size_divisor=32
)

_X101 = ResNetSpec(
    blocks=(3, 4, 23, 3),
    norm=Norm.AFFINE,
    frozen_stages=1,
    norm_learning=NormLearning.NOTHING,  # FREEZE_AT 2
)
_R50 = _X101.model_copy(update={"blocks": (3, 4, 6, 3), "stride_in_1x1": True})
_BACKBONES = {
    "r50": _R50,
    "r101": _R50.model_copy(update={"blocks": (3, 4, 23, 3)}),
    "x101_64x4d": _X101.model_copy(update={"groups": 64, "width_per_group": 4}),
    "x101_32x8d": _X101.model_copy(update={"groups": 32, "width_per_group": 8}),
    "x152_32x8d": _X101.model_copy(update={"blocks": (3, 8, 36, 3), "groups": 32, "width_per_group": 8}),
}


def _spec(backbone: str, cascade: bool, mask: bool) -> ModelSpec:
    return ModelSpec(
        backbone=_BACKBONES[backbone],
        box_head=BoxHeadSpec(class_specific=not cascade),
        stages=_CASCADE if cascade else _PLAIN,
        mask=MaskHeadSpec(heads=1, background=True) if mask else None,
        preprocess=_PIXELS,
        conventions=CONVENTIONS,
        objective=_objective(cascade, mask),
    )


_BOX_BACKBONES = tuple(name for name in _BACKBONES if name != "x152_32x8d")

SPECS: dict[str, ModelSpec] = {
    **{f"faster_{name}_fpn": _spec(name, cascade=False, mask=False) for name in _BOX_BACKBONES},
    **{f"cascade_{name}_fpn": _spec(name, cascade=True, mask=False) for name in _BOX_BACKBONES},
    **{f"mask_{name}_fpn": _spec(name, cascade=False, mask=True) for name in _BACKBONES},
    **{f"cascade_mask_{name}_fpn": _spec(name, cascade=True, mask=True) for name in _BACKBONES},
}
