"""ConvNeXts as data."""

import re
from typing import Literal

from pydantic import Field

from cascadezoo.spec.backbone import BackboneSpec, DropPath
from cascadezoo.spec.record import Blocks


class ConvNeXtSpec(BackboneSpec):
    """ConvNeXt (Liu et al. 2022): four stages of 7x7 depthwise convolutions, strides 4 to 32."""

    kind: Literal["convnext"] = "convnext"
    width: int = Field(gt=0, le=1024, description="Channels of the first stage; each later stage has twice as many.")
    blocks: tuple[Blocks, Blocks, Blocks, Blocks] = Field(description="The blocks of each stage.")
    drop_path: DropPath = 0.0

    @property
    def channels(self) -> tuple[int, ...]:
        """Output channels of the stages."""
        return tuple(self.width * 2**i for i in range(len(self.blocks)))

    def layers_to_neck(self, tensor: str) -> int | None:
        """The stem is the first layer, then each stage is one, except for the third, of which every three blocks are; a
        downsampling belongs to the first layer after it.

        Source: facebookresearch/ConvNeXt 048efce, Copyright (c) Meta Platforms, Inc. and affiliates, MIT:
        ``object_detection/mmcv_custom/layer_decay_optimizer_constructor.py``.
        """
        last = 3 + -(-self.blocks[2] // 3)
        firsts = (1, 2, 3, last)  # of the stages
        if tensor.startswith("stem."):
            return last + 1
        if down := re.match(r"stages\.(\d)\.downsample\.", tensor):
            return last + 1 - firsts[int(down[1])]
        if block := re.match(r"stages\.(\d)\.blocks\.(\d+)\.", tensor):
            within = int(block[2]) // 3 if block[1] == "2" else 0
            return last + 1 - firsts[int(block[1])] - within
        return 0 if re.match(r"stages\.\d\.norm\.", tensor) else None
