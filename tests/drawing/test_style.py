import math

import pytest

from cascadezoo.drawing import Style
from cascadezoo.drawing.style import measures
from cascadezoo.errors import UsageError


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("opacity", 1.5, "a number from 0 to 1"),
        ("opacity", math.nan, "a number from 0 to 1"),
        ("opacity", "half", "a number from 0 to 1"),
        ("line_width", 0, "a whole number from 1"),
        ("line_width", 2.5, "a whole number from 1"),
        ("font_size", 1, "a number from 4"),
        ("max_tags", -1, "a whole number from 0"),
        ("max_tags", True, "a whole number from 0"),
        ("scale", 0, "a number from 0.001 to 16"),
        ("color_by", "label", "'class' or 'instance'"),
        ("font", "no/such/font.ttf", "a TrueType or OpenType file"),
        ("font", __file__, "a TrueType or OpenType file"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(option, value, words):
    with pytest.raises(UsageError, match=rf"{option}.*{words}"):
        Style(**{option: value})


def test_sizes_follow_the_picture():
    small, middle, large = (measures(Style(), *size) for size in ((144, 192), (480, 640), (3000, 4000)))
    assert (small.line, middle.line, large.line) == (1, 2, 9)
    assert small.font_size == 10  # as small as can be read
    assert 12 < middle.font_size < 13
    assert 40 < large.font_size < 45
    assert small.tag_height < middle.tag_height < large.tag_height


def test_sizes_can_be_given():
    given = measures(Style(line_width=6, font_size=30), 144, 192)
    assert (given.line, given.outline, given.font_size) == (6, 4, 30)
