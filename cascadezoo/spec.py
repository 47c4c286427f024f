"""A model as data: ``ModelSpec`` holds every number that tells one network of the zoo from another.

Reading a spec never imports torch.  ``cascadezoo.build(spec)`` turns it into an ``nn.Module``.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from cascadezoo.conventions import BoxCoder, Conventions, Record


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


class ResNetSpec(Record):
    """ResNet (He et al. 2015) and ResNeXt (Xie et al. 2016) with four bottleneck stages, strides 4 to 32.

    ``stride_in_1x1``: a stage's stride sits in its first 1x1 convolution (the original, "caffe" style) instead of
    the 3x3 ("pytorch" style).
    """

    kind: Literal["resnet"] = "resnet"
    blocks: tuple[int, int, int, int]
    groups: int = 1
    width_per_group: int = 64
    stride_in_1x1: bool = False

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Output channels of the four stages."""
        return (256, 512, 1024, 2048)


class FPNSpec(Record):
    """Feature Pyramid Network (Lin et al. 2016): one level a backbone stage, and one more, subsampled from the last."""

    channels: int = 256


class BoxHeadSpec(Record):
    """A RoI head: pooled features, fully connected layers, then class scores and class-agnostic box deltas."""

    resolution: int = 7
    fcs: tuple[int, ...] = (1024, 1024)


class MaskHeadSpec(Record):
    """Fully convolutional mask heads (He et al. 2017); with more than one, their probabilities are averaged."""

    heads: int = Field(gt=0)
    resolution: int = 14
    convs: tuple[int, ...] = (256, 256, 256, 256)


class ModelSpec(Record):
    """One network: a cascade of ``stages`` box heads, each with the coder of its own deltas.  ``num_classes`` counts
    no background."""

    backbone: ResNetSpec
    neck: FPNSpec = FPNSpec()
    box_head: BoxHeadSpec = BoxHeadSpec()
    stages: tuple[BoxCoder, ...] = Field(min_length=1)
    mask: MaskHeadSpec | None
    preprocess: PreprocessSpec
    conventions: Conventions
    num_classes: int = Field(default=80, gt=0)

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        levels = len(self.backbone.channels) + 1
        if len(self.conventions.anchors.strides) != levels:
            raise ValueError(f"anchors for {len(self.conventions.anchors.strides)} levels, a neck of {levels}")
        return self
