"""What is going on, on stderr, for people: nothing where stderr is no terminal or ``HF_HUB_DISABLE_PROGRESS_BARS`` is
set.

``bars`` show downloads; ``steps`` show one line for work that cannot be counted, which ends where bars begin and comes
back after them.
"""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from cascadezoo.hub.offline import is_on
from cascadezoo.text import printable

if TYPE_CHECKING:
    from cascadezoo.hub.transport import Progress as Report  # and requests, which not all need who wait

_lines: list[Progress] = []  # of ``steps``, the innermost last; one of them is shown at a time


class Bars:
    """One bar for each file that is arriving; safe to use from several threads."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars

    @contextmanager
    def of(self, name: str) -> Iterator["Report"]:
        """What to call as bytes arrive; the bar appears with the first of them and goes at the end."""
        task = self._bars.add_task(printable(name), total=None, visible=False)
        try:
            yield lambda done, total: self._bars.update(task, completed=done, total=total, visible=True)
        finally:
            self._bars.remove_task(task)

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """A bar without an end, for what is done with a file that is there."""
        task = self._bars.add_task(printable(what), total=None)
        try:
            yield
        finally:
            self._bars.remove_task(task)


class _Of(ProgressColumn):
    """Another column, for files that are arriving alone."""

    def __init__(self, column: ProgressColumn) -> None:
        super().__init__()
        self._column = column

    def render(self, task: Task) -> RenderableType:
        """Nothing where neither is known, how much is there and how much is to come."""
        return Text() if task.total is None and not task.completed else self._column.render(task)


@contextmanager
def bars() -> Iterator[Bars]:
    """Show the bars of the downloads inside; log messages appear above them."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        _Of(DownloadColumn(binary_units=True)),
        _Of(TimeRemainingColumn()),
    )
    progress = Progress(*columns, console=Console(stderr=True), transient=True, disable=not are_wanted())
    with steps_hidden(), progress:
        yield Bars(progress)


@contextmanager
def steps(what: str) -> Iterator[None]:
    """Say what is being done inside, and for how long: ``what``, then each step that the library's log tells of at the
    level INFO."""
    if not are_wanted():
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    line = Progress(*columns, console=Console(stderr=True), transient=True)
    task = line.add_task(printable(what), total=None)
    log, before = logging.getLogger("cascadezoo"), logging.getLogger("cascadezoo").level
    handler = _Told(lambda step: line.update(task, description=f"{printable(what)}: {step}"))
    with steps_hidden():
        _lines.append(line)
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        try:
            with line:
                yield
        finally:
            log.setLevel(before)
            log.removeHandler(handler)
            _lines.remove(line)


@contextmanager
def steps_hidden() -> Iterator[None]:
    """Inside, the line of ``steps`` makes room for what else is shown on stderr."""
    outer = _lines[-1] if _lines and _lines[-1].live.is_started else None
    if outer is not None:
        outer.stop()
    try:
        yield
    finally:
        if outer is not None:
            outer.start()


class _Told(logging.Handler):
    """Calls ``show`` with each message of the level INFO."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.INFO:
            self._show(printable(record.getMessage()))


def are_wanted() -> bool:
    """Whether somebody watches, and has not switched the bars off."""
    if is_on("HF_HUB_DISABLE_PROGRESS_BARS"):
        return False
    return bool(_lines) or sys.stderr.isatty()  # under a line stderr is rich's, no terminal before its version 15
