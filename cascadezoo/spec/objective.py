"""The objective of training as data: matching, sampling and losses, one record for each part of the network.

Like ``conventions``, these are numbers that enter formulas; the publishers' values are in ``cascadezoo/providers``.
"""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cascadezoo.spec.record import AnyNumber, Many, Most, Record, Weight

IoU = Annotated[float, Field(ge=0, le=1)]


class BestBoxes(Record):
    """The rule by which the boxes that overlap an object most, ties included, are positive below the threshold too."""

    least: IoU = Field(description="The lowest IoU from which such a box is positive.")
    taken: bool = Field(
        description="Such a box is matched to the object whose best box it is, even if it overlaps another more."
    )


class Matching(Record):
    """Which boxes are positive: a box is matched to the object that it overlaps most.  Crowds are no objects."""

    positive: IoU = Field(description="A box is positive from this IoU on.")
    negative: IoU = Field(description="A box is background below this IoU, and takes no part between the two.")
    best: BestBoxes | None = Field(default=None, description="Whether an object's best boxes are positive as well.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.negative > self.positive:
            raise ValueError(f"negative {self.negative} lies above positive {self.positive}")
        return self


class Sampling(Record):
    """How many boxes of an image take part in the losses, chosen at random; background fills up."""

    size: int = Field(gt=0, le=AnyNumber, description="At most so many boxes.")
    positive_fraction: float = Field(ge=0, le=1, description="At most this share of them is positive, rounded down.")
    replacement: bool = Field(
        default=False, description="Background is drawn with replacement, which leaves a few boxes fewer."
    )


class Normaliser(StrEnum):
    """What a sum over sampled boxes is divided by."""

    SAMPLED = "sampled"  # the number of boxes sampled in the batch
    NOMINAL = "nominal"  # the sampling size times the number of images
    IMAGE = "image"  # per image, the number of its sampled boxes; then the mean over images


class SmoothL1(Record):
    """Smooth L1 loss on encoded deltas, summed over their four numbers."""

    kind: Literal["smooth_l1"] = "smooth_l1"
    beta: float = Field(
        ge=0, le=1e6, description="Differences below it count quadratically; 0 for the absolute difference."
    )


class GIoU(Record):
    """1 - generalised IoU (Rezatofighi et al. 2019) of decoded, unclipped boxes."""

    kind: Literal["giou"] = "giou"
    weight: Weight = Field(description="What the loss is multiplied by.")


class RpnObjective(Record):
    """Losses of the region proposal network: binary cross entropy of objectness, and smooth L1 of deltas."""

    matching: Matching = Field(description="Which anchors are positive.")
    sampling: Sampling = Field(description="How many anchors take part.")
    inside: bool = Field(description="Only anchors that lie inside the image, without its padding, take part.")
    box_loss: SmoothL1 = Field(description="The loss of the positive anchors' deltas.")
    objectness_normaliser: Normaliser = Field(description="What the loss of objectness is divided by.")
    box_normaliser: Normaliser = Field(description="What the loss of deltas is divided by.")
    pre_nms_top_n: int = Field(gt=0, le=Many, description="Candidates per level before NMS, in training.")
    post_nms_top_n: int = Field(gt=0, le=Many, description="Proposals per image after NMS, in training.")


class StageObjective(Record):
    """One stage of the cascade."""

    iou: IoU = Field(description="A box is positive from this IoU on, and background below it.")
    weight: Weight = Field(description="The weight of the stage's losses.")
    best: BestBoxes | None = Field(
        default=None, description="Whether the proposals that overlap an object most are its own as well."
    )


class MaskObjective(Record):
    """What one mask head learns from."""

    stage: int = Field(ge=0, description="The stage whose positive boxes it learns from, 0 the first.")
    weight: Weight = Field(description="The weight of its loss.")


class Drawing(Record):
    """Masks' targets drawn from the objects' polygons: moved and scaled to the box, and filled on the mask's cells."""

    least_side: float = Field(gt=0, le=1e3, description="A side of a box counts as at least so many network pixels.")
    nearest: bool = Field(
        default=False,
        description="Of all objects, the one whose polygons' bounds overlap the box most; else the box's own object.",
    )


class BoxObjective(Record):
    """Losses of the box heads, one softmax cross entropy and one box loss per stage; both are divided by the number of
    boxes sampled in the batch."""

    stages: tuple[StageObjective, ...] = Field(min_length=1, max_length=Most, description="One record per stage.")
    sampling: Sampling = Field(description="How many boxes take part at the first stage.")
    resample: bool = Field(description="Later stages sample too; else all boxes take part in them.")
    truth_everywhere: bool = Field(
        description="Ground-truth boxes are added to the boxes of every stage, not only to the first stage's."
    )
    forget_truth: bool = Field(description="Ground-truth boxes that were added do not go on to the next stage.")
    forget_empty: bool = Field(description="Boxes without area do not go on to the next stage.")
    loss: Annotated[SmoothL1 | GIoU, Field(discriminator="kind", description="The loss of positive boxes.")]
    full_head_gradients: bool = Field(
        default=False,
        description="A stage's weight spares the gradients of its own head and slows only the layers below.",
    )
    feature_gradients: Weight = Field(
        default=1.0, description="What the gradients of all stages are multiplied by on their way below the heads."
    )


class Objective(Record):
    """All losses of a network."""

    rpn: RpnObjective = Field(description="Losses of the region proposal network.")
    box: BoxObjective = Field(description="Losses of the box heads.")
    masks: tuple[MaskObjective, ...] = Field(default=(), max_length=Most, description="One record per mask head.")
    drawing: Drawing | None = Field(
        default=None,
        description="How masks' targets are drawn from polygons; null: they are cut out of bitmaps of the image, as "
        "those of objects without polygons always are.",
    )

    @model_validator(mode="after")
    def _masks_have_stages(self) -> Self:
        if any(mask.stage >= len(self.box.stages) for mask in self.masks):
            raise ValueError(f"a mask head learns from a stage beyond the {len(self.box.stages)} there are")
        return self
