"""A model as data: ``ModelSpec`` holds every number that tells one network of the zoo from another.

Reading a spec never imports torch.  ``cascadezoo.build(spec)`` turns it into an ``nn.Module``.
"""

import json
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cascadezoo.spec.conventions import BoxCoder, Conventions
from cascadezoo.spec.objective import Objective
from cascadezoo.spec.record import Blocks, Channels, Groups, Most, Pixels, Record

_Level = Annotated[float, Field(ge=-1000, le=1000)]
_Spread = Annotated[float, Field(ge=1e-3, le=1000)]  # pixels are divided by it


class PreprocessSpec(Record):
    """The pixels that the network takes: resized, then ``(x - mean) / std``, then padded with zeros at right and
    bottom."""

    min_size: Pixels = Field(description="The shorter side in pixels, unless the longer would pass max_size.")
    max_size: Pixels = Field(description="The limit of the longer side in pixels.")
    mean: tuple[_Level, _Level, _Level] = Field(description="Per channel in RGB, grey levels of 0..255.")
    std: tuple[_Spread, _Spread, _Spread] = Field(description="Per channel in RGB, grey levels of 0..255.")
    size_divisor: int = Field(gt=0, le=1024, description="Padded sides are multiples of this.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_size < self.min_size:
            raise ValueError(f"max_size {self.max_size} is smaller than min_size {self.min_size}")
        return self


class Norm(StrEnum):
    """What follows a convolution."""

    BATCH = "batch"  # batch norm by running statistics
    AFFINE = "affine"  # a scale and a bias per channel: statistics folded in by the publisher


class NormLearning(StrEnum):
    """What of the norms is learned; batch norms use their running statistics unless these are learned too."""

    NOTHING = "nothing"
    AFFINE = "affine"  # scales and biases
    STATISTICS = "statistics"  # also a batch norm's mean and variance, from each batch


class ResNetSpec(Record):
    """ResNet (He et al. 2015), ResNeXt (Xie et al. 2016) and ResNet-vd (He et al. 2018), strides 4, 8, 16 and 32."""

    kind: Literal["resnet"] = "resnet"
    blocks: tuple[Blocks, ...] = Field(min_length=3, max_length=4, description="The blocks of each stage.")
    width: int = Field(
        default=64, gt=0, le=1024, description="Channels of the stem and of the first stage's 3x3 convolutions."
    )
    basic: bool = Field(
        default=False,
        description="Blocks of two 3x3 convolutions (ResNet-18 and 34) rather than bottlenecks, which put out four"
        " times the channels.",
    )
    groups: Groups = Field(default=1, description="Groups of the 3x3 convolutions (ResNeXt: its cardinality).")
    width_per_group: int = Field(default=64, gt=0, le=1024, description="Channels of each group in the first stage.")
    stride_in_1x1: bool = Field(
        default=False,
        description='A stage\'s stride sits in its first 1x1 convolution (the original, "caffe" style) rather than in'
        ' the 3x3 ("pytorch" style).',
    )
    deep_stem: bool = Field(default=False, description="Three 3x3 convolutions in place of the 7x7 (ResNet-vd).")
    pooled_shortcut: bool = Field(
        default=False, description="An average pool before a shortcut that has a stride (ResNet-vd)."
    )
    norm: Norm = Field(default=Norm.BATCH, description="What follows a convolution.")
    frozen_stages: int = Field(
        default=1, ge=-1, le=Most, description="In training, the stem and so many stages learn nothing; -1: all learn."
    )
    norm_learning: NormLearning = Field(default=NormLearning.AFFINE, description="What of the norms is learned.")

    @property
    def channels(self) -> tuple[int, ...]:
        """Output channels of the stages."""
        return tuple((1 if self.basic else 4) * self.width * 2**i for i in range(len(self.blocks)))

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.basic and (self.groups != 1 or self.stride_in_1x1):
            raise ValueError("basic blocks have neither groups nor 1x1 convolutions")
        if self.norm is Norm.AFFINE and self.norm_learning is NormLearning.STATISTICS:
            raise ValueError("an affine norm has no statistics to learn")
        return self


class InternImageSpec(Record):
    """InternImage (Wang et al. 2022): four stages of deformable convolutions, strides 4 to 32."""

    kind: Literal["internimage"] = "internimage"
    width: int = Field(gt=0, le=1024, description="Channels of the first stage; each later stage has twice as many.")
    blocks: tuple[Blocks, Blocks, Blocks, Blocks] = Field(description="The blocks of each stage.")
    groups: tuple[Groups, Groups, Groups, Groups] = Field(
        description="The groups of each stage's deformable convolutions."
    )
    offset_scale: float = Field(
        default=1.0, gt=0, le=100, description="Factor of the offsets and of the kernel's own grid."
    )
    mlp_ratio: float = Field(default=4.0, gt=0, le=32, description="Hidden channels of a block's MLP per channel.")
    post_norm: bool = Field(default=True, description="Norm a branch at its end rather than at its start.")
    drop_path: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="In training, how often the last block's branches are left out for an image (Huang et al. 2016);"
        " earlier blocks' less, in proportion.",
    )

    @property
    def channels(self) -> tuple[int, ...]:
        """Output channels of the stages."""
        return tuple(self.width * 2**i for i in range(len(self.blocks)))

    @model_validator(mode="after")
    def _groups_divide(self) -> Self:
        for channels, groups in zip(self.channels, self.groups, strict=True):
            if channels % groups:
                raise ValueError(f"{groups} groups do not divide {channels} channels")
        return self


class FPNSpec(Record):
    """Feature Pyramid Network (Lin et al. 2016): one level per backbone stage, and one more,
    subsampled from the last."""

    channels: Channels = Field(default=256, description="Channels of every level.")


class BoxHeadSpec(Record):
    """A RoI head: pooled features, 3x3 convolutions with batch norm, fully connected layers, then class scores and box
    deltas.

    Without ``fcs`` the features go through a ResNet's fourth stage and a global average instead (C4, Ren et al. 2015).
    """

    resolution: int = Field(default=7, gt=0, le=64, description="Side of the pooled features.")
    convs: tuple[Channels, ...] = Field(default=(), max_length=Most, description="Channels of the convolutions.")
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
    deconv: Channels = Field(default=256, description="Channels of the upsampled features.")
    shares_box_features: bool = Field(
        default=False, description="Read the box head's fourth ResNet stage rather than pooled features (C4)."
    )
    background: bool = Field(
        default=False, description="One more mask, the last, for the background class; no detection is of that class."
    )


class ModelSpec(Record):
    """One network: a cascade of box heads on a backbone, with mask heads or without."""

    backbone: Annotated[ResNetSpec | InternImageSpec, Field(discriminator="kind")] = Field(
        description="From pixels to feature maps."
    )
    neck: FPNSpec | None = Field(
        default=FPNSpec(),
        description="The feature pyramid; null: the RPN and the heads read the backbone's last stage.",
    )
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
        levels = len(self.backbone.channels) + 1 if self.neck else 1
        if len(self.conventions.anchors.strides) != levels:
            raise ValueError(f"anchors for {len(self.conventions.anchors.strides)} levels where there are {levels}")
        if not self.box_head.fcs and (self.neck or self.backbone.kind != "resnet" or len(self.backbone.blocks) != 3):
            raise ValueError("a head without fully connected layers is the fourth stage of a ResNet of three")
        if self.mask and self.mask.shares_box_features and self.box_head.fcs:
            raise ValueError("fully connected layers leave no features for a mask head to share")
        if len(self.objective.box.stages) != len(self.stages):
            raise ValueError(f"{len(self.objective.box.stages)} stages to learn where there are {len(self.stages)}")
        if len(self.objective.masks) != (self.mask.heads if self.mask else 0):
            raise ValueError(f"{len(self.objective.masks)} mask heads to learn: give each head one record")
        return self
