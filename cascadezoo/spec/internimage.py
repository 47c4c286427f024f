"""InternImages as data."""

import re
from typing import Literal, Self

from pydantic import Field, model_validator

from cascadezoo.spec.backbone import BackboneSpec, DropPath
from cascadezoo.spec.record import Blocks, Groups


class InternImageSpec(BackboneSpec):
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
    drop_path: DropPath = 0.0

    @property
    def channels(self) -> tuple[int, ...]:
        """Output channels of the stages."""
        return tuple(self.width * 2**i for i in range(len(self.blocks)))

    def layers_to_neck(self, tensor: str) -> int | None:
        """The stem is the first layer, each block one more; what follows a stage's blocks is with the block after."""
        if tensor.startswith("stem."):
            before = 0
        elif block := re.match(r"stages\.(\d)\.blocks\.(\d+)\.", tensor):
            before = 1 + sum(self.blocks[: int(block[1])]) + int(block[2])
        elif after := re.match(r"stages\.(\d)\.(?:downsample|norm)\.", tensor):
            before = 1 + sum(self.blocks[: int(after[1]) + 1])
        else:
            return None
        return sum(self.blocks) + 1 - before

    @model_validator(mode="after")
    def _groups_divide(self) -> Self:
        for channels, groups in zip(self.channels, self.groups, strict=True):
            if channels % groups:
                raise ValueError(f"{groups} groups do not divide {channels} channels")
        return self
