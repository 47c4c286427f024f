"""What a network learns from: targets, samples and losses as typed records, one slice for each part of the network.

Like ``conventions``, these are numbers that enter formulas; the publishers' values are in ``cascadezoo/providers``.
"""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cascadezoo.spec.record import Record

IoU = Annotated[float, Field(ge=0, le=1)]


class BestBoxes(Record):
    """Each object's best boxes (ties too) are positive as well, from an IoU of ``least`` on.

    ``taken``: such a box is matched to the object whose best it is, even where it overlaps another more.
    """

    least: IoU
    taken: bool


class Matching(Record):
    """Which object a box is matched to: the one it overlaps most, positive from an IoU of ``positive`` on, background
    below ``negative``, neither in between.  Crowds match nothing."""

    positive: IoU
    negative: IoU
    best: BestBoxes | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.negative > self.positive:
            raise ValueError(f"negative {self.negative} lies above positive {self.positive}")
        return self


class Sampling(Record):
    """At most ``size`` boxes an image, at most ``positive_fraction`` of them positive, at random; background fills up.

    ``replacement``: background is drawn with replacement, so that a few boxes fewer are taken.
    """

    size: int = Field(gt=0)
    positive_fraction: float = Field(ge=0, le=1)
    replacement: bool = False


class Normaliser(StrEnum):
    """What a sum over sampled boxes is divided by."""

    SAMPLED = "sampled"  # the number sampled in the batch
    NOMINAL = "nominal"  # the sampling size times the images of the batch
    IMAGE = "image"  # each image by its own number sampled, then the mean over images


class SmoothL1(Record):
    """On encoded deltas, summed over their four numbers; ``beta`` 0 is the plain absolute difference."""

    kind: Literal["smooth_l1"] = "smooth_l1"
    beta: float = Field(ge=0)


class GIoU(Record):
    """1 - generalised IoU (Rezatofighi et al. 2019) of decoded, unclipped boxes, times ``weight``."""

    kind: Literal["giou"] = "giou"
    weight: float = Field(gt=0)


class RpnObjective(Record):
    """Binary cross entropy of objectness, smooth L1 of deltas, and the proposals that the heads learn from.

    ``inside``: only anchors that lie in the image, without its padding, take part.
    """

    matching: Matching
    sampling: Sampling
    inside: bool
    box_loss: SmoothL1
    objectness_normaliser: Normaliser
    box_normaliser: Normaliser
    pre_nms_top_n: int = Field(gt=0)
    post_nms_top_n: int = Field(gt=0)


class StageObjective(Record):
    """One stage of the cascade: the IoU from which a box is positive, and the weight of its losses."""

    iou: IoU
    weight: float = Field(gt=0)


class MaskObjective(Record):
    """One mask head learns from the positive boxes of a stage, 0 the first."""

    stage: int = Field(ge=0)
    weight: float = Field(gt=0)


class BoxObjective(Record):
    """Softmax cross entropy and a box loss a stage, both divided by the number of boxes sampled in the batch.

    ``sampling`` holds at the first stage, and with ``resample`` at the others; else these take every box.  True boxes
    are added to the first stage's boxes, with ``truth_everywhere`` to those of every stage; with ``forget_truth`` they
    do not move on to the next stage, with ``forget_empty`` boxes without area do not.  ``full_head_gradients``:
    a stage's weight does not slow the learning of its own head, only what the stage teaches the layers below.
    """

    stages: tuple[StageObjective, ...] = Field(min_length=1)
    sampling: Sampling
    resample: bool
    truth_everywhere: bool
    forget_truth: bool
    forget_empty: bool
    loss: Annotated[SmoothL1 | GIoU, Field(discriminator="kind")]
    full_head_gradients: bool = False


class Objective(Record):
    """Everything that a network learns from; ``masks``: one record a mask head."""

    rpn: RpnObjective
    box: BoxObjective
    masks: tuple[MaskObjective, ...] = ()

    @model_validator(mode="after")
    def _masks_have_stages(self) -> Self:
        if any(mask.stage >= len(self.box.stages) for mask in self.masks):
            raise ValueError(f"a mask head learns from a stage beyond the {len(self.box.stages)} there are")
        return self
