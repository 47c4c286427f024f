"""The figures that publishers print and reports hold: their names everywhere, and the one way they are rounded."""

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from cascadezoo.coco.evaluation import Kind

if TYPE_CHECKING:
    from cascadezoo.manifest import Scores

HUNDREDTH, THOUSANDTH = Decimal("0.01"), Decimal("0.001")  # the digits of tables and cards, and of details

Measured: TypeAlias = Mapping[Kind, Mapping[str, float | None]]  # percent, by kind and COCO's name


class Metric(NamedTuple):
    """One average precision.

    Attributes:
        kind: "bbox" or "segm".
        figure: COCO's name of it, as in ``cascadezoo.coco.curves.METRICS``.
        heading: its name in a table.
        long_name: its name with its IoU thresholds, as on a model card.
        hub_task: the task that the Hugging Face Hub files it under.
    """

    kind: Kind
    figure: str
    heading: str
    long_name: str
    hub_task: str

    def of(self, figures: Measured) -> float | None:
        """Its value in what was measured, in percent; None where there is none."""
        return figures.get(self.kind, {}).get(self.figure)


# by the name of the manifest's field
METRICS = {
    "box_ap": Metric("bbox", "AP", "box AP", "box AP@[.50:.95]", "object-detection"),
    "box_ap50": Metric("bbox", "AP50", "box AP50", "box AP@.50", "object-detection"),
    "box_ap75": Metric("bbox", "AP75", "box AP75", "box AP@.75", "object-detection"),
    "mask_ap": Metric("segm", "AP", "mask AP", "mask AP@[.50:.95]", "image-segmentation"),
    "mask_ap50": Metric("segm", "AP50", "mask AP50", "mask AP@.50", "image-segmentation"),
    "mask_ap75": Metric("segm", "AP75", "mask AP75", "mask AP@.75", "image-segmentation"),
}


def published(scores: "Scores") -> dict[str, Decimal]:
    """The figures that a publisher printed, by metric, digit for digit."""
    return {name: value for name in METRICS if (value := getattr(scores, name)) is not None}


def rounded(measured: float, digits_of: Decimal) -> Decimal:
    """A figure at as many digits as ``digits_of`` has, halves away from zero, as one rounds by hand.

    What counts are the digits that the figure is printed with, not its binary value: 45.135, which is stored as
    45.13499…, becomes 45.14.
    """
    return Decimal(repr(measured)).quantize(digits_of, rounding=ROUND_HALF_UP)
