"""ConvNeXts as data."""

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
