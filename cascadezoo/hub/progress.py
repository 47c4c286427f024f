"""Progress bars on stderr, for people: none where stderr is no terminal or ``HF_HUB_DISABLE_PROGRESS_BARS`` is set."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from cascadezoo.hub.offline import is_on
from cascadezoo.hub.transport import Progress as Report
from cascadezoo.text import printable


class Bars:
    """One bar for each file that is arriving; safe to use from several threads."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars

    @contextmanager
    def of(self, name: str) -> Iterator[Report]:
        """What to call as bytes arrive; the bar appears with the first of them and goes at the end."""
        task = self._bars.add_task(printable(name), total=None, visible=False)
        try:
            yield lambda done, total: self._bars.update(task, completed=done, total=total, visible=True)
        finally:
            self._bars.remove_task(task)


@contextmanager
def bars() -> Iterator[Bars]:
    """Show the bars of the downloads inside; log messages appear above them."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        DownloadColumn(binary_units=True),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not are_wanted()) as progress:
        yield Bars(progress)


def are_wanted() -> bool:
    """Whether somebody watches, and has not switched the bars off."""
    return sys.stderr.isatty() and not is_on("HF_HUB_DISABLE_PROGRESS_BARS")
