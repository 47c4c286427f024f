"""Plain Vision Transformers as data."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cascadezoo.spec.backbone import BackboneSpec, DropPath
from cascadezoo.spec.record import Blocks, Channels, Groups, Pixels


class ViTSpec(BackboneSpec):
    """A plain Vision Transformer as ViTDet uses it (Li et al. 2022): attention within windows, in some blocks global,
    and one map of the patches' stride."""

    kind: Literal["vit"] = "vit"
    width: Channels = Field(description="Channels of every block.")
    blocks: tuple[Blocks] = Field(description="The blocks of its only stage.")
    heads: Groups = Field(description="The attention heads of every block.")
    global_blocks: tuple[Annotated[int, Field(ge=0, lt=128)], ...] = Field(
        max_length=128, description="The blocks, 0 the first, that attend to the whole map."
    )
    patch: int = Field(default=16, gt=0, le=64, description="Side of a patch, in pixels.")
    window: int = Field(default=14, gt=0, le=64, description="Side of a window, in patches.")
    image_size: Pixels = Field(
        default=1024, description="Side of the square that the relative positions' tables of the global blocks are for."
    )
    pretrained_size: Pixels = Field(default=224, description="Side of the square that the absolute positions are for.")
    mlp_ratio: float = Field(default=4.0, gt=0, le=32, description="Hidden channels of a block's MLP per channel.")
    drop_path: DropPath = 0.0

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the only map."""
        return (self.width,)

    def layers_to_neck(self, tensor: str) -> int | None:
        """Patches and positions are the first layer, then each block is one.

        Source: facebookresearch/detectron2 02b5c4e, Copyright (c) Facebook, Inc. and its affiliates, Apache-2.0:
        ``detectron2/modeling/backbone/vit.py`` (``get_vit_lr_decay_rate``).
        """
        (blocks,) = self.blocks
        if tensor == "pos_embed" or tensor.startswith("patch_embed."):
            return blocks + 1
        block = re.match(r"blocks\.(\d+)\.", tensor)
        return blocks - int(block[1]) if block else None

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide {self.width} channels")
        (blocks,) = self.blocks
        if any(block >= blocks for block in self.global_blocks):
            raise ValueError(f"global_blocks {self.global_blocks} of {blocks} blocks: 0 is the first")
        if self.image_size % self.patch or self.pretrained_size % self.patch:
            raise ValueError(f"sides of {self.image_size} and {self.pretrained_size} pixels: give whole patches")
        return self
