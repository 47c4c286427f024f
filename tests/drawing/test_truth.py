import numpy as np
import pytest
from PIL import Image

from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.drawing.truth import annotated, rows_of
from cascadezoo.errors import BadAnnotations

from drawn import draw_set


@pytest.fixture
def data(tmp_path):
    drawn = draw_set(tmp_path / "val", 2, (120, 160))
    return CocoDataset(drawn.annotations, drawn.images)


def test_what_is_annotated_is_drawn_on_its_image(data):
    record = data.record(1)
    plain = np.asarray(Image.open(record.path).convert("RGB")).astype(int)
    picture = np.asarray(annotated(data, 1, labels=False, boxes=False)).astype(int)
    touched = (picture != plain).any(axis=2)
    inside = np.zeros_like(touched)
    for x1, y1, x2, y2 in record.boxes.astype(int):
        inside[y1:y2, x1:x2] = True
        assert touched[(y1 + y2) // 2, (x1 + x2) // 2]  # the tint of its mask
    rim = np.pad(inside, 2)
    near = np.any([rim[y : y + 120, x : x + 160] for y in range(5) for x in range(5)], axis=0)
    assert not touched[~near].any()


def test_rows_have_names_and_no_scores(data):
    rows = list(rows_of(data.record(0), data.categories))
    assert [row.name for row in rows] == [data.categories[label] for label in data.record(0).labels]
    assert all(row.score is None and row.crop is not None for row in rows)


def test_an_image_of_another_size_is_refused(data):
    Image.new("RGB", (20, 20)).save(data.record(0).path)
    with pytest.raises(BadAnnotations, match="annotated as 120x160"):
        annotated(data, 0)
