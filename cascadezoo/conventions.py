"""What publishers do differently, as typed records: numbers that enter a formula rather than flags that fork it.

Each record is one slice of a pipeline stage and is handed to that stage alone, so nothing downstream ever asks who
published a model.  The values, with their sources, are in ``cascadezoo/providers``.
"""

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Record(BaseModel):
    """An immutable, validated, hashable value; unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NmsSpace(StrEnum):
    """The coordinates in which final boxes are suppressed."""

    NETWORK = "network"  # pixels of the resized picture
    ORIGINAL = "original"  # pixels of the picture as given


class AnchorGrid(Record):
    """RPN anchors: per level one square of side ``sizes[l]``, reshaped by each ratio (height / width), on a grid of
    step ``strides[l]`` whose first centre is the picture's top left corner."""

    sizes: tuple[float, ...]
    ratios: tuple[float, ...]
    strides: tuple[int, ...]

    @model_validator(mode="after")
    def _one_size_per_level(self) -> Self:
        if len(self.sizes) != len(self.strides):
            raise ValueError(f"{len(self.sizes)} sizes for {len(self.strides)} strides: give one size a level")
        return self


class BoxCoder(Record):
    """Deltas (dx, dy, dw, dh) against a box: raw outputs times ``stds``; dw and dh are clamped to ``log_scale``."""

    stds: tuple[float, float, float, float]
    log_scale: tuple[float, float]  # lowest, highest


class Nms(Record):
    """Greedy suppression of boxes of one group (a class, a pyramid level) whose IoU exceeds ``iou``, strictly.

    Groups are kept apart by shifting boxes in float32, by ``group * (largest coordinate + 1)``; at 80 classes this
    rounds coordinates to about 1/128 pixel, which decides borderline pairs, hence belongs to the method.
    """

    iou: float = Field(ge=0, le=1)


class ProposalRule(Record):
    """Which anchors become proposals: the best ``pre_nms_top_n`` a level, then the best ``post_nms_top_n`` of all."""

    coder: BoxCoder
    nms: Nms
    pre_nms_top_n: int = Field(gt=0)
    post_nms_top_n: int = Field(gt=0)


class RoIAlign(Record):
    """Bilinear pooling of a box: ``sampling_ratio`` points a bin and axis (0: as many as feature cells the bin
    spans); with ``aligned`` the half-pixel shift is applied."""

    sampling_ratio: int = Field(ge=0)
    aligned: bool


class LevelRule(Record):
    """The pyramid level of a box: floor(log2(sqrt(area) / finest_size + epsilon)), clamped to the levels there are."""

    finest_size: float
    epsilon: float


class Selection(Record):
    """From scored boxes to detections: scores strictly above ``score_thresh``, NMS a class, the best
    ``detections_per_img`` of all classes."""

    score_thresh: float = Field(ge=0, lt=1)
    nms: Nms
    nms_space: NmsSpace
    detections_per_img: int = Field(gt=0)


class Conventions(Record):
    """One publisher's numerics, stage by stage in data-flow order."""

    anchors: AnchorGrid
    proposals: ProposalRule
    roi_align: RoIAlign
    levels: LevelRule
    selection: Selection
