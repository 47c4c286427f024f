"""An analysis as a folder of tables and pictures.

::

    figures.json        COCO's figures in percent, what they were measured on, and the thresholds of the rest
    per_class.csv       the same of each class, with its objects, and precision and recall of the confusion matrix
    pr_curves.csv       precision by class, IoU threshold (.50, .75, and the mean of .50:.95) and recall; and .png
    confusion.csv       the confusion matrix: rows what is annotated, columns what was detected; and .png
    errors.json         TIDE's kinds of error, how many there are and what they cost
    worst.json          the images with the most mistakes in the matrix, the worst first
    worst/1.png …       what is annotated on them, and beside it what was detected

Files of the same names are replaced.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from cascadezoo.analysis.analyse import Analysis
from cascadezoo.analysis.tables import (
    CLASS_HEAD,
    CURVE_HEAD,
    CURVES,
    class_rows,
    curve_rows,
    figures,
    matrix_rows,
    worst,
)
from cascadezoo.charts import MOST_LINES, Line, Panel, line_chart, matrix_chart
from cascadezoo.coco.curves import RECALLS
from cascadezoo.coco.evaluation import Kind, Truth
from cascadezoo.errors import UnwritableOutput
from cascadezoo.files import whole_file, write_json

_LONGEST = 24  # letters of a name beside a curve


def write(
    analyses: Mapping[Kind, Analysis], folder: Path, truth: Truth, about: Mapping[str, Any], images: Path | None
) -> None:
    """Write ``folder/bbox/`` and ``folder/segm/``, as far as there is an analysis of them.

    Args:
        truth: the annotations that were analysed.
        about: JSON data on what was measured, for ``figures.json``.
        images: the folder that ``file_name`` of the annotations is in; without it no image is drawn.

    Raises UnwritableOutput; and UnreadableImage, MissingResource or BadAnnotations for an image to be drawn.
    """
    for kind, analysis in analyses.items():
        _write_tables(analysis, folder / kind, about)
        if images is not None:
            _draw_worst(analysis, folder / kind / "worst", truth, images)


def _write_tables(analysis: Analysis, folder: Path, about: Mapping[str, Any]) -> None:
    make_folder(folder)
    write_json(folder / "figures.json", {**about, **figures(analysis)})
    _write_csv(folder / "per_class.csv", [CLASS_HEAD, *class_rows(analysis)])
    _write_csv(folder / "pr_curves.csv", [CURVE_HEAD, *curve_rows(analysis)])
    _write_png(folder / "pr_curves.png", _curves(analysis))
    _write_csv(folder / "confusion.csv", matrix_rows(analysis))
    matrix = analysis.confusion
    title = f"rows annotated, columns detected with a score of {matrix.score:g} or more at IoU {matrix.iou:g}"
    _write_png(folder / "confusion.png", matrix_chart(title, matrix.names, matrix.shares(), matrix.counts))
    write_json(folder / "errors.json", analysis.errors.to_json())
    write_json(folder / "worst.json", worst(analysis))


def _draw_worst(analysis: Analysis, folder: Path, truth: Truth, images: Path) -> None:
    from cascadezoo.analysis.worst import picture  # and torch, which drawing takes masks from

    make_folder(folder)
    entries = {image["id"]: image for image in truth["images"]}
    names = {item["id"]: item["name"] for item in truth["categories"]}
    for number, matched in enumerate(analysis.worst, start=1):
        _write_png(folder / f"{number}.png", picture(matched, entries[matched.overlaps.image_id], images, names))


def _curves(analysis: Analysis) -> Image.Image:
    """The mean of all classes at each threshold; and the classes with the most objects at .50."""
    evaluation, recalls = analysis.evaluation, RECALLS.tolist()

    def line(name: str, iou: float | None, label: int | None = None) -> Line:
        curve = evaluation.curve(iou, label)
        return Line(f"{name}: AP {100 * curve.mean():.1f}", recalls, curve.tolist())

    annotated = [label for label, one in enumerate(evaluation.classes) if one.objects]
    shown = sorted(annotated, key=lambda label: -evaluation.classes[label].objects)[:MOST_LINES]
    means = [line(f"IoU {name}", iou) for name, iou in CURVES.items()] if annotated else []
    lines = [line(evaluation.classes[label].name[:_LONGEST], 0.5, label) for label in shown]
    which = f"the {len(shown)} classes with most objects" if len(shown) < len(annotated) else "each class"
    title = f"{analysis.kind}: precision over recall"
    return line_chart(
        [
            Panel(f"{title}, mean of the classes ({len(annotated)})", "recall", means),
            Panel(f"{title} at IoU 0.50, {which}", "recall", lines),
        ]
    )


def make_folder(folder: Path) -> None:
    """Make a folder where there is none; raises UnwritableOutput."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableOutput(f"{folder} cannot be made: {error.strerror or error}") from error


def _write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    with whole_file(path) as file:
        file.write(text.getvalue().encode(errors="backslashreplace"))


def _write_png(path: Path, picture: Image.Image) -> None:
    with whole_file(path) as file:
        picture.save(file, "PNG")
