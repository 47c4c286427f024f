"""A model as data: ``ModelSpec`` holds every number that tells one network of the zoo from another.

Reading a spec never imports torch.  ``cascadezoo.build(spec)`` turns it into an ``nn.Module``.
"""

import json
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cascadezoo.spec.conventions import BoxCoder, Conventions
from cascadezoo.spec.convnext import ConvNeXtSpec
from cascadezoo.spec.internimage import InternImageSpec
from cascadezoo.spec.neck import AnyNeck, FPNSpec
from cascadezoo.spec.norm import Norm
from cascadezoo.spec.objective import Objective
from cascadezoo.spec.record import Channels, Most, Pixels, Record
from cascadezoo.spec.resnet import ResNetSpec
from cascadezoo.spec.swin import SwinSpec
from cascadezoo.spec.vit import ViTSpec

_Level = Annotated[float, Field(ge=-1000, le=1000)]
_Spread = Annotated[float, Field(ge=1e-3, le=1000)]  # pixels are divided by it


AnyBackbone = Annotated[
    ResNetSpec | InternImageSpec | ConvNeXtSpec | SwinSpec | ViTSpec, Field(discriminator="kind")
]  # a row for each kind


class PreprocessSpec(Record):
    """The pixels that the network takes: resized, then ``(x - mean) / std``, then padded with zeros at right and
    bottom, to whole multiples or to a square."""

    min_size: Pixels = Field(description="The shorter side in pixels, unless the longer would pass max_size.")
    max_size: Pixels = Field(description="The limit of the longer side in pixels.")
    mean: tuple[_Level, _Level, _Level] = Field(description="Per channel in RGB, grey levels of 0..255.")
    std: tuple[_Spread, _Spread, _Spread] = Field(description="Per channel in RGB, grey levels of 0..255.")
    size_divisor: int = Field(gt=0, le=1024, description="Padded sides are multiples of this.")
    square: bool = Field(
        default=False,
        description="Whatever the image, pad it to a square of max_size, rounded up to a multiple of size_divisor.",
    )

    @property
    def square_side(self) -> int:
        """The side of the square that images are padded to, where ``square`` says so."""
        return -(-self.max_size // self.size_divisor) * self.size_divisor

    @model_validator(mode="after")
    def _sizes_agree(self) -> Self:
        if self.max_size < self.min_size:
            raise ValueError(f"max_size {self.max_size} is smaller than min_size {self.min_size}")
        return self


class BoxHeadSpec(Record):
    """A RoI head: pooled features, 3x3 convolutions with a norm, fully connected layers, then class scores and box
    deltas.

    Without ``fcs`` the features go through a ResNet's fourth stage and a global average instead (C4, Ren et al. 2015).
    """

    resolution: int = Field(default=7, gt=0, le=64, description="Side of the pooled features.")
    convs: tuple[Channels, ...] = Field(default=(), max_length=Most, description="Channels of the convolutions.")
    norm: Literal[Norm.BATCH, Norm.LAYER] = Field(default=Norm.BATCH, description="What follows the convolutions.")
    fcs: tuple[Channels, ...] = Field(
        default=(1024, 1024), max_length=Most, description="Channels of the fully connected layers."
    )
    class_specific: bool = Field(
        default=False,
        description="Four deltas per class rather than four; in a cascade, those of the best class move a box on.",
    )


class MaskHeadSpec(Record):
    """Fully convolutional mask heads (He et al. 2017)."""

    heads: int = Field(gt=0, le=Most, description="Mask heads, whose probabilities are averaged.")
    resolution: int = Field(default=14, gt=0, le=128, description="Side of the pooled features.")
    convs: tuple[Channels, ...] = Field(
        default=(256, 256, 256, 256), max_length=Most, description="Channels of the convolutions."
    )
    norm: Literal[Norm.LAYER] | None = Field(
        default=None, description="What follows the convolutions; null: their own bias alone."
    )
    deconv: Channels = Field(default=256, description="Channels of the upsampled features.")
    shares_box_features: bool = Field(
        default=False, description="Read the box head's fourth ResNet stage rather than pooled features (C4)."
    )
    background: bool = Field(
        default=False, description="One more mask, the last, for the background class; no detection is of that class."
    )


class ModelSpec(Record):
    """One network: a cascade of box heads on a backbone, with mask heads or without."""

    backbone: AnyBackbone = Field(description="From pixels to feature maps.")
    neck: AnyNeck | None = Field(
        default=FPNSpec(),
        description="The feature pyramid; null: the RPN and the heads read the backbone's last stage.",
    )
    rpn_convs: int = Field(default=1, gt=0, le=4, description="The 3x3 convolutions of the RPN's head.")
    box_head: BoxHeadSpec = Field(default=BoxHeadSpec(), description="The layers of each stage's box head.")
    stages: tuple[BoxCoder, ...] = Field(min_length=1, max_length=Most, description="The coder of each stage's deltas.")
    mask: MaskHeadSpec | None = Field(description="The mask heads; null: boxes only.")
    preprocess: PreprocessSpec = Field(description="The pixels that the network takes.")
    conventions: Conventions = Field(description="The publisher's numerics.")
    objective: Objective = Field(description="The losses that the network learns by.")
    num_classes: int = Field(default=80, gt=0, le=100_000, description="Classes, without background.")

    def with_classes(self, count: int) -> Self:
        """The same network for another number of classes."""
        return self if count == self.num_classes else self.model_copy(update={"num_classes": count})

    def to_json(self) -> str:
        """One line of strict JSON, the same bytes for the same network; infinities are texts."""
        return json.dumps(json.loads(self.model_dump_json(), parse_constant=str), separators=(",", ":"))

    @property
    def feature_channels(self) -> int:
        """Channels of every level that the RPN and the heads read."""
        return self.neck.channels if self.neck else self.backbone.channels[-1]

    @property
    def roi_strides(self) -> tuple[int, ...]:
        """Strides of the levels that the heads read, finest first: not the extra one of a neck."""
        strides = self.conventions.anchors.strides
        return strides[:-1] if self.neck is not None else strides

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        levels = self.neck.levels(len(self.backbone.channels)) if self.neck else 1
        if len(self.conventions.anchors.strides) != levels:
            raise ValueError(f"anchors for {len(self.conventions.anchors.strides)} levels where there are {levels}")
        if not self.box_head.fcs and (self.neck or self.backbone.kind != "resnet" or len(self.backbone.blocks) != 3):
            raise ValueError("a head without fully connected layers is the fourth stage of a ResNet of three")
        if self.backbone.kind == "vit":
            self._patches_fill(self.backbone.patch)
        if self.mask and self.mask.shares_box_features and self.box_head.fcs:
            raise ValueError("fully connected layers leave no features for a mask head to share")
        if len(self.objective.box.stages) != len(self.stages):
            raise ValueError(f"{len(self.objective.box.stages)} stages to learn where there are {len(self.stages)}")
        if len(self.objective.masks) != (self.mask.heads if self.mask else 0):
            raise ValueError(f"{len(self.objective.masks)} mask heads to learn: give each head one record")
        return self

    def _patches_fill(self, patch: int) -> None:
        """A network of patches sees no pixels beside whole ones, which is as published for squares alone."""
        pixels = self.preprocess
        if not pixels.square and pixels.size_divisor % patch:
            raise ValueError(f"size_divisor {pixels.size_divisor}: give a multiple of {patch}, the patches' side")
        if pixels.square and pixels.square_side < 2 * patch:
            raise ValueError(f"a square of {pixels.square_side} pixels: give a max_size of two patches, {2 * patch}")
