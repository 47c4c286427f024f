"""``cascadezoo lock write | check``: which files the weights of a cache were made from, as a file for git."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import click

from cascadezoo import registry
from cascadezoo.cli.command import Group
from cascadezoo.cli.parameters import EntryName, InputFile, OutputFile
from cascadezoo.cli.terminal import echo, echo_json, echo_text
from cascadezoo.errors import HashMismatch, OutputExists, WeightsNotFound
from cascadezoo.files import whole_file
from cascadezoo.hub.progress import steps

_DEFAULT = "cascadezoo.lock"


@click.group(
    "lock",
    cls=Group,
    short_help="Pin weights by their hashes, for git",
    examples=("cascadezoo lock write", "cascadezoo lock check"),
)
def lock_command() -> None:
    """Pin weights: write the full SHA-256 and content digest of each entry to a text file, and hold the cache to it.

    Most publishers state no hash, or six or eight digits of one, so that a cache trusts the file that it gets first.
    """


@lock_command.command(
    "write",
    short_help="Write the lock of what the cache has",
    examples=("cascadezoo lock write", "cascadezoo lock write cascade_mask_r50_fpn_1x.paddle -o zoo.lock"),
)
@click.argument("names", metavar="[NAME]...", nargs=-1, type=EntryName())
@click.option("-o", "--output", type=OutputFile(), default=_DEFAULT, show_default=True, help="The file; - is stdout.")
@click.option("--force", is_flag=True, help="Replace an existing lock.")
def write_command(names: tuple[str, ...], output: Path, force: bool) -> None:
    """Write the lock of the entries NAME..., or of all in the cache: one line each, the same bytes each time."""
    stdout = output == Path("-")
    if not stdout and (output.is_file() or output.is_dir()) and not force:
        raise OutputExists(f"{output} is already there: `cascadezoo lock check` compares it, --force replaces it")
    from cascadezoo.hub import lockfile  # torch is imported only when there is something to hash

    with steps("hashing the weights in the cache"):
        text = lockfile.text([registry.info(name) for name in names] or lockfile.cached())
    if stdout:
        echo_text(text)
        return
    with whole_file(output) as file:
        file.write(text.encode())
    echo(str(output))


@lock_command.command(
    "check",
    short_help="Hold the cache to a lock",
    examples=("cascadezoo lock check", "cascadezoo lock check zoo.lock --json"),
)
@click.argument("lock", metavar="[FILE]", required=False, type=InputFile())
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def check_command(lock: Path | None, as_json: bool) -> None:
    """Compare the weights in the cache with the lock FILE (cascadezoo.lock).

    Exit code 4 where some differ; 3 where some are not in the cache, so that nothing can be said of them.
    """
    from cascadezoo.hub import lockfile

    lock = lock or Path(_DEFAULT)
    pins = lockfile.read(lock)
    with steps("hashing the weights in the cache"):
        verdicts = lockfile.check(pins)
    if as_json:
        echo_json(json.dumps([asdict(verdict) for verdict in verdicts], indent=2))
    else:
        echo(*(f"{verdict.state:8}  {verdict.entry}: {verdict.detail}" for verdict in verdicts))
    counts = Counter(verdict.state for verdict in verdicts)
    echo(", ".join(f"{counts[state]} {state}" for state in get_args(lockfile.State) if counts[state]), err=True)
    named = {verdict.entry for verdict in verdicts}
    if others := [entry.name for entry in lockfile.cached() if entry.name not in named]:
        echo(f"in the cache, and not locked: {', '.join(others)}", err=True)
    for state, error in (("differs", HashMismatch), ("absent", WeightsNotFound)):
        if wrong := [verdict.entry for verdict in verdicts if verdict.state == state]:
            advice = "fetch them anew" if state == "differs" else "`cascadezoo download` fetches them"
            raise error(f"not as {lock} says: {', '.join(wrong)}: {advice}")
