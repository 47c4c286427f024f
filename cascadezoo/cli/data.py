"""``cascadezoo data``: every fault of an annotation file and its images, before training or verification; and other
formats of annotations to COCO's."""

import json
from pathlib import Path

import click

from cascadezoo.cli.command import Group
from cascadezoo.cli.findings import MOST, print_faults, print_table, require_accepted
from cascadezoo.cli.parameters import InputFile, InputFolder, InputPath, OutputFile
from cascadezoo.cli.terminal import echo, echo_json
from cascadezoo.coco.checking import Contents, check
from cascadezoo.coco.faults import KINDS, Faults
from cascadezoo.errors import BadAnnotations, HandledFaults
from cascadezoo.files import protect, whole_file
from cascadezoo.hub.progress import steps

_FORMATS = ("yolo", "voc", "labelme")


@click.group(
    "data",
    cls=Group,
    short_help="Check a data set, or convert it to COCO's",
    examples=("cascadezoo data check train.json --images train", "cascadezoo data convert VOC2012 -o train.json"),
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
    with steps(f"checking {annotations.name}"):
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
        raise HandledFaults(
            f"{annotations} has {total} fault{'s' * (total > 1)}; training and verification go on from all of them"
        )


@data_command.command(
    "convert",
    short_help="YOLO, VOC or LabelMe to COCO's, or back",
    examples=(
        "cascadezoo data convert VOC2012 --split Segmentation/train -o train.json",
        "cascadezoo data convert data.yaml --split train -o train.json",
        "cascadezoo data convert train.json --images train --to labelme -o edit",
    ),
)
@click.argument("source", type=InputPath())
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    type=OutputFile(),
    required=True,
    help="The COCO file to write; with --to, the folder.",
)
@click.option("--from", "origin", type=click.Choice(_FORMATS), help="The format of SOURCE, if it is not recognised.")
@click.option("--to", type=click.Choice(_FORMATS), help="Write this format: SOURCE is a COCO file then.")
@click.option("--images", metavar="DIR", type=InputFolder(), help="The images, where they do not lie with SOURCE.")
@click.option("--split", metavar="NAME", help="A part of SOURCE: of YOLO's data.yaml or VOC's ImageSets.")
@click.option("--names", metavar="FILE", type=InputFile(), help="The names of the classes in their order, one a line.")
@click.option("--force", is_flag=True, help="Replace an existing COCO file.")
def convert_command(
    source: Path,
    output: Path,
    origin: str | None,
    to: str | None,
    images: Path | None,
    split: str | None,
    names: Path | None,
    force: bool,
) -> None:
    """Write the annotations of the data set SOURCE as a COCO instances file, and check that; or write those of a COCO
    file in another format.

    SOURCE is a folder or, for YOLO, may be its YAML file.  Images are not copied.  What is left out or clipped is said
    on stderr, with the first place; what cannot be understood is refused, with file and line.
    """
    from cascadezoo.formats.conversion import Format, from_coco, to_coco

    if output == Path("-"):
        raise click.UsageError("what is converted is checked, or has many files: name a file or a folder")
    if to is not None:
        if origin or split or names or images is None or not source.is_file():
            raise click.UsageError(
                "--to takes a COCO file as SOURCE and its --images, and no --from, --split or --names"
            )
        with steps(f"converting {source.name}"):
            done = from_coco(source, images, output, Format(to))
    else:
        protect(output, source, force)
        chosen = None if origin is None else Format(origin)
        with steps(f"converting {source.name}"):
            done = to_coco(source, output, chosen, images=images, split=split, names=names)
    for note in done.notes:
        echo(note, err=True)
    if to is not None:
        where = "its images lie in" if to != "yolo" else "put or link there, as the folder images,"
        echo(f"{output}: {where} {done.images}", err=True)
        return
    with steps(f"checking {output.name}"):
        contents, faults = check(output, done.images, MOST)
    print_table(output, contents)
    print_faults(output, faults)
    if faults.refused:
        raise BadAnnotations(
            f"{output} has {faults.refused} fault{'s' * (faults.refused > 1)} for which training and verification "
            "refuse it"
        )
    echo(f"{output}: its images lie in {done.images}", err=True)


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
