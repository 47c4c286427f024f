"""Images detected on, drawn and written, several at once on a CPU."""

import os
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from cascadezoo.detections import Detections
from cascadezoo.devices import usable
from cascadezoo.errors import CascadezooError
from cascadezoo.files import whole_file
from cascadezoo.images import read_image
from cascadezoo.predictor import Predictor
from cascadezoo.threads import in_order, share


class Predicted(NamedTuple):
    """What became of one image, whose picture is written.

    Attributes:
        record: COCO's, of the image.
        results: COCO's, of its detections.
        line: which sums it up.
    """

    record: dict[str, Any]
    results: list[dict[str, Any]]
    line: str


def predicted(
    predictor: Predictor, paths: Sequence[Path], out: Path, at_once: int | None = None
) -> Generator[Predicted | CascadezooError, None, None]:
    """Of each image in turn what became of it, or why it failed; a bar on stderr shows how many are done.

    Args:
        predictor: with a threshold, below which nothing is drawn or written.
        paths: the images; their ids count from 1.
        out: the folder of the pictures, JPEG.
        at_once: images worked on at once on a CPU, each from decoding to writing; None: one per core, at most 4; with
            test-time augmentation, whose images are large, one.
    """
    targets = _targets(paths, out)

    def one(number: int) -> Predicted | CascadezooError:
        path = paths[number]
        try:
            return _predict(predictor, path, targets[path], number + 1)
        except CascadezooError as error:
            return error

    shared = share(usable(predictor.device), len(paths), at_once or (1 if predictor.tta else None))
    with _bar(len(paths)) as bar, closing(in_order(one, range(len(paths)), shared)) as done:
        yield from bar.track(done, total=len(paths), description="predict")


def _predict(predictor: Predictor, path: Path, target: Path, number: int) -> Predicted:
    pixels = read_image(path)
    (detections,) = predictor([pixels])
    with whole_file(target) as file:
        detections.plot(pixels).save(file, "JPEG", quality=95, subsampling=0)
    height, width = detections.image_size
    record = {"id": number, "file_name": str(path), "height": height, "width": width}
    return Predicted(record, detections.to_coco(number), f"{path}: {_summary(detections)} -> {target}")


def _summary(detections: Detections) -> str:
    counts = [f"{count} {label}" for label, count in detections.counts().items()]
    listed = f" ({', '.join(counts[:3] + ['…'] * (len(counts) > 3))})" if counts else ""
    return f"{len(detections)} detection{'s' * (len(detections) != 1)}{listed}"


def _targets(paths: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Where each annotated picture goes: named after its source, numbered where two sources share a name, and never
    over an image that was given."""
    taken = {os.path.realpath(path).casefold() for path in paths}
    targets = {}
    for path in paths:
        target, copy = out / f"{path.stem}.jpg", 1
        while os.path.realpath(target).casefold() in taken:
            copy += 1
            target = out / f"{path.stem}-{copy}.jpg"
        taken.add(os.path.realpath(target).casefold())
        targets[path] = target
    return targets


@contextmanager
def _bar(images: int) -> Iterator[Progress]:
    """A bar on stderr where somebody sees it; lines for the same terminal are shown above it."""
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(
        *columns,
        console=console,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # else they would be taken from the file or pipe they belong to
        disable=images < 2 or not console.is_terminal,
    ) as progress:
        yield progress
