"""What people see while something takes long: a line with its steps, which makes room for bars."""

import io
import logging
import re
import sys

import pytest

from cascadezoo.hub import progress
from cascadezoo.hub.progress import bars, steps, steps_hidden

_CONTROLS = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    @property
    def shown(self) -> str:
        return _CONTROLS.sub("", self.getvalue())


def watched(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """stderr as a terminal; in the test itself, since pytest sets it anew after the fixtures."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS", raising=False)
    return terminal


def test_a_line_says_what_is_done_and_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watched(monkeypatch)
    log = logging.getLogger("cascadezoo")
    before = log.level, list(log.handlers)
    with steps("converting evil\x1b[2J.pth"):
        log.info("writing %s", "a.safetensors")
    assert r"converting evil\x1b[2J.pth: writing a.safetensors" in terminal.shown
    assert re.search(r"0:00:0\d", terminal.shown)
    assert (log.level, list(log.handlers)) == before


def test_a_message_of_another_level_is_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watched(monkeypatch)
    with steps("exporting"):
        logging.getLogger("cascadezoo").debug("a trifle")
    assert "exporting" in terminal.shown
    assert "a trifle" not in terminal.shown


def test_nothing_is_shown_where_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watched(monkeypatch)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with steps("exporting"), bars() as shown, shown.busy("converting"):
        pass
    assert terminal.getvalue() == ""
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with steps("exporting"):
        pass
    assert sys.stderr.getvalue() == ""


def test_the_line_makes_room_for_bars_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watched(monkeypatch)
    with steps("loading a model"):
        (line,) = progress._lines
        assert line.live.is_started
        with bars() as shown:
            assert not line.live.is_started
            with shown.of("a file") as report:
                report(2**20, 2**21)
            with shown.busy("a file, converting"):
                pass
        assert line.live.is_started
        with steps_hidden(), steps_hidden():
            assert not line.live.is_started
        assert line.live.is_started
        with steps("an inner step"):
            assert not line.live.is_started
        assert line.live.is_started
    assert progress._lines == []
    assert "an inner step" in terminal.shown


def test_an_error_ends_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    watched(monkeypatch)
    with pytest.raises(ValueError, match="broken"), steps("loading"):
        raise ValueError("broken")
    assert progress._lines == []
    assert logging.getLogger("cascadezoo").level == logging.NOTSET
