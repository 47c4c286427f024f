"""Which entry is next, what is tried again, and when all will be done."""

import pytest

from cascadezoo.benchmarks.verify.schedule import Retries, Schedule, makespan


def test_the_longest_comes_first_and_what_is_lost_takes_its_place_again() -> None:
    schedule = Schedule({"short": 1, "long": 9, "middle": 5, "as short": 1})
    assert [schedule.take(0, 2), schedule.take(0, 2), schedule.take(0, 2)] == ["long", "middle", None]
    schedule.give_back("long", 1)
    assert [schedule.take(1, 4), schedule.take(1, 4), schedule.take(1, 4)] == ["long", "short", "as short"]
    assert schedule.take(1, 9) is None
    assert not schedule.is_done
    for name in ("middle", "short", "long", "as short"):
        schedule.finish(name, 2)
    assert schedule.is_done
    assert schedule.left(3) == 0


def test_the_time_left_is_known_once_something_is_done() -> None:
    schedule = Schedule({"a": 6, "b": 4, "c": 2, "d": 2})
    assert schedule.left(0, 2) is None
    schedule.take(0, 2)
    schedule.take(0, 2)
    assert schedule.left(10, 2) is None
    schedule.finish("b", 40)  # ten seconds a unit
    # a has 20 of its 60 seconds left, c takes 20 from now, d follows whichever is first
    assert schedule.left(40, 2) == pytest.approx(40)
    schedule.take(40, 2)
    assert schedule.left(50, 2) == pytest.approx(30)
    assert schedule.left(50, 3) == pytest.approx(20)  # a third place takes d at once
    schedule.finish("a", 100)  # longer than thought: 140 seconds of 10 units
    assert schedule.left(100, 2) == pytest.approx(28)  # of c nothing, by its estimate


def test_what_is_handed_out_ahead_begins_where_another_ends() -> None:
    schedule = Schedule({"a": 4, "b": 3, "c": 2, "d": 1})
    assert [schedule.take(0, 1, ahead=2) for _ in range(4)] == ["a", "b", "c", None]
    schedule.finish("a", 40)  # ten seconds a unit; b runs from now on
    assert schedule.take(40, 1, ahead=2) == "d"
    assert schedule.left(50) == pytest.approx(20 + 20 + 10)
    schedule.finish("c", 55)  # out of turn: since when it ran is not known
    assert schedule.left(60) == pytest.approx(10 + 10)
    schedule.give_back("b", 60)
    assert schedule.left(60) == pytest.approx(10 + 30)  # d has its place
    schedule.finish("d", 90)  # 30 seconds: 70 of 5 units now
    assert schedule.left(90) == pytest.approx(42)


def test_what_was_not_measured_tells_nothing_of_the_others() -> None:
    schedule = Schedule({"a": 2, "b": 1}, pace=5)
    schedule.start("a", 0)
    assert schedule.left(4) == pytest.approx(6 + 5)
    schedule.finish("a", 0.1, measured=False)
    assert schedule.left(1) == pytest.approx(5)


@pytest.mark.parametrize(
    ("running", "waiting", "slots", "seconds"),
    [
        ([], [], 3, 0),
        ([7], [], 1, 7),
        ([], [5, 4, 3, 3, 3], 2, 10),  # 5 and 3, 4 and 3, then 3 behind 4 + 3 = 7
        ([1, 10], [5, 5], 2, 11),
        ([2, 3, 4], [1], 1, 4),  # more than there are places, as after a machine has gone
    ],
)
def test_the_end_of_all(running: list[float], waiting: list[float], slots: int, seconds: float) -> None:
    assert makespan(running, waiting, slots) == seconds


def test_an_entry_is_tried_again_so_often() -> None:
    retries = Retries(2)
    assert retries.told("a") == ""
    assert retries.again("a", "it died")
    assert retries.told("a") == "lost once: it died"
    assert retries.count("a") == (1, 2)
    assert retries.again("a", "it died")
    assert not retries.again("a", "no memory")
    assert retries.again("b", "it died")
    assert retries.told("a") == "lost 3 times: it died; no memory"
