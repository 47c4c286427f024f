"""How far a long job is: a bar on stderr where somebody sees it, else a line now and then."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from cascadezoo.cli.terminal import echo

_EVERY = 30  # seconds between lines


@contextmanager
def progress(label: str, noun: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """A function to call with how many more are done.  ``noun``: what they are; ``total``: None where nobody knows."""
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=total, completed=done)
        told = time.monotonic()

        def advance(more: int) -> None:
            nonlocal done, told
            done += more
            bar.update(task, completed=done)
            if not console.is_terminal and time.monotonic() - told > _EVERY and done != total:
                told = time.monotonic()
                echo(f"{done} of {total} {noun}" if total else f"{done} {noun}", err=True)

        yield advance
