"""``cascadezoo serve`` before it serves, and its log; what it serves: tests/serving/."""

import logging
import re
import sys
import warnings

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
        with log_shown("mild"):
            log.info("a note \x1b[2J")
            log.warning("a warning")
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.warn("a warning of Python", stacklevel=1)
            logging.getLogger("other.error").info("not shown")
            logging.getLogger("mild.parser").warning("not shown")
            logging.getLogger("mild.parser").error("bad")
            logging.getLogger("other.error").warning("of another \n")
            try:
                raise ValueError("\x1b[31m why")
            except ValueError:
                log.exception("an error")
        log.info("not shown")
        log.warning("as before")
    lines = capsys.readouterr().err.splitlines()
    notes = [
        "a note \\x1b[2J",
        "a warning",
        "a warning of Python",
        "mild.parser: bad",
        "other.error: of another",
    ]
    assert [line[20:] for line in lines[:6]] == [*notes, "an error"]
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line) for line in lines[:6])
    assert lines[6] == "Traceback (most recent call last):"
    assert lines[-2:] == ["ValueError: \\x1b[31m why", "as before"]
    assert len(lines) == 11
