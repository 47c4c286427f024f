"""What is drawn: one row for each detection, or annotated object, of an image."""

from typing import NamedTuple, TypeAlias

from cascadezoo.ops.mask_paste import Crop

Color: TypeAlias = tuple[int, int, int]
Box: TypeAlias = tuple[float, float, float, float]


class Row(NamedTuple):
    """One detection, or annotated object, to draw."""

    name: str  # of its class
    score: float | None  # 0..1; None where it is annotated
    label: int  # 0..C-1
    box: Box  # xyxy, pixels
    crop: Crop | None  # its mask, inside the window that holds it
    marked: bool = False  # its tag comes before those of better ones


def area(box: Box) -> float:
    """Of a box, square pixels; 0 where it is turned inside out."""
    x1, y1, x2, y2 = box
    return max(x2 - x1, 0) * max(y2 - y1, 0)
