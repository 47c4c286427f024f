"""Detections in plain numbers, one row each: as COCO's results, as dicts, as a table of pandas."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from cascadezoo.coco.categories import Categories
from cascadezoo.errors import MissingResource


class DetectionRow(NamedTuple):
    """One detection.

    Attributes:
        box: x1, y1, x2, y2 in pixels of the image.
        score: 0..1.
        label: 0..C-1.
    """

    box: tuple[float, float, float, float]
    score: float
    label: int


def coco_results(
    rows: Iterable[DetectionRow],
    categories: Categories,
    image_id: int,
    extent: int,
    segmentations: Sequence[Any] | None,
) -> list[dict[str, Any]]:
    """COCO's results, with the masks' RLEs or polygons where there are masks.

    ``extent``: 1 where x2 is the last pixel inside a box, else 0.
    """
    results = [
        {
            "image_id": image_id,
            "category_id": categories.ids[label],
            "bbox": [x1, y1, x2 - x1 + extent, y2 - y1 + extent],
            "score": score,
        }
        for (x1, y1, x2, y2), score, label in rows
    ]
    if segmentations is None:
        return results
    return [{**result, "segmentation": each} for result, each in zip(results, segmentations, strict=True)]


def records(
    rows: Iterable[DetectionRow], categories: Categories, segmentations: Sequence[Any] | None
) -> list[dict[str, Any]]:
    """A dict for each: ``name``, ``label``, ``category_id``, ``score``, ``box`` and, where there are masks,
    ``segmentation``."""
    found = [
        {
            "name": categories[label],
            "label": label,
            "category_id": categories.ids[label],
            "score": score,
            "box": list(box),
        }
        for box, score, label in rows
    ]
    if segmentations is None:
        return found
    return [{**one, "segmentation": each} for one, each in zip(found, segmentations, strict=True)]


def data_frame(rows: Sequence[DetectionRow], categories: Categories, segmentations: Sequence[Any] | None) -> Any:
    """A ``pandas.DataFrame`` with a row for each; raises MissingResource where pandas is not installed."""
    try:
        import pandas
    except ImportError as error:
        raise MissingResource(f"pandas cannot be imported ({error}): pip install pandas") from error
    columns: dict[str, Any] = {
        "name": pandas.Series([categories[row.label] for row in rows], dtype="str"),
        "label": pandas.Series([row.label for row in rows], dtype="int64"),
        "category_id": pandas.Series([categories.ids[row.label] for row in rows], dtype="int64"),
        "score": pandas.Series([row.score for row in rows], dtype="float64"),
    }
    for place, name in enumerate(("x1", "y1", "x2", "y2")):
        columns[name] = pandas.Series([row.box[place] for row in rows], dtype="float64")
    if segmentations is not None:
        columns["segmentation"] = pandas.Series(list(segmentations), dtype="object")
    return pandas.DataFrame(columns)
