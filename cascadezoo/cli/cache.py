"""``cascadezoo cache list | prune | path``: what the cache holds, and throwing it away."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import click

from cascadezoo import registry
from cascadezoo.cli.command import Group
from cascadezoo.cli.parameters import EntryName, Number
from cascadezoo.cli.terminal import echo, echo_json
from cascadezoo.hub import housekeeping
from cascadezoo.hub.cache import weights_path
from cascadezoo.hub.housekeeping import KINDS, CacheItem
from cascadezoo.paths import home


@click.group(
    "cache",
    cls=Group,
    short_help="List and clean the cache",
    examples=("cascadezoo cache list", "cascadezoo cache prune --originals --parts"),
)
def cache_command() -> None:
    """List and clean the cache: $CASCADEZOO_HOME, else the user's cache folder."""


@cache_command.command("list", short_help="The files of the cache", examples=("cascadezoo cache list",))
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_command(as_json: bool) -> None:
    """List what the cache holds: which kind, how large, when last used (as the disk notes it, often to a day).

    canonical: weights ready to load.  original: publishers' own files.  part: downloads that broke off, which the
    next download goes on from.  quarantine: files that were not the ones expected.  data: images that were drawn.
    operators: compiled ones; outdated: those of other versions of cascadezoo, which nothing loads any more.
    """
    items = housekeeping.items()
    if as_json:
        echo_json(json.dumps({"home": str(home()), "files": _records(items)}, indent=2))
        return
    _print_table(items)
    echo(f"{_total(items)}, in {home()}", err=True)


@cache_command.command(
    "prune",
    short_help="Remove files of the cache",
    examples=("cascadezoo cache prune --parts --older-than 7 --dry-run", "cascadezoo cache prune --all"),
)
@click.option("--originals", is_flag=True, help="Publishers' own files, once converted of no further use.")
@click.option("--parts", is_flag=True, help="Downloads that broke off; the next one starts again.")
@click.option("--quarantine", is_flag=True, help="Files that were not the ones expected.")
@click.option("--data", is_flag=True, help="Images that were drawn, and can be again.")
@click.option("--outdated", is_flag=True, help="Compiled operators of other versions.")
@click.option("--all", "everything", is_flag=True, help="All these, the canonical weights and all operators.")
@click.option(
    "--older-than", type=Number(min=0), metavar="DAYS", default=0, help="Only what has not been used for so many days."
)
@click.option("--dry-run", is_flag=True, help="Say what would go, and leave it.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def prune_command(
    originals: bool,
    parts: bool,
    quarantine: bool,
    data: bool,
    outdated: bool,
    everything: bool,
    older_than: float,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove files and folders from the cache; name at least one kind.

    What another process is working on stays.  Which hashes were trusted is remembered for the next download.
    """
    chosen = {"original": originals, "part": parts, "quarantine": quarantine, "data": data, "outdated": outdated}
    kinds = [kind for kind in KINDS if everything or chosen.get(kind)]
    if not kinds:
        raise click.UsageError("say what to remove: --originals, --parts, --quarantine, --data, --outdated or --all")
    pruned = housekeeping.prune(kinds, timedelta(days=older_than), dry_run=dry_run)
    if as_json:
        record = {"dry_run": dry_run, "removed": _records(pruned.removed), "busy": _records(pruned.busy)}
        echo_json(json.dumps(record, indent=2))
    else:
        _print_table(pruned.removed)
    for item in pruned.busy:
        echo(f"left alone, another process is working on {item.entry}: {item.path}", err=True)
    echo(f"{_total(pruned.removed)}, {'would be removed' if dry_run else 'removed'}", err=True)


@cache_command.command(
    "path",
    short_help="Where an entry's weights lie, or will",
    examples=("cascadezoo cache path", "cascadezoo cache path cascade_r50_fpn_1x.mmdet"),
)
@click.argument("name", required=False, type=EntryName())
@click.option("--json", "as_json", is_flag=True, help="Print as JSON, with whether it is there.")
def path_command(name: str | None, as_json: bool) -> None:
    """Print where the canonical weights of the entry NAME lie, or will lie; without NAME, the cache's folder."""
    path = weights_path(registry.info(name)) if name else home()
    if as_json:
        echo_json(json.dumps({"path": str(path), "exists": path.exists()}))
    else:
        echo(str(path))


def _print_table(items: Sequence[CacheItem]) -> None:
    for item in items:
        when = f"{item.used.astimezone():%Y-%m-%d %H:%M}"
        echo(f"{item.kind:10}  {_size(item.size):>9}  {when}  {item.path.relative_to(home())}")


def _records(items: Sequence[CacheItem]) -> list[dict[str, Any]]:
    return [{**vars(item), "path": str(item.path), "used": item.used.isoformat(timespec="seconds")} for item in items]


def _total(items: Sequence[CacheItem]) -> str:
    folders = sum(item.is_folder for item in items)
    files = len(items) - folders
    counts = [f"{files} file{'' if files == 1 else 's'}"]
    counts += [f"{folders} folder{'' if folders == 1 else 's'}"] * bool(folders)
    return f"{' and '.join(counts)}, {_size(sum(item.size for item in items))}"


def _size(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB" if size >= 2**20 else f"{size:,} B"
