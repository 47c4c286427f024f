"""``cascadezoo mirror``: the publishers' files in a folder of one's own, as ``CASCADEZOO_MIRROR`` finds them."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from cascadezoo import registry
from cascadezoo.cli.command import Command
from cascadezoo.cli.parameters import EntryName, OutputFolder
from cascadezoo.cli.terminal import echo, echo_json
from cascadezoo.errors import CascadezooError, UnwritableOutput
from cascadezoo.manifest import ZooEntry


@click.command(
    "mirror",
    cls=Command,
    short_help="The publishers' files in a folder of yours",
    examples=(
        "cascadezoo mirror cascade_mask_r50_fpn_1x.paddle --to /srv/zoo",
        "cascadezoo mirror --urls > urls.txt",
    ),
)
@click.argument("names", metavar="[NAME]...", nargs=-1, type=EntryName())
@click.option("--to", "folder", metavar="DIR", type=OutputFolder(), help="Bring the files into this folder.")
@click.option("--urls", is_flag=True, help="Only print the addresses that a mirror needs, one a line.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def mirror_command(names: tuple[str, ...], folder: Path | None, urls: bool, as_json: bool) -> None:
    """Bring the publishers' files of the entries NAME..., or of all, into a folder that CASCADEZOO_MIRROR may name.

    A file lies under its host and path, as `wget -x -i` lays out what --urls prints.  Each is held to every hash that
    is known.  What is there already is not fetched again; what was interrupted goes on where it stopped.
    """
    if urls == (folder is not None):
        raise click.UsageError("give either --to DIR or --urls")
    entries = [registry.info(name) for name in dict.fromkeys(names)]
    entries = entries or [entry for entry in registry.entries() if entry.download_url is not None]
    if folder is None:
        _print_urls(entries, as_json)
        return
    outcomes, code = [], 0
    for outcome, failure in _brought(entries, folder):
        outcomes.append(outcome)
        code = max(code, failure)
        if "reason" in outcome:
            echo(f"cascadezoo: {outcome['name']}: failed: {outcome['reason']}", err=True)
        elif not as_json:
            echo(f"{outcome['name']}  {outcome['path']}")
    if as_json:
        echo_json(json.dumps(outcomes, indent=2))
    if code:
        raise SystemExit(code)


def _print_urls(entries: Iterable[ZooEntry], as_json: bool) -> None:
    from cascadezoo.hub.mirroring import addresses

    found = list(addresses(entries))
    if as_json:
        echo_json(json.dumps(found, indent=2))
    else:
        echo(*found)


def _brought(entries: Iterable[ZooEntry], folder: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """What became of each entry, and the exit code that it calls for."""
    from cascadezoo.hub.mirroring import bring
    from cascadezoo.hub.progress import bars

    with bars() as shown:
        for entry in entries:
            try:
                with shown.of(entry.name) as report:
                    path = bring(entry, folder, report)
            except CascadezooError as error:
                yield {"name": entry.name, "reason": str(error)}, error.exit_code
            except OSError as error:
                reason = f"{error.filename or folder} cannot be written: {error.strerror or error}"
                yield {"name": entry.name, "reason": reason}, UnwritableOutput.exit_code
            else:
                yield {"name": entry.name, "path": str(path)}, 0
