"""``cascadezoo download``: published weights into the cache, several at a time."""

import json
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Literal, get_args

import click

from cascadezoo import registry
from cascadezoo.cli.command import Command
from cascadezoo.cli.parameters import EntryName
from cascadezoo.cli.terminal import echo, echo_json
from cascadezoo.errors import CascadezooError
from cascadezoo.hub.integrity import given
from cascadezoo.manifest import ZooEntry

State = Literal["ready", "skipped", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What became of one entry: the canonical file, or why there is none; ``code``: of the exit it calls for."""

    name: str
    state: State
    path: str | None = None
    reason: str | None = None
    code: int = 0


@click.command(
    "download",
    cls=Command,
    short_help="Bring published weights into the cache",
    examples=("cascadezoo download cascade_mask_x101_64x4d_fpn_3x", "cascadezoo download --all --jobs 8"),
)
@click.argument("names", metavar="NAME...", nargs=-1, type=EntryName())
@click.option("--all", "everything", is_flag=True, help="Every entry whose weights were published.")
@click.option("--keep-original", is_flag=True, help="Also keep the publishers' own files of what is fetched now.")
@click.option("--sha256", metavar="HEX", help="Hold the publisher's file of NAME to this hash, all 64 digits of it.")
@click.option(
    "--jobs", default=4, show_default=True, metavar="N", type=click.IntRange(1, 16), help="Downloads at a time."
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def download_command(
    names: tuple[str, ...], everything: bool, keep_original: bool, sha256: str | None, jobs: int, as_json: bool
) -> None:
    """Bring the weights of the entries NAME... into the cache, verified and converted; print where they are.

    What is there already is not fetched again; a download that was interrupted goes on where it stopped.
    """
    if bool(names) == everything:
        raise click.UsageError("give the names of entries, or --all")
    if sha256 is not None and len(names) != 1:
        raise click.UsageError("--sha256 is of one file: give one NAME with it")
    if sha256 is not None:
        given(sha256)  # raises where it is none
    entries = registry.entries() if everything else tuple(dict.fromkeys(registry.info(name) for name in names))
    unpublished = [entry for entry in entries if everything and not entry.has_weights]
    outcomes = [Outcome(entry.name, "skipped", reason="never published") for entry in unpublished]
    outcomes += _downloaded([entry for entry in entries if entry not in unpublished], keep_original, sha256, jobs)

    if as_json:
        echo_json(json.dumps([{k: v for k, v in asdict(o).items() if k != "code"} for o in outcomes], indent=2))
    else:
        width = max(len(outcome.name) for outcome in outcomes)
        for outcome in outcomes:
            if outcome.path:
                echo(f"{outcome.name:{width}}  {outcome.path}")
    for outcome in outcomes:
        if outcome.reason:
            echo(f"cascadezoo: {outcome.name}: {outcome.state}: {outcome.reason}", err=True)
    if len(outcomes) > 1:
        counts = Counter(outcome.state for outcome in outcomes)
        echo(", ".join(f"{counts[state]} {state}" for state in get_args(State) if counts[state]), err=True)
    if code := max(outcome.code for outcome in outcomes):
        raise SystemExit(code)


def _downloaded(entries: Iterable[ZooEntry], keep_original: bool, sha256: str | None, jobs: int) -> list[Outcome]:
    """The outcomes in the order of the entries.

    The threads are daemons: after Ctrl-C nothing waits for them, and what they leave is what a killed process leaves,
    which the next run takes up.
    """
    from cascadezoo.checkpoints.weights import obtain
    from cascadezoo.hub.progress import Bars, bars

    waiting: SimpleQueue[tuple[ZooEntry, Future[Outcome]]] = SimpleQueue()
    promised = [(entry, Future[Outcome]()) for entry in entries]
    for one in promised:
        waiting.put(one)

    def attempt(entry: ZooEntry, shown: Bars) -> Outcome:
        try:
            path = obtain(entry, keep_original=keep_original, progress=shown, sha256=sha256)
            return Outcome(entry.name, "ready", str(path))
        except CascadezooError as error:
            return Outcome(entry.name, "failed", reason=str(error), code=error.exit_code)

    def work(shown: Bars) -> None:
        while True:
            try:
                entry, outcome = waiting.get_nowait()
            except Empty:
                return
            try:
                outcome.set_result(attempt(entry, shown))
            except BaseException as error:
                outcome.set_exception(error)

    with bars() as shown:
        for _ in range(min(jobs, len(promised))):
            Thread(target=work, args=(shown,), daemon=True).start()
        return [outcome.result() for _, outcome in promised]
