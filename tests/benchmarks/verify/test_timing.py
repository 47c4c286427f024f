"""The stop-watch's turns, and how growth is summed up."""

import pytest

from cascadezoo.benchmarks.verify.timing import exponent, in_turn


def test_ways_take_turns_after_one_that_warms_up() -> None:
    order: list[str] = []

    def way(name: str):
        return lambda: order.append(name) or {"whole": float(len(order))}

    clocks = in_turn({"a": way("a"), "b": way("b")}, 2)
    assert order == ["a", "b"] * 3
    assert clocks == {"a": [{"whole": 3.0}, {"whole": 5.0}], "b": [{"whole": 4.0}, {"whole": 6.0}]}


def test_turns_end_when_their_seconds_are_over() -> None:
    calls: list[int] = []
    way = {"a": lambda: calls.append(1) or {"whole": 1.0}}
    assert len(in_turn(way, 5, seconds=0.0)["a"]) == 1
    assert len(calls) == 2  # the first one warmed up
    assert len(in_turn(way, 5, seconds=600.0)["a"]) == 5


@pytest.mark.parametrize(
    ("sizes", "costs", "power"),
    [
        ([1, 4, 16], [3, 12, 48], 1),  # 16 times the cost for 16 times the size
        ([1, 2, 10], [5, 9, 500], 2),  # 100 times for 10 times, whatever lies between
        ([2, 8], [7, 7], 0),
        ([1, 100], [50, 5], -0.5),
    ],
)
def test_exponents_worked_by_hand(sizes: list[float], costs: list[float], power: float) -> None:
    assert exponent(sizes, costs) == pytest.approx(power)
