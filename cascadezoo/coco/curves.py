"""What one run of a COCO evaluator holds: the twelve figures, those of each class, and precision-recall curves.

10 IoU thresholds .50, .55 … .95; 101 recall points 0, .01 … 1; C classes; 4 areas all, small, medium, large; limits of
1, 10 and 100 detections per image.  Source: ``pycocotools/cocoeval.py`` (``accumulate`` and ``summarize``).
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Figures: TypeAlias = dict[str, float | None]
Array: TypeAlias = npt.NDArray[np.float64]

# figure -> "precision" or "recall", IoU threshold (None: the mean of all), area, limit
_FIGURES: dict[str, tuple[str, int | None, int, int]] = {
    "AP": ("precision", None, 0, 2),
    "AP50": ("precision", 0, 0, 2),
    "AP75": ("precision", 5, 0, 2),
    "APs": ("precision", None, 1, 2),
    "APm": ("precision", None, 2, 2),
    "APl": ("precision", None, 3, 2),
    "AR1": ("recall", None, 0, 0),
    "AR10": ("recall", None, 0, 1),
    "AR100": ("recall", None, 0, 2),
    "ARs": ("recall", None, 1, 2),
    "ARm": ("recall", None, 2, 2),
    "ARl": ("recall", None, 3, 2),
}
METRICS = tuple(_FIGURES)
IOUS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
RECALLS: Array = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class ClassFigures:
    """The figures of one class.

    Attributes:
        category_id: the data set's own id.
        name: the class's.
        objects: how many are annotated on the images that counted, without crowds.
        figures: the twelve of ``METRICS``, in percent; None where no object of that size is annotated.
    """

    category_id: int
    name: str
    objects: int
    figures: Figures


@dataclass(frozen=True)
class Evaluation:
    """COCO's evaluation of boxes, or of masks.

    Attributes:
        figures: the twelve of ``METRICS``, in percent; None where no object of that size is annotated.
        classes: one per class, C in all, by ascending category id.
        precision: (10, 101, C), 0..1: at each IoU threshold of ``IOUS`` and recall of ``RECALLS``, of objects of all
            sizes and 100 detections per image; -1 for a class without an object.
    """

    figures: Figures
    classes: tuple[ClassFigures, ...]
    precision: Array

    def curve(self, iou: float | None = None, label: int | None = None) -> Array:
        """(101,) precision, 0..1, at each recall of ``RECALLS``; NaN where no object is annotated.

        ``iou``: one of ``IOUS``; None: the mean over all ten.  ``label``: the class's place in ``classes``; None: the
        mean over all classes that have objects.  The mean of a curve is the average precision.
        """
        chosen = self.precision if iou is None else self.precision[[IOUS.index(iou)]]
        chosen = chosen[:, :, chosen[0, 0] > -1] if label is None else chosen[:, :, [label]]
        if not chosen.size or chosen.min() < 0:
            return np.full(len(RECALLS), np.nan)
        mean: Array = chosen.mean(axis=(0, 2))
        return mean


def figures_of(precision: Any, recall: Any) -> Figures:
    """The twelve figures in percent of precision (10, 101, C, 4, 3) and recall (10, C, 4, 3), both 0..1 or -1.

    Sums are in the order of pycocotools, which its ``summarize`` prints, so that no digit differs.
    """
    found: Figures = {}
    for name, (which, iou, area, limit) in _FIGURES.items():
        values = (precision if which == "precision" else recall)[..., area, limit]
        values = values if iou is None else values[[iou]]
        counted = values[values > -1]
        found[name] = 100 * float(np.mean(counted)) if len(counted) else None
    return found
