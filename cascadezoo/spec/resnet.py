"""ResNets as data."""

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from cascadezoo.spec.backbone import BackboneSpec
from cascadezoo.spec.norm import Norm
from cascadezoo.spec.record import Blocks, Groups, Most


class NormLearning(StrEnum):
    """What of the norms is learned; batch norms use their running statistics unless these are learned too."""

    NOTHING = "nothing"
    AFFINE = "affine"  # scales and biases
    STATISTICS = "statistics"  # also a batch norm's mean and variance, from each batch


class ResNetSpec(BackboneSpec):
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
        if self.norm is Norm.LAYER:
            raise ValueError("no ResNet here has layer norms")
        if self.norm is Norm.AFFINE and self.norm_learning is NormLearning.STATISTICS:
            raise ValueError("an affine norm has no statistics to learn")
        return self
