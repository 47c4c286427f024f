"""Places: so many at a time."""

import pytest

from cascadezoo.serving.places import Full, Places


def test_one_more_than_there_are_is_full() -> None:
    places = Places(2)
    with places.one(), places.one():
        assert not places.are_free
        with pytest.raises(Full), places.one():
            pytest.fail("a third place of two")
    assert (places.taken, places.are_free) == (0, True)


def test_a_place_is_given_back_after_an_error() -> None:
    places = Places(1)
    with pytest.raises(ZeroDivisionError), places.one():
        raise ZeroDivisionError
    assert places.are_free
