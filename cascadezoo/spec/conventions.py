"""What publishers do differently, as typed records: numbers that enter a formula rather than flags that fork it.

Each record is one slice of a pipeline stage and is handed to that stage alone, so nothing downstream ever asks who
published a model.  The values, with their sources, are in ``cascadezoo/providers``.

``extent``, wherever it appears, is what a box's width has beyond x2 - x1: 1 where x2 is the last pixel inside the box,
0 where it is the edge behind it.
"""

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from cascadezoo.spec.record import Record

Extent = Literal[0, 1]


class Space(StrEnum):
    """The coordinates in which a step works."""

    NETWORK = "network"  # pixels of the resized image
    ORIGINAL = "original"  # pixels of the image as given


class Interpolation(StrEnum):
    """How an image is resized, by OpenCV's names."""

    LINEAR = "linear"
    CUBIC = "cubic"


class ResizeStep(StrEnum):
    """The distance between two sampled points: of the sizes as rounded (they differ in x and y), or of the scale."""

    ACHIEVED = "achieved"  # old size / new size; sides are rounded half up
    NOMINAL = "nominal"  # 1 / scale; sides are rounded half to even


class Bounds(StrEnum):
    """What bounds the coordinates of boxes at network scale."""

    RESIZED = "resized"  # the resized image's own whole pixels
    UNROUNDED = "unrounded"  # the original size times the scale
    PADDED = "padded"  # the network input with its padding


class Resize(Record):
    """From the decoded image to network scale.

    ``float32``: resized in floating point, else in OpenCV's fixed-point uint8.  ``rounded_limit``: the longer side
    is compared with its limit after rounding to whole pixels.
    """

    interpolation: Interpolation
    step: ResizeStep
    float32: bool
    rounded_limit: bool
    bounds: Bounds


class AnchorGrid(Record):
    """RPN anchors: per level squares of ``sizes[l]``, reshaped by each ratio (height / width), on a grid of step
    ``strides[l]``; the first cell's centre lies ``extent * (stride - 1) / 2`` from the image's corner.  ``rounded``:
    width and height are those of the stride's own cell, rounded to whole pixels, then scaled to the size."""

    sizes: tuple[tuple[float, ...], ...]
    ratios: tuple[float, ...]
    strides: tuple[int, ...]
    extent: Extent
    rounded: bool

    @model_validator(mode="after")
    def _one_row_per_level(self) -> Self:
        if len(self.sizes) != len(self.strides) or len({len(row) for row in self.sizes}) != 1:
            raise ValueError(f"sizes {self.sizes} for strides {self.strides}: give each level as many sizes")
        return self

    @property
    def per_cell(self) -> int:
        """Anchors a cell."""
        return len(self.sizes[0]) * len(self.ratios)


class BoxCoder(Record):
    """Deltas (dx, dy, dw, dh) against a box: raw outputs times ``stds``; dw and dh are clamped to ``log_scale``."""

    stds: tuple[float, float, float, float]
    log_scale: tuple[float, float]  # lowest, highest
    extent: Extent


class Nms(Record):
    """Greedy suppression within a group (a class, a pyramid level) of boxes whose IoU exceeds ``iou``.

    ``inclusive``: an IoU equal to it suppresses too.  ``rounded_shift``: groups are kept apart by shifting boxes in
    float32, by ``group * (largest coordinate + 1)``; at 80 classes this rounds coordinates to about 1/128 pixel, which
    decides borderline pairs.
    """

    iou: float = Field(ge=0, le=1)
    extent: Extent
    inclusive: bool
    rounded_shift: bool


class RpnScore(StrEnum):
    """What anchors are ranked by; probabilities of 1 tie where their logits do not."""

    PROBABILITY = "probability"
    LOGIT = "logit"


class ProposalRule(Record):
    """Which anchors become proposals: the best ``pre_nms_top_n`` a level whose clipped sides are at least
    ``min_size`` pixels, after NMS a level the best ``post_nms_top_n`` of all."""

    score: RpnScore
    coder: BoxCoder
    nms: Nms
    min_size: float = Field(ge=0)
    pre_nms_top_n: int = Field(gt=0)
    post_nms_top_n: int = Field(gt=0)


class RoIAlign(Record):
    """Bilinear pooling of a box: ``sampling_ratio`` points a bin and axis (0: as many as feature cells the bin
    spans); with ``aligned`` the half-pixel shift is applied.  ``skip_empty``: a box without area is never detected."""

    sampling_ratio: int = Field(ge=0)
    aligned: bool
    skip_empty: bool


class LevelRule(Record):
    """The pyramid level of a box, 0 the finest: floor(level + log2(sqrt(area) / size + epsilon)), clamped."""

    size: float
    level: int
    epsilon: float
    extent: Extent


class ScoreFusion(StrEnum):
    """How a cascade's heads agree on one score."""

    MEAN_LOGITS = "mean_logits"  # each head on its own stage's boxes, mean, then softmax
    MEAN_PROBABILITIES = "mean_probabilities"  # each head on its own stage's boxes, softmax, then mean
    LAST_FEATURES = "last_features"  # every head on the last stage's boxes, softmax, then mean


class Cascade(Record):
    """Between the stages: how scores are fused, and whether moved boxes are clipped before the next stage."""

    fusion: ScoreFusion
    clip_stages: bool


class Selection(Record):
    """From scored boxes to detections: scores strictly above ``score_thresh``, NMS a class, the best
    ``detections_per_img`` of all classes.

    ``decode_space``: where the last deltas are applied and clipped; ``nms_space``: where boxes suppress each other.
    ``clip_original``: boxes are clipped to the image as given, and those left without area are dropped, after they
    have taken their place among the best.
    """

    score_thresh: float = Field(ge=0, lt=1)
    nms: Nms
    decode_space: Space
    nms_space: Space
    clip_original: bool
    detections_per_img: int = Field(gt=0)


class MaskPaste(StrEnum):
    """How a mask inside a box becomes pixels of the image; the functions are in ``ops/mask_paste.py``."""

    BILINEAR = "bilinear"  # sampled at pixel centres, at least one half
    INTEGER_BOX = "integer_box"  # resized to the box in whole pixels, above one half


class Conventions(Record):
    """One publisher's numerics, stage by stage in data-flow order."""

    resize: Resize
    anchors: AnchorGrid
    proposals: ProposalRule
    roi_align: RoIAlign
    levels: LevelRule
    cascade: Cascade
    selection: Selection
    paste: MaskPaste
