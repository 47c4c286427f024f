"""What was found in an annotation file, for people: its classes, and its faults."""

from pathlib import Path

from cascadezoo.cli.terminal import Styled, echo
from cascadezoo.coco.checking import Contents
from cascadezoo.coco.faults import KINDS, Faults
from cascadezoo.errors import BadAnnotations

MOST = 20  # faults shown of each kind


def print_table(path: Path, contents: Contents) -> None:
    """How many images and annotations there are, and how many of each class."""
    echo(f"{path}: {len(contents.images)} images, {contents.annotations} annotations")
    for category_id, name in sorted(contents.categories.items()):
        echo(f"{contents.objects[category_id]:9}  {name} (category {category_id})")


def print_faults(path: Path, faults: Faults) -> None:
    """A line per fault, the first of each kind, and how many more there are."""
    for fault in faults.first:
        then = KINDS[fault.kind].then
        echo(Styled(f"{path}: {fault}" + (f" ({then})" if then else ""), fg="yellow" if then else "red"))
    for kind, number in faults.counts.items():
        if number > faults.most:
            echo(f"{path}: {number - faults.most} more of the kind {kind}: {KINDS[kind].what}")


def require_accepted(path: Path, faults: Faults) -> None:
    """Raise BadAnnotations where training and verification refuse the file."""
    if faults.refused:
        total = faults.counts.total()
        raise BadAnnotations(
            f"{path} has {total} fault{'s' * (total > 1)}; for {faults.refused} of them training and verification "
            "refuse it"
        )
