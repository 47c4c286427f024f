"""Necks as data: from the backbone's maps to the levels that the RPN and the heads read."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from cascadezoo.spec.norm import Norm
from cascadezoo.spec.record import Channels, Record


class FPNSpec(Record):
    """Feature Pyramid Network (Lin et al. 2016): one level per backbone stage, and one more,
    subsampled from the last."""

    kind: Literal["fpn"] = "fpn"
    channels: Channels = Field(default=256, description="Channels of every level.")
    norm: Literal[Norm.LAYER] | None = Field(
        default=None, description="What follows its convolutions; null: their own bias alone."
    )

    def levels(self, maps: int) -> int:
        """How many levels it makes of so many maps."""
        return maps + 1


class SimplePyramidSpec(Record):
    """ViTDet's simple feature pyramid (Li et al. 2022): levels of 4, 2, 1 and 1/2 times the sides of the backbone's
    last map, and one more, subsampled from the last of them; layer norms follow its convolutions."""

    kind: Literal["simple_pyramid"] = "simple_pyramid"
    channels: Channels = Field(default=256, description="Channels of every level.")

    def levels(self, maps: int) -> int:
        """How many levels it makes, of the last map alone."""
        return 5


def _kind(neck: Any) -> Any:
    """Files of a time when there were only FPNs do not say a kind."""
    return neck.get("kind", "fpn") if isinstance(neck, dict) else getattr(neck, "kind", None)


AnyNeck = Annotated[
    Annotated[FPNSpec, Tag("fpn")] | Annotated[SimplePyramidSpec, Tag("simple_pyramid")], Discriminator(_kind)
]  # a row for each kind
