"""``cascadezoo shapes``: write the drawn data set."""

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from cascadezoo import shapes


@click.command("shapes")
@click.option("--split", type=click.Choice(list(shapes.SIZES)), required=True, help="Which part of the data set.")
@click.option(
    "--out", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), required=True, help="Where it goes."
)
@click.option("--images", type=click.IntRange(min=1), help="Only so many images; default: 4000 (train), 500 (val).")
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
        click.echo(json.dumps(record, indent=2))
    else:
        click.echo(f"{count} images in {folder}, annotations in {path}")
