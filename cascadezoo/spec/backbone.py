"""What every backbone's record has, whatever it is made of."""

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


class BackboneSpec(Record):
    """From pixels to feature maps, finest first.  Each kind of backbone is a record of its own, with a ``kind``."""

    @property
    def channels(self) -> tuple[int, ...]:
        """The channels of the maps."""
        raise NotImplementedError

    def layers_to_neck(self, tensor: str) -> int | None:
        """How many layers lie between a tensor, by its name in the backbone, and the neck, as learning rates that decay
        by layer count them; None where a backbone of this kind is not trained so."""
        return None
