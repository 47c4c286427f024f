"""``cascadezoo data check``: every fault of an annotation file and its images, before training or verification."""

import json
from pathlib import Path

import click

from cascadezoo.cli.command import Group
from cascadezoo.cli.findings import MOST, print_faults, print_table, require_accepted
from cascadezoo.cli.parameters import InputFile, InputFolder, OutputFile
from cascadezoo.cli.terminal import echo_json
from cascadezoo.coco.checking import Contents, check
from cascadezoo.coco.faults import KINDS, Faults
from cascadezoo.errors import HandledFaults
from cascadezoo.files import whole_file


@click.group(
    "data",
    cls=Group,
    short_help="Check a data set in COCO's format",
    examples=("cascadezoo data check train.json --images train",),
)
def data_command() -> None:
    """Data sets in COCO's instances format."""


@data_command.command(
    "check",
    short_help="Name every fault of an annotation file",
    examples=(
        "cascadezoo data check train.json --images train --draw sheet.png",
        "cascadezoo data check instances_val2017.json --json",
    ),
)
@click.argument("annotations", metavar="JSON", type=InputFile())
@click.option(
    "--images", metavar="DIR", type=InputFolder(), help="The images; their sizes are read, and nothing is decoded."
)
@click.option("--decode", is_flag=True, help="Decode every image of --images, too.")
@click.option("--draw", metavar="FILE", type=OutputFile(), help="A PNG of twelve images with what is annotated.")
@click.option("--json", "as_json", is_flag=True, help="Contents and faults as JSON.")
def check_command(annotations: Path, images: Path | None, decode: bool, draw: Path | None, as_json: bool) -> None:
    """Name every fault of the COCO instances file JSON and, with --images, of its images.

    Prints a line per fault with file, id and field (the first 20 of a kind, and how many there are), and the objects of
    each class.  A fault that training and verification go on from says how.  The file is read item by item: it may be
    larger than the memory.

    Exit code 0 without a fault, 1 where training and verification go on from all of them, 4 where they refuse the file.
    """
    if images is None and (decode or draw):
        raise click.UsageError("--decode and --draw need the folder of images: give --images")
    if draw == Path("-"):
        raise click.UsageError("--draw writes a picture: name a file")
    contents, faults = check(annotations, images, MOST, decode=decode)
    if as_json:
        echo_json(json.dumps(_record(annotations, contents, faults), indent=2))
    else:
        print_table(annotations, contents)
        print_faults(annotations, faults)
    require_accepted(annotations, faults)
    if draw and images:
        _draw(annotations, images, draw)
    if total := faults.counts.total():
        raise HandledFaults(f"{annotations} has {total} faults; training and verification go on from all of them")


def _draw(annotations: Path, images: Path, out: Path) -> None:
    from cascadezoo.cli.sheet import sheet  # and torch, which drawing takes masks from
    from cascadezoo.coco.dataset import CocoDataset

    picture = sheet(CocoDataset(annotations, images))
    with whole_file(out) as file:
        picture.save(file, "PNG")


def _record(path: Path, contents: Contents, faults: Faults) -> dict[str, object]:
    return {
        "file": str(path),
        "images": len(contents.images),
        "annotations": contents.annotations,
        "categories": [
            {"id": category_id, "name": name, "objects": contents.objects[category_id]}
            for category_id, name in sorted(contents.categories.items())
        ],
        "counts": dict(faults.counts),
        "faults": [
            {
                "kind": fault.kind,
                "in": fault.part,
                "index": fault.place,
                "id": fault.id,
                "field": fault.field,
                "problem": fault.problem,
                "then": KINDS[fault.kind].then,
            }
            for fault in faults.first
        ],
    }
