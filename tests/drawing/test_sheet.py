import numpy as np
import pytest
from PIL import Image

from cascadezoo.drawing import side_by_side
from cascadezoo.errors import UsageError


def picture(width, height, level):
    return Image.new("RGB", (width, height), (level, level, level))


def test_pictures_stand_in_a_row_on_white():
    sheet = np.asarray(side_by_side([picture(30, 20, 10), picture(20, 10, 40)]))
    assert sheet.shape == (20, 30 + 8 + 30, 3)
    assert (sheet[:, :30] == 10).all()
    assert (sheet[:10, 38:58] == 40).all()
    assert (sheet[:, 30:38] == 255).all()
    assert (sheet[10:, 38:] == 255).all()


def test_titles_stand_above_their_pictures():
    sheet = np.asarray(side_by_side([picture(200, 100, 10), picture(200, 100, 40)], ["annotated", "detected"]))
    head = len(sheet) - 100
    assert head > 12
    assert (sheet[head:, :200] == 10).all()
    assert (sheet[head:, 208:] == 40).all()
    for left in (0, 208):
        assert (sheet[:head, left : left + 60] < 128).any()
        assert (sheet[:head, left + 100 : left + 200] == 255).all()


def test_rows_of_columns():
    sheet = np.asarray(side_by_side([picture(10, 10, level) for level in (1, 2, 3)], columns=2))
    assert sheet.shape == (28, 28, 3)
    assert (sheet[18:, :10] == 3).all()
    assert (sheet[18:, 18:] == 255).all()


@pytest.mark.parametrize(
    ("count", "options", "words"),
    [(0, {}, "no pictures"), (2, {"titles": ["one"]}, "1 titles for 2"), (1, {"columns": 0}, "0 columns")],
)
def test_what_cannot_be_set_side_by_side(count, options, words):
    with pytest.raises(UsageError, match=words):
        side_by_side([picture(4, 4, 0)] * count, **options)
