"""``cascadezoo links``: whether the manifest's addresses still lead to their files."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, get_args

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from cascadezoo import registry
from cascadezoo.cli.command import Command
from cascadezoo.cli.parameters import EntryName
from cascadezoo.cli.terminal import Styled, echo, echo_json
from cascadezoo.errors import DownloadFailed, LostLinks

if TYPE_CHECKING:
    from cascadezoo.hub.links import LinkVerdict

_COLOURS = {"moved": "yellow", "changed": "red", "dead": "red", "unreachable": "yellow"}


@click.command(
    "links",
    cls=Command,
    short_help="What has become of the publishers' links",
    examples=("cascadezoo links", "cascadezoo links cascade_r50_fpn_1x.detectron --json"),
)
@click.argument("names", metavar="[NAME]...", nargs=-1, type=EntryName())
@click.option("--json", "as_json", is_flag=True, help="Every address with its state, as JSON.")
def links_command(names: tuple[str, ...], as_json: bool) -> None:
    """Ask for every address of the manifest, or of the entries NAME, whether it still leads to its file.

    Prints what moved (a permanent redirect), changed (another size, another hash in the file's name, or a web page in
    its place), died, or could not be reached, a login or a proxy's refusal included.  Nothing is downloaded, and each
    server gets one small request at a time.

    Exit code 1 where the weights or the md5 of an entry have died or changed; 3 where no server could be reached.
    """
    from cascadezoo.hub import links  # requests is imported only when there is something to ask

    entries = [registry.info(name) for name in dict.fromkeys(names)] or registry.entries()
    with Progress(
        *Progress.get_default_columns(),
        MofNCompleteColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as progress:
        task = progress.add_task("links", total=len(links.uses(entries)))
        verdicts = links.audit(entries, lambda verdict: progress.advance(task))

    if as_json:
        echo_json(json.dumps([asdict(verdict) for verdict in verdicts], indent=2))
    else:
        _print_table(verdicts)
    counts = Counter(verdict.state for verdict in verdicts)
    echo(", ".join(f"{counts[state]} {state}" for state in get_args(links.State) if counts[state]), err=True)
    lost = sorted({use.entry for verdict in verdicts if verdict.is_loss for use in verdict.uses if use.needed})
    if lost:
        raise LostLinks(f"the file of {', '.join(lost)} is no longer at its address: correct it in the manifest")
    if counts["unreachable"] and not counts["ok"] + counts["moved"] + counts["dead"] + counts["changed"]:
        causes = Counter(verdict.detail for verdict in verdicts if verdict.state == "unreachable")
        raise DownloadFailed(
            f"no server could be reached ({causes.most_common(1)[0][0]}): check the network and HTTPS_PROXY"
        )


def _print_table(verdicts: Sequence["LinkVerdict"]) -> None:
    """What is not as the manifest says; each address with the entries that use it."""
    for verdict in verdicts:
        if verdict.state in _COLOURS:
            echo((Styled(f"{verdict.state:11}", fg=_COLOURS[verdict.state]), f"  {verdict.url}"))
            echo(*(f"{'':11}  {line}" for line in (verdict.detail, *_uses(verdict))))


def _uses(verdict: "LinkVerdict") -> list[str]:
    return [f"{use.what} of {use.entry}" for use in verdict.uses]
