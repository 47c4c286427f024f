import logging

import cv2
import numpy as np
import pytest
import torch
from PIL import ImageDraw, ImageFont

from cascadezoo.coco.categories import Categories
from cascadezoo.detections import Detections
from cascadezoo.drawing import Row, draw
from cascadezoo.drawing.places import Map

GREY = 120
TAGS_ALONE = {"boxes": False, "masks": False}


def found(boxes, size, names=("thing",), scores=None):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    scores = torch.linspace(0.9, 0.1, len(boxes)) if scores is None else torch.tensor(scores)
    return Detections(boxes, scores, torch.arange(len(boxes)) % len(names), size, Categories(names))


def grid(rows, columns, side, step):
    corners = [(20 + column * step, 20 + row * step) for row in range(rows) for column in range(columns)]
    return [[x, y, x + side, y + side] for x, y in corners]


def changed(detections, **style):
    height, width = detections.image_size
    pixels = np.asarray(detections.plot(np.full((height, width, 3), GREY, np.uint8), **style))
    return (pixels != GREY).any(axis=2)


def parts(touched):
    return cv2.connectedComponents(touched.astype(np.uint8))[0] - 1


@pytest.fixture
def texts(monkeypatch):
    """What is written on pictures."""
    written = []
    write = ImageDraw.ImageDraw.text

    def text(self, corner, text, **options):
        written.append(text)
        return write(self, corner, text, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return written


@pytest.mark.parametrize(("size", "tag"), [((144, 192), (60, 11)), ((480, 640), (80, 14)), ((3000, 4000), (400, 80))])
@pytest.mark.parametrize("count", [20, 100])
def test_tags_cover_no_small_object_and_no_other_tag(size, tag, count):
    height, width = size
    rng = np.random.default_rng(count)
    low = rng.uniform(0, 0.95, (count, 2)) * [width, height]
    boxes = np.concatenate((low, low + rng.uniform(0.01, 0.06, (count, 2)) * width), axis=1)
    cells = Map(size, tag[1], [tuple(box) for box in boxes.tolist()], rim=0)
    placed = [place for index in range(count) if (place := cells.tag(index, *tag))]
    tags = np.array([(left, top, left + tag[0], top + tag[1]) for left, top in placed])
    assert len(tags) > 2
    assert (tags >= 0).all()
    assert (tags[:, 2:] <= [width, height]).all()
    for number, one in enumerate(tags):
        for others in (boxes, np.delete(tags, number, axis=0)):
            common = (np.minimum(one[2:], others[:, 2:]) - np.maximum(one[:2], others[:, :2])).clip(0).prod(axis=1)
            assert not common.any()


def test_small_objects_keep_their_pixels():
    boxes = grid(4, 6, 14, 100)
    pixels = changed(found(boxes, (480, 640)), **TAGS_ALONE)
    assert parts(pixels) == 24  # each has its tag
    for x1, y1, x2, y2 in boxes:
        assert not pixels[y1:y2, x1:x2].any()


def test_lines_leave_small_objects_visible():
    """On a picture of 4000 pixels a line is 9 wide: not on an object of 12."""
    pixels = changed(found([[1000, 1000, 1012, 1012]], (3000, 4000)), labels=False)
    assert pixels[1000, 1000:1012].all()
    assert not pixels[1002:1010, 1002:1010].any()


def test_a_tag_is_left_out_where_it_would_cover_something(texts):
    """Of 300 objects side by side hardly any has room for a tag; the others are counted."""
    boxes = [[x * 20, y * 20, x * 20 + 18, y * 20 + 18] for y in range(12) for x in range(25)]
    found(boxes, (240, 500)).plot(np.zeros((240, 500, 3), np.uint8))
    assert len(texts) < 10
    assert texts[-1] == f"+{300 - len(texts) + 1} more"


@pytest.mark.parametrize(
    ("most", "expected"), [(None, []), (24, []), (23, ["+1 more"]), (3, ["+21 more"]), (0, ["+24 more"])]
)
def test_at_most_so_many_tags_of_the_best_and_the_others_counted(texts, most, expected):
    detections = found(grid(4, 6, 14, 100), (480, 640))
    pixels = changed(detections, max_tags=most, **TAGS_ALONE)
    tagged = 24 if most is None else most
    assert parts(pixels) == tagged + len(expected)
    assert texts == [f"thing {score:.2f}" for score in detections.scores[:tagged].tolist()] + expected


def test_marked_rows_are_tagged_before_better_ones(texts):
    rows = [Row("best", 0.9, 0, (10, 40, 30, 60), None), Row("wrong", 0.1, 0, (10, 40, 30, 60), None, marked=True)]
    draw(np.zeros((100, 400, 3), np.uint8), rows)
    assert texts == ["wrong 0.10", "best 0.90"]


def test_names_are_shortened_to_what_a_picture_has_room_for(texts):
    name = "a very long name of a class that somebody gave"
    changed(found([[5, 20, 35, 38]], (40, 120), (name,)))
    (text,) = texts
    assert text.startswith("a very")
    assert text.endswith("… 0.90")
    assert ImageFont.load_default(10).getlength(text) <= 120


def test_a_name_without_end_takes_no_time(texts):
    changed(found([[100, 100, 300, 300]], (400, 4000), ("x" * 1_000_000,)))
    assert len(texts[0]) < 120


def test_what_is_no_letter_is_written_as_an_escape(texts):
    changed(found([[100, 100, 300, 300]], (400, 400), ("two\nlines\u202e",)))
    assert texts == ["two\\nlines\\u202e 0.90"]


@pytest.mark.parametrize("size", [(1, 1), (5, 400), (400, 5), (8, 8)])
def test_a_picture_without_room_for_a_tag_has_none(size, texts):
    height, width = size
    assert changed(found([[0, 0, width, height]], size)).any()
    assert texts == []


def test_letters_that_the_font_lacks_are_told_once(caplog):
    detections = found([[50, 50, 150, 150]] * 2, (200, 200), ("自転車", "bicycle"))
    with caplog.at_level(logging.WARNING, "cascadezoo"):
        changed(detections)
        changed(detections)
    (record,) = caplog.records
    assert "Pillow's own font lacks 自転車 of" in record.getMessage()
    assert "font=" in record.getMessage()


def test_the_font_can_be_given(tmp_path, texts):
    """Here Pillow's own, from a file: it gives nearly the same picture, since the letters' distances are the file's."""
    path = tmp_path / "own.ttf"
    path.write_bytes(ImageFont.load_default(10).font_bytes)
    detections = found([[50, 50, 150, 150]], (200, 200))
    assert (changed(detections, font=path) != changed(detections)).mean() < 0.02
