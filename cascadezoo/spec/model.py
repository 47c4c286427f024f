"""A model as data: ``ModelSpec`` holds every number that tells one network of the zoo from another.

Reading a spec never imports torch.  ``cascadezoo.build(spec)`` turns it into an ``nn.Module``.
"""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cascadezoo.spec.conventions import BoxCoder, Conventions
from cascadezoo.spec.objective import Objective
from cascadezoo.spec.record import Record


class PreprocessSpec(Record):
    """Shorter side scaled to ``min_size`` unless the longer would pass ``max_size``; then ``(x - mean) / std`` (RGB,
    grey levels of 0..255) and zero padding at right and bottom to a multiple of ``size_divisor``."""

    min_size: int = Field(gt=0)
    max_size: int = Field(gt=0)
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size_divisor: int = Field(gt=0)

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
    """ResNet (He et al. 2015) and ResNeXt (Xie et al. 2016), strides 4, 8, 16 and 32.

    ``width``: channels of the stem and of the first stage's 3x3 convolutions.  ``basic``: blocks of two 3x3
    convolutions (ResNet-18 and 34) rather than bottlenecks, which put out four times the channels.
    ``stride_in_1x1``: a stage's stride sits in its first 1x1 convolution (the original, "caffe" style) instead of
    the 3x3 ("pytorch" style).  ``deep_stem`` and ``pooled_shortcut`` are the two changes of ResNet-vd (He et al.
    2018): three 3x3 convolutions for the 7x7, and an average pool before a shortcut with stride.

    In training, ``frozen_stages`` stages and the stem learn nothing (-1: all learn), and the norms what
    ``norm_learning`` says.
    """

    kind: Literal["resnet"] = "resnet"
    blocks: tuple[int, ...] = Field(min_length=3, max_length=4)
    width: int = Field(default=64, gt=0)
    basic: bool = False
    groups: int = 1
    width_per_group: int = 64
    stride_in_1x1: bool = False
    deep_stem: bool = False
    pooled_shortcut: bool = False
    norm: Norm = Norm.BATCH
    frozen_stages: int = Field(default=1, ge=-1)
    norm_learning: NormLearning = NormLearning.AFFINE

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
    """InternImage (Wang et al. 2022): four stages of deformable convolutions, strides 4 to 32, from ``width`` channels.

    ``post_norm``: branches are normed at their end rather than their start.  ``drop_path``: in training, how often the
    last block's branches are left out for an image (Huang et al. 2016); earlier ones less, in proportion.
    """

    kind: Literal["internimage"] = "internimage"
    width: int
    blocks: tuple[int, int, int, int]
    groups: tuple[int, int, int, int]
    offset_scale: float = 1.0
    mlp_ratio: float = 4.0
    post_norm: bool = True
    drop_path: float = Field(default=0.0, ge=0, lt=1)

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
    """Feature Pyramid Network (Lin et al. 2016): one level a backbone stage, and one more, subsampled from the last."""

    channels: int = 256


class BoxHeadSpec(Record):
    """A RoI head: pooled features, 3x3 convolutions with batch norm, fully connected layers, then class scores and box
    deltas.

    Without ``fcs`` the features go through a ResNet's fourth stage and a global average instead (C4, Ren et al. 2015).
    ``class_specific``: four deltas a class rather than four; in a cascade, those of the best class move a box on.
    """

    resolution: int = 7
    convs: tuple[int, ...] = ()
    fcs: tuple[int, ...] = (1024, 1024)
    class_specific: bool = False


class MaskHeadSpec(Record):
    """Fully convolutional mask heads (He et al. 2017); with more than one, their probabilities are averaged.

    ``deconv``: channels of the upsampled features.  ``shares_box_features``: on the box head's fourth stage (C4).
    ``background``: one mask more, the last, which no detection ever takes.
    """

    heads: int = Field(gt=0)
    resolution: int = 14
    convs: tuple[int, ...] = (256, 256, 256, 256)
    deconv: int = 256
    shares_box_features: bool = False
    background: bool = False


class ModelSpec(Record):
    """One network: a cascade of ``stages`` box heads, each with the coder of its own deltas.  ``num_classes`` counts
    no background.  Without a ``neck``, the RPN and the heads read the backbone's last stage."""

    backbone: Annotated[ResNetSpec | InternImageSpec, Field(discriminator="kind")]
    neck: FPNSpec | None = FPNSpec()
    box_head: BoxHeadSpec = BoxHeadSpec()
    stages: tuple[BoxCoder, ...] = Field(min_length=1)
    mask: MaskHeadSpec | None
    preprocess: PreprocessSpec
    conventions: Conventions
    objective: Objective
    num_classes: int = Field(default=80, gt=0)

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
