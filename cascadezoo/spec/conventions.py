"""What publishers do differently, as typed records: numbers that enter a formula rather than flags that fork it.

Each record is one slice of a pipeline stage and is handed to that stage alone, so no later code asks who published a
model.  The values, with their sources, are in ``cascadezoo/providers``.

Two numbers come back in many formulas:

extent   1 where x2 is the last pixel inside a box, 0 where x2 is the edge behind it.  A box from pixel 10 to pixel 19
         inclusive is x1 = 10, x2 = 19 with extent 1 and x1 = 10, x2 = 20 with extent 0; its width is
         x2 - x1 + extent = 10 in both.
aligned  the half-pixel shift of RoIAlign.  A box edge at x = 8 on a level of stride 4 lies at 8 / 4 = 2.0 on the
         feature map.  Aligned pooling samples around 2.0 - 0.5 = 1.5, since the feature at index i stands for the
         centre i + 0.5 of its cell; pooling that is not aligned samples around 2.0.
"""

import math
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cascadezoo.spec.record import AnyNumber, Many, Most, Record, Side, Stride

Extent = Annotated[Literal[0, 1], Field(description="1: x2 is the last pixel inside a box; 0: the edge behind it.")]


class Space(StrEnum):
    """The coordinates in which a step works."""

    NETWORK = "network"  # pixels of the resized image
    ORIGINAL = "original"  # pixels of the image as given


class Interpolation(StrEnum):
    """How an image is resized."""

    LINEAR = "linear"  # OpenCV's
    CUBIC = "cubic"  # OpenCV's
    PILLOW = "pillow"  # Pillow's bilinear: a shrunk image's pixel is a mean over all that it covers


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
    """From the decoded image to network scale."""

    interpolation: Interpolation = Field(description="The method.")
    step: ResizeStep = Field(description="The distance between two sampled points, and how sides are rounded.")
    float32: bool = Field(description="Resize in floating point rather than in OpenCV's fixed-point uint8.")
    rounded_limit: bool = Field(
        description="Compare the longer side with its limit after rounding it to whole pixels, not before."
    )
    scaled_twice: bool = Field(
        default=False,
        description="Where the longer side passes its limit, shrink both sides as they were scaled, rather than scale"
        " the image's own: products of floating point numbers, of which the rounding decides on half pixels.",
    )
    bounds: Bounds = Field(description="What bounds the coordinates of boxes at network scale.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.interpolation is Interpolation.PILLOW and (self.float32 or self.step is not ResizeStep.ACHIEVED):
            raise ValueError("Pillow resizes whole levels, to sides in whole pixels")
        if self.scaled_twice and (self.rounded_limit or self.step is not ResizeStep.ACHIEVED):
            raise ValueError("sides that are scaled twice are rounded half up, and only at the end")
        return self


_Ratio = Annotated[float, Field(ge=1e-3, le=1000)]
_Std = Annotated[float, Field(gt=0, le=100)]
_LogScale = Annotated[float, Field(ge=-math.inf, le=20)]  # no NaN


class AnchorGrid(Record):
    """RPN anchors.  The centre of the first cell lies ``extent * (stride - 1) / 2`` from the image's corner."""

    sizes: tuple[Annotated[tuple[Side, ...], Field(min_length=1, max_length=64)], ...] = Field(
        max_length=Most, description="Per level, the sides of the squares in pixels."
    )
    ratios: tuple[_Ratio, ...] = Field(
        min_length=1, max_length=64, description="Height / width of the shapes that each square takes."
    )
    strides: tuple[Stride, ...] = Field(
        max_length=Most, description="Per level, the pixels from one cell to the next, finest first."
    )
    extent: Extent
    rounded: bool = Field(
        description="Round width and height, for a square of the stride's size, to whole pixels, then scale them."
    )

    @model_validator(mode="after")
    def _one_row_per_level(self) -> Self:
        if len(self.sizes) != len(self.strides) or len({len(row) for row in self.sizes}) != 1:
            raise ValueError(f"sizes {self.sizes} for strides {self.strides}: give each level as many sizes")
        return self

    @property
    def per_cell(self) -> int:
        """Anchors per cell."""
        return len(self.sizes[0]) * len(self.ratios)


class BoxCoder(Record):
    """How the deltas (dx, dy, dw, dh) of a regression move a box."""

    stds: tuple[_Std, _Std, _Std, _Std] = Field(description="Factors of the raw outputs.")
    log_scale: tuple[_LogScale, _LogScale] = Field(
        description="The lowest and the highest dw and dh; others are clamped."
    )
    extent: Extent

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.log_scale[0] > self.log_scale[1]:
            raise ValueError(f"log_scale {self.log_scale}: give the lowest first")
        return self


class Nms(Record):
    """Greedy suppression among the boxes of one group: of a class, or of a pyramid level."""

    iou: float = Field(ge=0, le=1, description="A box that overlaps a better one by a higher IoU is suppressed.")
    extent: Extent
    inclusive: bool = Field(description="An IoU equal to ``iou`` suppresses too.")
    rounded_shift: bool = Field(
        description="Keep groups apart by shifting boxes in float32, by group * (largest coordinate + 1).  At 80"
        " classes this rounds coordinates to about 1/128 pixel, which decides borderline pairs."
    )
    shift_limit: int | None = Field(
        default=None,
        gt=0,
        le=AnyNumber,
        description="With ``rounded_shift``, the most boxes of an image that are shifted: more of them are compared"
        " without; null: any number is shifted.",
    )


class RpnScore(StrEnum):
    """What anchors are ranked by; probabilities of 1 tie where their logits do not."""

    PROBABILITY = "probability"
    LOGIT = "logit"


class ProposalRule(Record):
    """Which anchors become proposals."""

    score: RpnScore = Field(description="What anchors are ranked by.")
    coder: BoxCoder = Field(description="How deltas move the anchors.")
    nms: Nms = Field(description="Suppression among the boxes of each level.")
    min_size: float = Field(
        ge=0, le=100_000, description="The smallest side of a proposal after clipping, in network pixels."
    )
    pre_nms_top_n: int = Field(gt=0, le=Many, description="The best anchors per level that go into NMS.")
    post_nms_top_n: int = Field(gt=0, le=Many, description="The best proposals per image, of all levels, after NMS.")


class RoIAlign(Record):
    """Bilinear pooling of a box."""

    sampling_ratio: int = Field(
        ge=0, le=64, description="Sampled points per bin and axis; 0: as many as the feature cells that the bin spans."
    )
    aligned: bool = Field(description="Sample half a cell further left and up, where a feature has its centre.")
    skip_empty: bool = Field(description="A box without area is never detected.")


class LevelRule(Record):
    """The pyramid level of a box, 0 the finest: floor(level + log2(sqrt(area) / size + epsilon)), clamped."""

    size: Side = Field(description="The side, in pixels, of a square on ``level``.")
    level: int = Field(ge=-Most, le=Most, description="The level of a box of ``size``.")
    epsilon: float = Field(ge=0, le=1, description="What lifts a box just below a level's smallest size to that level.")
    extent: Extent


class ScoreFusion(StrEnum):
    """How a cascade's heads agree on one score."""

    MEAN_LOGITS = "mean_logits"  # each head on its own stage's boxes, mean, then softmax
    MEAN_PROBABILITIES = "mean_probabilities"  # each head on its own stage's boxes, softmax, then mean
    LAST_FEATURES = "last_features"  # every head on the last stage's boxes, softmax, then mean


class Cascade(Record):
    """Between the stages."""

    fusion: ScoreFusion = Field(description="How the scores of all stages become one.")
    clip_stages: bool = Field(description="Clip the boxes to the image before the next stage.")


class Selection(Record):
    """From predicted boxes to detections."""

    score_thresh: float = Field(ge=0, lt=1, description="A detection's score is strictly above this.")
    nms: Nms = Field(description="Suppression among the boxes of each class.")
    decode_space: Space = Field(description="Where the last stage's deltas are applied and the boxes clipped.")
    nms_space: Space = Field(description="Where boxes suppress each other.")
    clip_original: bool = Field(
        description="Clip boxes to the image as given and drop those left without area, after they have taken their"
        " place among the best."
    )
    detections_per_img: int = Field(gt=0, le=Many, description="The best detections per image, of all classes.")


class MaskPaste(StrEnum):
    """How a mask inside a box becomes pixels of the image; the functions are in ``ops/mask_paste.py``."""

    BILINEAR = "bilinear"  # sampled at pixel centres, at least one half
    INTEGER_BOX = "integer_box"  # resized to the box in whole pixels, above one half


class Conventions(Record):
    """One publisher's numerics, stage by stage in the order of data flow."""

    resize: Resize = Field(description="The image to network scale.")
    anchors: AnchorGrid = Field(description="The boxes that the RPN starts from.")
    proposals: ProposalRule = Field(description="The RPN's outputs to proposals.")
    roi_align: RoIAlign = Field(description="Features of a box.")
    levels: LevelRule = Field(description="The level that a box is pooled from.")
    cascade: Cascade = Field(description="What happens between the stages.")
    selection: Selection = Field(description="The last stage's boxes to detections.")
    paste: MaskPaste = Field(description="Mask probabilities to pixels of the image.")
