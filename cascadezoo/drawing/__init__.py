"""Detections and annotations drawn on their image, and pictures side by side (docs/pictures.md).

``truth.py``, which reads data sets, is imported by those who want it.
"""

from cascadezoo.drawing.picture import draw
from cascadezoo.drawing.rows import Row
from cascadezoo.drawing.sheet import side_by_side
from cascadezoo.drawing.style import Style

__all__ = ["Row", "Style", "draw", "side_by_side"]
