"""What every backbone's record has, whatever it is made of."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from cascadezoo.spec.record import Record

DropPath = Annotated[
    float,
    Field(
        ge=0,
        lt=1,
        description="In training, how often the last block's branches are left out for an image (Huang et al. 2016);"
        " earlier blocks' less, in proportion.",
    ),
]


def drop_rates(drop_path: float, blocks: Sequence[int]) -> list[list[float]]:
    """How often each block's branches are left out, by stage: from 0 for the first block to ``drop_path`` for the
    last of all, in equal steps."""
    last, firsts = max(1, sum(blocks) - 1), [sum(blocks[:index]) for index in range(len(blocks))]
    return [[drop_path * (first + i) / last for i in range(count)] for first, count in zip(firsts, blocks, strict=True)]


class BackboneSpec(Record):
    """From pixels to feature maps, finest first.  Each kind of backbone is a record of its own, with a ``kind``."""

    @property
    @abstractmethod
    def channels(self) -> tuple[int, ...]:
        """The channels of the maps."""

    def layers_to_neck(self, tensor: str) -> int | None:
        """How many layers lie between a tensor, by its name in the backbone, and the neck, as learning rates that decay
        by layer count them; None where a backbone of this kind is not trained so."""
        return None
