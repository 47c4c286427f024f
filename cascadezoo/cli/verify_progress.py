"""How far a verification is and when it will be done: bars on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from cascadezoo.cli.terminal import echo
from cascadezoo.hub.progress import steps

_EVERY = 30  # seconds between lines of progress where no bar can be shown


@contextmanager
def shown() -> Iterator["Bars | Lines"]:
    """Progress while the context lasts."""
    console = Console(stderr=True)
    progress = Bars(console) if console.is_terminal else Lines()
    try:
        yield progress
    finally:
        progress.clear()


def duration(seconds: float) -> str:
    """A length of time in words."""
    return f"{seconds / 60:.1f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


class Bars:
    """Progress as two bars, the images of an entry and the entries of the run: cleared before anything is printed."""

    def __init__(self, console: Console) -> None:
        self.console, self.label = console, ""
        self.bars: Progress | None = None
        self.images: TaskID | None = None
        self.entries: TaskID | None = None
        self._all = (0, 0, "")  # done, in all, time left
        self._opening = ExitStack()
        self._opening.enter_context(steps("reading the data and loading the weights"))

    def __call__(self, label: str, done: int, total: int) -> None:
        """So many images of an entry are done."""
        if label != self.label:
            self.clear()
        bars = self._shown()
        if self.images is None:
            self.label, self.images = label, bars.add_task(label, total=total, completed=done, left="")
        remaining = bars.tasks[bars.task_ids.index(self.images)].time_remaining
        bars.update(self.images, completed=done, left=_left(remaining))

    def total(self, done: int, total: int, left: float | None) -> None:
        """So many entries are done, and so many seconds are left for all."""
        self._all = done, total, _left(left)
        if total > 1:
            bars = self._shown()
            if self.entries is not None:
                bars.update(self.entries, completed=done, left=self._all[2])

    def clear(self) -> None:
        """Take the bars away; the next call brings them back."""
        self._opening.close()
        if self.bars:
            self.bars.stop()
        self.bars = self.images = self.entries = None

    def _shown(self) -> Progress:
        if self.bars is None:
            self._opening.close()
            columns = (TextColumn("{task.description}"), BarColumn(10), MofNCompleteColumn())
            self.bars = Progress(*columns, TextColumn("{task.fields[left]}"), console=self.console, transient=True)
            done, total, left = self._all
            if total > 1:
                self.entries = self.bars.add_task("all entries", total=total, completed=done, left=left)
            self.bars.start()
        return self.bars


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"{duration(seconds)} left"


class Lines:
    """Progress as lines."""

    def __init__(self) -> None:
        self.label, self.start, self.begun = "", 0.0, 0
        self.last = time.monotonic()
        self._all = ""

    def clear(self) -> None:
        """Lines stay."""

    def __call__(self, label: str, done: int, total: int) -> None:
        """So many images of an entry are done."""
        now = time.monotonic()
        if label != self.label:
            self.label, self.start, self.begun, self.last = label, now, done, now
        if now - self.last < _EVERY or done == self.begun:
            return
        self.last = now
        left = (now - self.start) / (done - self.begun) * (total - done)
        echo(f"{label}: {done} of {total} images, {left / 60:.1f} minutes left{self._all}", err=True)

    def total(self, done: int, total: int, left: float | None) -> None:
        """So many entries are done, and so many seconds are left for all."""
        if total == 1:
            return
        known = "" if left is None else f", about {duration(left)} left for all"
        self._all = f"; {done} of {total} entries done{known}"
        if time.monotonic() - self.last >= _EVERY:
            self.last = time.monotonic()
            echo(self._all.removeprefix("; "), err=True)
