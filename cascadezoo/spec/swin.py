"""Swin Transformers as data."""

from typing import Literal, Self

from pydantic import Field, model_validator

from cascadezoo.spec.backbone import BackboneSpec, DropPath
from cascadezoo.spec.record import Blocks, Groups


class SwinSpec(BackboneSpec):
    """Swin Transformer (Liu et al. 2021): four stages of attention within shifted windows, strides 4 to 32."""

    kind: Literal["swin"] = "swin"
    width: int = Field(gt=0, le=1024, description="Channels of the first stage; each later stage has twice as many.")
    blocks: tuple[Blocks, Blocks, Blocks, Blocks] = Field(description="The blocks of each stage.")
    heads: tuple[Groups, Groups, Groups, Groups] = Field(description="The attention heads of each stage.")
    window: int = Field(
        default=7, gt=1, le=64, description="Side of a window, in cells; every second block moves them by half of it."
    )
    mlp_ratio: float = Field(default=4.0, gt=0, le=32, description="Hidden channels of a block's MLP per channel.")
    drop_path: DropPath = 0.0

    @property
    def channels(self) -> tuple[int, ...]:
        """Output channels of the stages."""
        return tuple(self.width * 2**i for i in range(len(self.blocks)))

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        for channels, heads in zip(self.channels, self.heads, strict=True):
            if channels % heads:
                raise ValueError(f"{heads} heads do not divide {channels} channels")
        return self
