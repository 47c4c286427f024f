"""detectron2 (Facebook AI Research, Meta): conventions and specs of its model zoo's Cascade Mask R-CNN.

Source: facebookresearch/detectron2 02b5c4e, ``configs/Misc/cascade_mask_rcnn_R_50_FPN_{1x,3x}.yaml``.  Its BGR models
are described here in RGB: conversion reverses the input channels of their first layer.  ``providers/vitdet.py`` has the
networks of its ViTDet project.
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
from cascadezoo.spec.model import MaskHeadSpec, ModelSpec, PreprocessSpec
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

_LOG_SCALE = (-math.inf, math.log(1000 / 16))  # box_regression.py clamps from above only
_POSITIVE = 1.17549435e-38  # the smallest float32: proposal_utils.py keeps sides > 0


def _coder(xy: float, wh: float) -> BoxCoder:
    return BoxCoder(stds=(1 / xy, 1 / xy, 1 / wh, 1 / wh), log_scale=_LOG_SCALE, extent=0)


def conventions(shift_limit: int | None) -> Conventions:
    """The numerics of this publisher's detectors; ``shift_limit`` as in ``Nms``, by the torchvision of their day."""

    def nms(iou: float) -> Nms:
        return Nms(iou=iou, extent=0, inclusive=False, rounded_shift=True, shift_limit=shift_limit)

    return Conventions(
        resize=Resize(
            interpolation=Interpolation.PILLOW,
            step=ResizeStep.ACHIEVED,
            float32=False,
            rounded_limit=False,
            scaled_twice=True,
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
            score=RpnScore.LOGIT,
            coder=_coder(1, 1),
            nms=nms(0.7),
            min_size=_POSITIVE,
            pre_nms_top_n=1000,
            post_nms_top_n=1000,
        ),
        roi_align=RoIAlign(sampling_ratio=0, aligned=True, skip_empty=False),
        levels=LevelRule(size=224, level=2, epsilon=1e-8, extent=0),
        cascade=Cascade(fusion=ScoreFusion.MEAN_PROBABILITIES, clip_stages=True),
        selection=Selection(
            score_thresh=0.05,
            nms=nms(0.5),
            decode_space=Space.NETWORK,
            nms_space=Space.NETWORK,
            clip_original=True,  # postprocessing.py
            detections_per_img=100,
        ),
        paste=MaskPaste.BILINEAR,
    )


# of 2019: layers/nms.py of that day and torchvision 0.4 shifted any number of boxes
CONVENTIONS = conventions(shift_limit=None)


def objective(post_nms_top_n: int) -> Objective:
    """``detectron2/config/defaults.py``, ``modeling/proposal_generator/rpn.py``, ``modeling/roi_heads``: the losses of
    the stages add up, and a third of their gradients reaches the features that they share."""
    return Objective(
        rpn=RpnObjective(
            matching=Matching(positive=0.7, negative=0.3, best=BestBoxes(least=0, taken=False)),
            sampling=Sampling(size=256, positive_fraction=0.5),
            inside=False,
            box_loss=SmoothL1(beta=0),
            objectness_normaliser=Normaliser.NOMINAL,
            box_normaliser=Normaliser.NOMINAL,
            pre_nms_top_n=2000,
            post_nms_top_n=post_nms_top_n,
        ),
        box=BoxObjective(
            stages=tuple(StageObjective(iou=iou, weight=1) for iou in (0.5, 0.6, 0.7)),
            sampling=Sampling(size=512, positive_fraction=0.25),
            resample=False,
            truth_everywhere=False,
            forget_truth=False,
            forget_empty=True,
            loss=SmoothL1(beta=0),
            feature_gradients=1 / 3,
        ),
        masks=(MaskObjective(stage=0, weight=1),),
        drawing=Drawing(least_side=0.1),
    )


STAGES = (_coder(10, 5), _coder(20, 10), _coder(30, 15))

_R50 = ModelSpec(
    backbone=ResNetSpec(
        blocks=(3, 4, 6, 3), stride_in_1x1=True, frozen_stages=1, norm_learning=NormLearning.NOTHING
    ),  # FREEZE_AT 2, FrozenBN
    stages=STAGES,
    mask=MaskHeadSpec(heads=1),
    preprocess=PreprocessSpec(
        min_size=800, max_size=1333, mean=(123.675, 116.28, 103.53), std=(1.0, 1.0, 1.0), size_divisor=32
    ),
    conventions=CONVENTIONS,
    objective=objective(post_nms_top_n=2000),
)

SPECS: dict[str, ModelSpec] = {"cascade_mask_r50_fpn": _R50}
