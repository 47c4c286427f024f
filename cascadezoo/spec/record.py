"""What every record of this package is made of, and the bounds of its numbers.

A spec may come from anyone's config.json: the bounds leave every published network several times the room it needs, and
keep a network of absurd numbers from taking this machine's time and memory.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Channels = Annotated[int, Field(gt=0, le=16_384)]  # of a layer
Blocks = Annotated[int, Field(gt=0, le=128)]  # of a backbone's stage; the deepest published one has 36
Groups = Annotated[int, Field(gt=0, le=1024)]
Pixels = Annotated[int, Field(gt=0, le=16_384)]  # of an image's side
Side = Annotated[float, Field(gt=0, le=100_000)]  # of a box, in pixels
Stride = Annotated[int, Field(gt=0, le=1024)]
Weight = Annotated[float, Field(gt=0, le=1e6)]  # of a loss
Many = 100_000  # boxes, of a step that keeps the best
AnyNumber = 10**8  # of boxes where more than there are means all
Most = 16  # stages, levels, heads or layers in a row


class Record(BaseModel):
    """An immutable, validated, hashable value; unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")
