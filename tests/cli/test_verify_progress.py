"""How far a verification is: bars on a terminal, a line now and then elsewhere."""

import io
import re

import pytest
from rich.console import Console

from cascadezoo.cli import verify_progress
from cascadezoo.cli.verify_progress import Bars, Lines, duration


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(verify_progress.time, "monotonic", lambda: now[0])
    return now


def test_lines_tell_of_the_entry_and_of_all(clock: list[float], capsys) -> None:
    lines = Lines()
    lines.total(1, 65, 5 * 3600)
    lines("a", 0, 500)
    clock[0] += 10
    lines("a", 50, 500)  # too soon
    clock[0] += 20
    lines("a", 150, 500)
    told = "a: 150 of 500 images, 1.2 minutes left; 1 of 65 entries done, about 5.0 hours left for all\n"
    assert capsys.readouterr().err == told


def test_lines_of_a_run_whose_images_are_not_seen(clock: list[float], capsys) -> None:
    lines = Lines()
    for _ in range(45):
        clock[0] += 1
        lines.total(2, 3, None)
    clock[0] += 30
    lines.total(3, 3, 90)
    assert capsys.readouterr().err == "2 of 3 entries done\n3 of 3 entries done, about 1.5 minutes left for all\n"


def test_one_entry_has_no_total(clock: list[float], capsys) -> None:
    lines = Lines()
    clock[0] += 100
    lines.total(0, 1, 7)
    lines("a", 1, 4)
    clock[0] += 30
    lines("a", 3, 4)
    assert capsys.readouterr().err == "a: 3 of 4 images, 0.2 minutes left\n"


def test_bars_show_both_and_are_taken_away() -> None:
    shown = io.StringIO()
    bars = Bars(Console(file=shown, force_terminal=True, width=140))
    bars.total(1, 65, 7200)
    bars("cascade_r50", 3, 8)
    bars.clear()
    assert "cascade_r50" in shown.getvalue()
    assert "3/8" in shown.getvalue()
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.getvalue())
    assert re.search(r"all entries +\S+ +1/65 2\.0 hours left", plain)
    assert shown.getvalue().endswith("\x1b[2K")  # the lines are empty
    alone = io.StringIO()
    bars = Bars(Console(file=alone, force_terminal=True, width=140))
    bars.total(0, 1, None)
    bars("cascade_r50", 3, 8)
    bars.clear()
    assert "all entries" not in alone.getvalue()


def test_lengths_of_time() -> None:
    assert [duration(seconds) for seconds in (3, 90, 7199, 7200, 36000)] == [
        "0.1 minutes", "1.5 minutes", "120.0 minutes", "2.0 hours", "10.0 hours",
    ]  # fmt: skip
