"""``cascadezoo shapes``: write the drawn data set."""

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from cascadezoo import shapes
from cascadezoo.cli.command import Command
from cascadezoo.cli.parameters import OutputFolder
from cascadezoo.cli.terminal import echo, echo_json


@click.command(
    "shapes",
    cls=Command,
    short_help="Draw a small data set to try things on",
    examples=("cascadezoo shapes --split train --out shapes --images 200",),
)
@click.option("--split", type=click.Choice(list(shapes.SIZES)), required=True, help="Which part of the data set.")
@click.option("--out", metavar="DIR", type=OutputFolder(), required=True, help="Where it goes.")
@click.option(
    "--images", metavar="N", type=click.IntRange(min=1), help="Only so many images; default: 4000 (train), 500 (val)."
)
@click.option("--force", is_flag=True, help="Draw again, and replace other images that are there.")
@click.option("--json", "as_json", is_flag=True, help="What was written, as JSON.")
def shapes_command(split: str, out: Path, images: int | None, force: bool, as_json: bool) -> None:
    """Draw the "shapes" data set in COCO's format, the same images on every machine.

    DIR/annotations/instances_SPLIT.json and DIR/SPLIT/*.png; a part that is already whole is left as it is.
    """
    console = Console(stderr=True)
    count = images or shapes.SIZES[split]
    with Progress(
        *Progress.get_default_columns(), MofNCompleteColumn(), console=console, disable=not sys.stderr.isatty()
    ) as progress:
        task = progress.add_task("shapes", total=count)
        path = shapes.generate(split, out, images, force=force, progress=lambda done: progress.advance(task, done))
    folder = out / split
    if as_json:
        record = {"split": split, "images": count, "annotations": str(path), "folder": str(folder)}
        echo_json(json.dumps(record, indent=2))
    else:
        echo(f"{count} images in {folder}, annotations in {path}")
