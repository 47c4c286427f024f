"""The pictures of evaluations, read back by their pixels."""

import numpy as np
import pytest
from PIL import Image

from cascadezoo.training.charts import class_chart, confusion_chart, write_charts

BEST, LAST, RIGHT, WRONG = (31, 119, 180), (255, 127, 14), (31, 119, 180), (214, 39, 40)


def record(step: int, precision: dict, counts: list, names: list[str]) -> dict:
    confusion = {"kind": "bbox", "score": 0.3, "iou": 0.5, "names": [*names, "background"], "counts": counts}
    return {"step": step, "classes": {"bbox": precision}, "confusion": confusion}


def pixels_of(image: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    return (np.asarray(image) == colour).all(-1)


def longest(image: Image.Image, colour: tuple[int, int, int]) -> list[int]:
    """The widths of the bars of a colour that begin at the axis, from above."""
    rows = pixels_of(image, colour)[60:].sum(1)
    return [int(n) for n, before in zip(rows, [0, *rows[:-1]], strict=True) if n and n != before]


def test_bars_are_as_long_as_the_classes_are_precise() -> None:
    first = record(4, {"cat": 25.0, "dog": 100.0, "bird": None}, [], ["cat", "dog", "bird"])
    second = record(9, {"cat": 50.0, "dog": 75.0, "bird": None}, [], ["cat", "dog", "bird"])
    image = class_chart([("best", first), ("last", second)])
    best, last = longest(image, BEST), longest(image, LAST)
    whole = best[0]  # dog comes first: 100 %
    assert whole > 300
    assert best[1] == pytest.approx(whole / 4, abs=2)
    assert last[:2] == pytest.approx([whole * 0.75, whole / 2], abs=2)
    assert max(best[2:], default=0) <= 1  # nothing to find


def test_of_many_classes_the_least_precise_are_shown() -> None:
    names = [f"c{i}" for i in range(150)]
    many = record(1, {name: float(i) / 2 for i, name in enumerate(names)}, [], names)
    few = record(1, {name: float(i) / 2 for i, name in enumerate(names[:100])}, [], names[:100])
    assert np.array_equal(class_chart([("last", many)]), class_chart([("last", few)]))


def test_cells_are_shaded_by_their_share_of_the_row() -> None:
    counts = [[0, 0, 3], [1, 0, 1], [1, 1, 1]]  # all cats right; of two dogs one is taken for a cat
    image = confusion_chart([("last", record(1, {}, counts, ["cat", "dog"]))])
    cell = 40 * 40
    assert pixels_of(image, RIGHT).sum() == pytest.approx(cell, rel=0.2)  # except for its number
    half = tuple(round(255 + (part - 255) / 2) for part in WRONG)
    assert pixels_of(image, half).sum() == pytest.approx(cell, rel=0.2)
    assert not pixels_of(image, WRONG).any()


def test_of_many_classes_those_with_the_most_mistakes_are_shown() -> None:
    names = [f"c{i}" for i in range(150)]
    counts = [[i, i, 5] for i in range(150)] + [[i, 150, 1] for i in range(40, 140)]
    image = confusion_chart([("last", record(1, {}, counts, names))])
    assert image.width < 180 + 13 * 102 + 60
    shade = tuple(round(255 + (part - 255) * 5 / 6) for part in RIGHT)
    assert pixels_of(image, shade).sum() == pytest.approx(100 * 12 * 12, rel=0.05)  # five of six right, of these alone


def test_the_best_and_the_last_stand_side_by_side(tmp_path) -> None:
    first, second = (record(step, {"cat": 10.0}, [[0, 0, 1]], ["cat"]) for step in (4, 9))
    old = {"step": 2}  # of a log that holds no classes
    widths = []
    for best in (first, second, None, old):
        write_charts(tmp_path, best, second)
        widths.append(Image.open(tmp_path / "confusion.png").width)
    assert widths[0] > widths[1] == widths[2] == widths[3]
    assert pixels_of(Image.open(tmp_path / "classes.png"), LAST).any()
    assert not pixels_of(Image.open(tmp_path / "classes.png"), BEST).any()
