"""Everything that the command line prints: the border where text from files, servers and names is made printable.

Commands print with nothing but these functions.
"""

import logging
import re
import shutil
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from cascadezoo.files import whole_file
from cascadezoo.text import printable, printable_json


@dataclass(frozen=True)
class Styled:
    """A part of a line in a colour of its own, or bold; plain where the output is no terminal."""

    text: str
    fg: str | None = None
    bold: bool | None = None


Line = str | Styled | Sequence[str | Styled]
_KEPT = "\0"  # for a space where no line may end


def echo(*lines: Line, err: bool = False) -> None:
    """Print each of ``lines`` as one line, whatever its text holds; ``err``: on stderr."""
    for line in lines:
        parts = (line,) if isinstance(line, str | Styled) else line
        click.echo("".join(map(_shown, parts)), err=err)


def echo_text(text: str, *, err: bool = False) -> None:
    """Print a text with lines of its own, such as Markdown."""
    click.echo(printable(text.removesuffix("\n"), lines=True), err=err)


def echo_json(text: str) -> None:
    """Print a JSON text; it keeps its value."""
    click.echo(printable_json(text.removesuffix("\n")))


def wrapped(text: str, label: str, width: int | None = None) -> list[str]:
    """``text`` after ``label``, continued below itself, within ``width``: the terminal's, at most 100.

    Links and what stands in backquotes stay whole, so that they can be copied.
    """
    whole = re.sub(r"`[^`]+`", lambda command: command[0].replace(" ", _KEPT), printable(text))
    lines = textwrap.wrap(
        whole,
        width or min(shutil.get_terminal_size().columns, 100),
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_KEPT, " ") for line in lines]


def write_text(path: Path, text: str, show: Callable[[str], None]) -> None:
    """Write a file, whole or not at all, and say so; for ``-`` call ``show``, which prints on stdout."""
    if path == Path("-"):
        show(text)
        return
    with whole_file(path) as file:
        file.write(text.encode(errors="backslashreplace"))  # half a surrogate pair, in a name that is no UTF-8
    echo(f"written to {path}", err=True)


def echo_usage_error(error: click.ClickException) -> None:
    """Print a complaint of click's as click does: the usage first, where there is one."""
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # a group without a command: its help
        echo_text(error.format_message(), err=True)
        return
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    if ctx is not None:
        echo_text(ctx.get_usage(), err=True)
        echo(f"Try '{ctx.command_path} --help' for help.", "", err=True)
    if isinstance(error, click.MissingParameter):  # its lines are click's own: a list of choices
        echo_text(f"Error: {error.format_message()}", err=True)
    else:
        echo(f"Error: {error.format_message()}", err=True)


@contextmanager
def messages_shown() -> Iterator[None]:
    """Log messages of the library and warnings of anyone go to stderr inside, one line each."""
    handler = _Echoed(logging.WARNING)
    log = logging.getLogger("cascadezoo")
    log.addHandler(handler)
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:  # a warning that somebody turned into an error stays one
                warnings.showwarning = _show_warning
            yield
    finally:
        log.removeHandler(handler)


@contextmanager
def log_shown(*mild: str) -> Iterator[None]:
    """What the library notes of its work, and what anyone warns of, goes to stderr inside in one form: a line each with
    its time, and the traceback of an error that it went on after.  ``mild``: packages of which errors alone are shown.
    """
    log, root = logging.getLogger("cascadezoo"), logging.getLogger()
    level, handlers, show = log.level, log.handlers[:], warnings.showwarning
    handler = _Noted()
    handler.addFilter(lambda record: record.levelno >= logging.ERROR or record.name.partition(".")[0] not in mild)
    root.addHandler(handler)
    log.handlers.clear()
    log.setLevel(logging.INFO)
    warnings.showwarning = lambda message, *_, **__: log.warning("%s", message)
    try:
        yield
    finally:
        warnings.showwarning = show
        log.setLevel(level)
        log.handlers[:] = handlers
        root.removeHandler(handler)


class _Noted(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        source = "" if record.name == "cascadezoo" else f"{record.name}: "
        time = datetime.fromtimestamp(record.created)
        echo(f"{time:%Y-%m-%d %H:%M:%S} {source}{record.getMessage().strip()}", err=True)
        if record.exc_info:
            echo_text("".join(traceback.format_exception(record.exc_info[1])), err=True)


class _Echoed(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        echo(record.getMessage(), err=True)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    echo(f"cascadezoo: warning: {message}", err=True)


def _shown(part: str | Styled) -> str:
    if isinstance(part, str):
        return printable(part)
    return click.style(printable(part.text), fg=part.fg, bold=part.bold)
