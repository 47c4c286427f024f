"""An analysis as rows of tables and as JSON data."""

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cascadezoo.analysis.analyse import Analysis
from cascadezoo.coco.curves import METRICS, RECALLS
from cascadezoo.files import file_sha256

Row = list[str | int | float]

CURVES: dict[str, float | None] = {"0.50:0.95": None, "0.50": 0.5, "0.75": 0.75}  # IoU thresholds by their names
CLASS_HEAD: Row = ["category_id", "class", "objects", *METRICS, "precision", "recall"]
CURVE_HEAD: Row = ["category_id", "class", "iou", "recall", "precision"]
_ALL = "(all)"  # in the column of classes
_DIGITS = 4


def about_files(annotations: Path, results: Path, evaluator: str) -> dict[str, Any]:
    """What an analysis is of, as JSON data: the names of the files, their SHA-256, and evaluator with version."""
    return {
        "annotations": annotations.name,
        "annotations_sha256": file_sha256(annotations),
        "results": results.name,
        "results_sha256": file_sha256(results),
        "evaluator": f"{evaluator} {version(evaluator)}",
    }


def record(analysis: Analysis) -> dict[str, Any]:
    """All but the curves and the images, as JSON data; figures in percent, None where there is none."""
    return {
        **figures(analysis),
        "classes": [dict(zip(map(str, CLASS_HEAD), row, strict=True)) for row in class_rows(analysis, None)],
        "confusion": analysis.confusion.to_json(),
        "errors": analysis.errors.to_json(),
        "worst": worst(analysis),
    }


def figures(analysis: Analysis) -> dict[str, Any]:
    """The figures of all classes in percent, what they count, and the thresholds of the rest, as JSON data."""
    matrix, errors = analysis.confusion, analysis.errors
    return {
        "kind": analysis.kind,
        "images": analysis.images,
        "detections": analysis.detections,
        "figures": analysis.evaluation.figures,
        "thresholds": {
            "confusion": {"score": matrix.score, "iou": matrix.iou},
            "errors": {"iou": errors.iou, "background": errors.background},
        },
    }


def class_rows(analysis: Analysis, nothing: Any = "") -> list[list[Any]]:
    """A row of ``CLASS_HEAD`` for each class, in percent; ``nothing`` stands for a figure that there is none of."""
    shares = zip(analysis.confusion.precision().tolist(), analysis.confusion.recall().tolist(), strict=True)
    rows = []
    for of_class, (precision, recall) in zip(analysis.evaluation.classes, shares, strict=True):
        values = [of_class.figures[name] for name in METRICS] + [100 * precision, 100 * recall]
        numbers = [nothing if value is None or value != value else round(value, _DIGITS) for value in values]
        rows.append([of_class.category_id, of_class.name, of_class.objects, *numbers])
    return rows


def curve_rows(analysis: Analysis) -> Iterator[Row]:
    """Rows of ``CURVE_HEAD``: the mean of all classes, called "(all)", then each class that is annotated."""
    evaluation = analysis.evaluation
    yield from _of_one(analysis, None, "", _ALL)
    for label, one in enumerate(evaluation.classes):
        yield from _of_one(analysis, label, one.category_id, one.name)


def matrix_rows(analysis: Analysis) -> list[Row]:
    """The confusion matrix in whole numbers, with its head: rows what is annotated, columns what was detected."""
    matrix = analysis.confusion
    rows = zip(matrix.names, matrix.counts.tolist(), strict=True)
    return [["annotated \\ detected", *matrix.names], *([name, *counts] for name, counts in rows)]


def worst(analysis: Analysis) -> list[dict[str, Any]]:
    """The images with the most mistakes, and of which kind they are, as JSON data."""
    return [
        {
            "image_id": image.overlaps.image_id,
            "mistakes": image.mistakes,
            "mistaken": image.mistakes - len(image.spurious) - len(image.missed),
            "spurious": len(image.spurious),
            "missed": len(image.missed),
        }
        for image in analysis.worst
    ]


def _of_one(analysis: Analysis, label: int | None, category_id: int | str, name: str) -> Iterator[Row]:
    for iou, threshold in CURVES.items():
        curve = analysis.evaluation.curve(threshold, label)
        for recall, precision in zip(RECALLS.tolist(), curve.tolist(), strict=True):
            if precision == precision:  # else NaN: of what is not annotated there is no curve
                yield [category_id, name, iou, round(recall, 2), round(precision, _DIGITS)]
