"""Parts put together: the same file as a run in one process writes."""

import json
from pathlib import Path

import pytest

from cascadezoo.batch.assembly import write_annotation_file, write_lines
from cascadezoo.batch.parts import Part, parts_folder
from cascadezoo.coco.annotations import annotation_file
from cascadezoo.coco.categories import Categories
from cascadezoo.errors import CorruptData
from cascadezoo.files import write_json

PARTS = [Part(0, 1, ("é.png", "bad.png")), Part(1, 3, ("c\udcff.png",))]
RESULTS = [
    {"image_id": 1, "category_id": 1, "bbox": [0.1, 2.0, 3.5, 4.0], "score": 0.75},
    {"image_id": 3, "category_id": 2, "bbox": [0.0, 0.0, 8.0, 4.0], "score": 0.1},
]
LINES = [
    {"image_id": 1, "file_name": "é.png", "height": 4, "width": 5, "detections": RESULTS[:1]},
    {"image_id": 2, "file_name": "bad.png", "error": "bad.png is no image", "error_type": "UnreadableImage"},
    {"image_id": 3, "file_name": "c\udcff.png", "height": 6, "width": 7, "detections": RESULTS[1:]},
]
CATEGORIES = Categories.numbered(2)


@pytest.fixture
def folder(tmp_path: Path):
    with parts_folder(tmp_path / "parts") as folder:
        folder.keep(PARTS[1], [json.dumps(LINES[2])])  # as they happen to be finished
        folder.keep(PARTS[0], [json.dumps(each) for each in LINES[:2]])
        yield folder


def test_the_annotation_file_is_that_of_one_process(tmp_path: Path, folder) -> None:
    left_out = [{"file_name": "x.txt", "reason": "no image"}]
    failed = [{"file_name": "gone", "error": "no such image: gone"}]
    write_annotation_file(tmp_path / "streamed.json", folder, PARTS, CATEGORIES, "a run", left_out, failed)
    images = [
        {"id": 1, "file_name": "é.png", "height": 4, "width": 5},
        {"id": 3, "file_name": "c\udcff.png", "height": 6, "width": 7},
    ]
    document = annotation_file(CATEGORIES, images, RESULTS, "a run") | {
        "left_out": left_out,
        "failed": [*failed, {"file_name": "bad.png", "error": "bad.png is no image"}],
    }
    write_json(tmp_path / "whole.json", document)
    assert (tmp_path / "streamed.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_lines_come_in_the_order_of_the_images(tmp_path: Path, folder) -> None:
    write_lines(tmp_path / "found.jsonl", folder, PARTS)
    assert [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()] == LINES


def test_nothing_is_written_where_a_part_is_missing(tmp_path: Path, folder) -> None:
    (folder.path / "part-000001.jsonl").unlink()
    with pytest.raises(CorruptData):
        write_lines(tmp_path / "found.jsonl", folder, PARTS)
    assert not (tmp_path / "found.jsonl").exists()
