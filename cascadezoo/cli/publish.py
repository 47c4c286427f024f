"""``cascadezoo publish``: canonical weights to the Hugging Face Hub."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cascadezoo.cli.command import Command
from cascadezoo.cli.parameters import EntryName, InputFile, WeightsFile
from cascadezoo.cli.terminal import echo, echo_json, echo_text

if TYPE_CHECKING:
    from cascadezoo.publishing.publish import Publication


@click.command(
    "publish",
    cls=Command,
    short_help="Weights and a card to the Hugging Face Hub",
    examples=(
        "cascadezoo publish cascade_mask_r18_fpn_shapes --repo me/shapes --dry-run",
        "cascadezoo publish cascade_r50_fpn_1x.mmdet --repo me/mine \\\n"
        "    --weights best.safetensors --license CC-BY-4.0",
    ),
)
@click.argument("name", type=EntryName())
@click.option("--repo", required=True, metavar="ORG/NAME", help="The repository; created if it is not there.")
@click.option("--weights", type=WeightsFile(), help="The canonical .safetensors; default: the entry's in the cache.")
@click.option("--license", metavar="ID", help="The weights' licence (SPDX), where their publisher states none.")
@click.option("--report", type=InputFile(), help="A report of `cascadezoo verify`, whose figures the card then shows.")
@click.option(
    "--picture", type=InputFile(), metavar="IMAGE", help="Show on the card what the weights find on this image."
)
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
    picture: Path | None,
    private: bool,
    revision: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Publish the weights of the entry NAME on the Hugging Face Hub, with a model card, in one commit.

    The publisher's attribution and licence go with them.  The token is that of `hf auth login`, or HF_TOKEN.
    """
    from cascadezoo.hub.progress import steps
    from cascadezoo.publishing.publish import publish

    with steps(f"packing {name}"):
        done = publish(
            name,
            repo,
            weights=weights,
            private=private,
            dry_run=dry_run,
            license=license,
            report=report,
            picture=picture,
            revision=revision,
        )
    if as_json:
        echo_json(done.to_json())
    elif dry_run:
        _print_plan(done)
    elif done.changed:
        echo(f"published {done.entry} at {done.url}, commit {done.commit}")
        echo(f'load it with cascadezoo.load("hf-hub:{done.repo}@{done.commit}")')
    else:
        echo(f"{done.url} holds all of this already, at commit {done.commit}")


def _print_plan(done: "Publication") -> None:
    kind = "private" if done.private else "public"
    echo(f"would be uploaded to {done.url} ({kind} if new), in one commit:")
    echo(*(f"  {size:>13,}  {name}" for name, size in done.files.items()))
    echo("", "README.md:", "")
    echo_text(done.card)
