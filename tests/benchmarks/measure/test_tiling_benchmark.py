"""The benchmark of tiles on a small image."""

import pytest
from measured import ENVIRONMENT

import cascadezoo
from cascadezoo.benchmarks.measure import tiling
from cascadezoo.benchmarks.measure.tiling_section import tiling as section
from cascadezoo.shapes import planted


@pytest.fixture(scope="module")
def scene():
    """Two objects that fit into the overlap, one that is longer, one larger than a tile."""
    return planted(500, 640, [40, 48, 120, 330], 2)


def test_objects_detections_and_mistakes_are_counted(scene) -> None:
    first, second, *_ = annotations = sorted(scene.annotations, key=lambda each: each["area"])
    other = next(each["category_id"] for each in annotations if each["category_id"] != second["category_id"])
    found = [
        {**first, "image_id": 1, "score": 0.9},
        {**first, "image_id": 1, "score": 0.8},  # of an object that is taken
        {**second, "category_id": other, "image_id": 1, "score": 0.7},  # of another class
    ]
    for kind in ("bbox", "segm"):
        figures = tiling.accuracy(annotations, scene.image.shape[:2], found, kind)
        assert figures["recall"] == {"small": 0.5, "cut": 0.0, "large": 0.0}
        assert figures["precision"] == pytest.approx(1 / 3, abs=1e-4)
        assert (figures["found_objects"], figures["again"], figures["other"]) == (1, 1, 1)
    nothing = tiling.accuracy(annotations, scene.image.shape[:2], [], "segm")
    assert nothing["precision"] is None


def test_the_image_has_objects_of_all_sizes() -> None:
    sizes = tiling.sizes(500, 640)
    assert {name for name, (low, high) in tiling.LIMITS.items() if any(low <= size < high for size in sizes)} == {
        "small", "cut", "large",
    }  # fmt: skip
    assert len(tiling.sizes(3000, 4000)) == 200 + 120 + 6


def test_each_way_runs_in_a_process_of_its_own() -> None:
    report = tiling.report(300, 400, ["tiles and whole image"], 1)
    (row,) = report["rows"]
    assert row["segm"]["precision"] > 0.5
    assert row["cpu_seconds"] > 0
    assert row["peak_bytes"] >= row["peak_bytes_before"] > 100 * 2**20
    lines = tiling.table(report)
    assert len(lines) == 3
    assert lines[2].startswith("tiles and whole image")


@pytest.mark.parametrize("way", tiling.WAYS)
def test_all_ways_find_the_same_objects_where_one_tile_shows_them(way: str) -> None:
    model = cascadezoo.load(tiling.ENTRY, pretrained=True)
    image, annotations = planted(240, 256, [40, 60, 80], 4)
    found = tiling.WAYS[way](model, image)
    assert {each["category_id"] for each in found} == {each["category_id"] for each in annotations}
    assert len(found) == len(annotations) == 3


def test_the_section_says_what_was_measured() -> None:
    figures = {"recall": {"small": 0.5, "large": 1.0}, "precision": 0.75, "again": 2, "other": 3}
    text = "\n".join(
        section(
            {
                "entry": tiling.ENTRY,
                "image": [300, 400],
                "tiles": {"size": 256, "overlap": 112, "count": 4},
                "objects": {"small": 2, "cut": 0, "large": 1},
                "threads": 1,
                "compiled_ops": ["cpu"],
                "rows": [{"way": "tiles", "segm": figures, "seconds": 1.25, "peak_bytes": 500 * 2**20}],
                "environment": ENVIRONMENT,
            }
        )
    )
    assert "A drawn image of 400x300 pixels with 3 objects (2 small, 0 cut, 1 large)" in text
    assert "| tiles | 0.500 |  | 1.000 | 0.750 | 2 | 3 | 1.2 | 500 |" in text
