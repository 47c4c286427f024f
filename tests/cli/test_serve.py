"""``cascadezoo serve`` before it serves, and its log; what it serves: tests/serving/."""

import logging
import sys

import pytest

from cascadezoo.cli import main
from cascadezoo.cli.terminal import log_shown, messages_shown


def test_what_is_not_installed_is_said_with_its_remedy(monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "python_multipart", None)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(SystemExit) as stop:
        main(["serve", "cascade_mask_r18_fpn_shapes"])
    assert stop.value.code == 3
    assert "pip install fastapi uvicorn python-multipart\n" in capsys.readouterr().err


def test_the_log_has_a_line_for_each_note_and_the_traceback_of_an_error(capsys) -> None:
    log = logging.getLogger("cascadezoo")
    with messages_shown():
        log.info("not shown")
        with log_shown():
            log.info("a note \x1b[2J")
            log.warning("a warning")
            try:
                raise ValueError("\x1b[31m why")
            except ValueError:
                log.exception("an error")
        log.info("not shown")
    note, *others = capsys.readouterr().err.splitlines()
    assert note[20:] == "a note \\x1b[2J"
    assert note[:2] == "20"
    assert others[:3] == ["a warning", "an error", "Traceback (most recent call last):"]
    assert others[-1] == "ValueError: \\x1b[31m why"
    assert len(others) == 6
