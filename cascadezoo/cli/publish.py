"""``cascadezoo publish``: canonical weights to the Hugging Face Hub."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cascadezoo.publishing.publish import Publication

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("publish")
@click.argument("name")
@click.option("--repo", required=True, metavar="ORG/NAME", help="The repository; created if it is not there.")
@click.option("--weights", type=_FILE, help="The canonical .safetensors; default: the entry's in the cache.")
@click.option("--license", metavar="ID", help="The weights' licence (SPDX), where their publisher states none.")
@click.option("--report", type=_FILE, help="A report of `cascadezoo verify`, whose figures the card then shows.")
@click.option("--private", is_flag=True, help="A private repository.")
@click.option("--revision", metavar="BRANCH", help="The branch to commit to; default: main.")
@click.option("--dry-run", is_flag=True, help="Touch no network: print what would be uploaded, and the card.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def publish_command(
    name: str,
    repo: str,
    weights: Path | None,
    license: str | None,
    report: Path | None,
    private: bool,
    revision: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Publish the weights of the entry NAME on the Hugging Face Hub, with a model card, in one commit.

    The publisher's attribution and licence go with them.  The token is that of `hf auth login`, or HF_TOKEN.
    """
    from cascadezoo.publishing.publish import publish

    done = publish(
        name,
        repo,
        weights=weights,
        private=private,
        dry_run=dry_run,
        license=license,
        report=report,
        revision=revision,
    )
    click.echo(done.to_json() if as_json else _planned(done) if dry_run else _published(done))


def _planned(done: "Publication") -> str:
    kind = "private" if done.private else "public"
    files = "\n".join(f"  {size:>13,}  {name}" for name, size in done.files.items())
    return f"would be uploaded to {done.url} ({kind} if new), in one commit:\n{files}\n\nREADME.md:\n\n{done.card}"


def _published(done: "Publication") -> str:
    if not done.changed:
        return f"{done.url} holds all of this already, at commit {done.commit}"
    return (
        f"published {done.entry} at {done.url}, commit {done.commit}\n"
        f'load it with cascadezoo.load("hf-hub:{done.repo}@{done.commit}")'
    )
