"""``cascadezoo demo``: the model inside the package at work, without network."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from cascadezoo.cli.command import Command
from cascadezoo.cli.parameters import OutputFolder
from cascadezoo.cli.terminal import Styled, echo

if TYPE_CHECKING:
    from cascadezoo.benchmarks.measure.demo import Row


@click.command(
    "demo",
    cls=Command,
    short_help="See the model in the package at work",
    examples=("cascadezoo demo", "cascadezoo demo --out /tmp/demo --images 20"),
)
@click.option(
    "-o", "--out", metavar="DIR", type=OutputFolder(), default=Path("demo"), show_default=True,
    help="Where the images and the picture go.",
)  # fmt: skip
@click.option(
    "--images", metavar="N", type=click.IntRange(1, 500), default=100, show_default=True, help="Images to detect on."
)
def demo_command(out: Path, images: int) -> None:
    """Draw images of coloured shapes, detect them with the small model inside the package, and measure its accuracy and
    its speed on this machine.

    Needs no network.  Prints a table, and draws what was found on one image into DIR/detections.jpg.
    """
    echo(f"drawing {images} images of coloured shapes, which the model has never seen", err=True)
    from cascadezoo.benchmarks.measure.demo import ENTRY, demo  # and torch

    echo(f'model = cascadezoo.load("{ENTRY}", pretrained=True)', err=True)
    echo("detections = model.predict(image), for each of them", err=True)
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("images", total=images)
        found = demo(out, images, lambda number: bar.update(task, completed=number))
    _print_table(found.rows, images)
    echo(f"image and detections, side by side: {found.picture}", err=True)


def _print_table(rows: "list[Row]", images: int) -> None:
    head = ("", f"on {images} here", "on all 500", "")
    cells = [head, *rows]
    first, here, everywhere = (max(len(row[at]) for row in cells) for at in range(3))
    for number, (name, measured, expected, meaning) in enumerate(cells):
        line = f"{name:{first}}  {measured:>{here}}  {expected:>{everywhere}}  {meaning}".rstrip()
        echo(Styled(line, bold=True) if number == 0 else line)
