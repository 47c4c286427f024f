"""Images detected on, drawn and written, several at once on a CPU."""

import os
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from cascadezoo.detections import Detections
from cascadezoo.devices import usable
from cascadezoo.errors import CascadezooError
from cascadezoo.images import read_image
from cascadezoo.outputs.found import Shown
from cascadezoo.outputs.outputs import Outputs
from cascadezoo.predictor import Predictor
from cascadezoo.threads import in_order, share


def predicted(
    predictor: Predictor, paths: Sequence[Path], outputs: Outputs, at_once: int | None = None
) -> Generator[str | CascadezooError, None, None]:
    """Of each image in turn a line that sums it up, or why it failed; a bar on stderr shows how many are done.

    Args:
        predictor: with a threshold, below which nothing is drawn or written.
        paths: the images; their ids count from 1.
        outputs: which writes them down.
        at_once: images worked on at once on a CPU, each from decoding to writing; None: one per core, at most 4; with
            test-time augmentation, whose images are large, one.
    """
    stems = _stems(paths, outputs.folder)

    def one(number: int) -> str | CascadezooError:
        path = paths[number]
        try:
            return _predict(predictor, path, stems[path], outputs, number + 1)
        except CascadezooError as error:
            return error

    shared = share(usable(predictor.device), len(paths), at_once or (1 if predictor.tta else None))
    with _bar(len(paths)) as bar, closing(in_order(one, range(len(paths)), shared)) as done:
        yield from bar.track(done, total=len(paths), description="predict")


def _predict(predictor: Predictor, path: Path, stem: str, outputs: Outputs, number: int) -> str:
    pixels = read_image(path)
    (detections,) = predictor([pixels])
    written = outputs.add(Shown(number, str(path), stem, pixels, path), detections)
    more = f" and {len(written) - 1} more" * (len(written) > 1)
    return f"{path}: {_summary(detections)}" + (f" -> {written[0]}{more}" if written else "")


def _summary(detections: Detections) -> str:
    counts = [f"{count} {label}" for label, count in detections.counts().items()]
    listed = f" ({', '.join(counts[:3] + ['…'] * (len(counts) > 3))})" if counts else ""
    return f"{len(detections)} detection{'s' * (len(detections) != 1)}{listed}"


def _stems(paths: Sequence[Path], out: Path) -> dict[Path, str]:
    """What the files of each image are named by: its own name, numbered where two images share one, and never such that
    a picture would replace an image that was given."""
    taken = {os.path.realpath(path).casefold() for path in paths}
    stems = {}
    for path in paths:
        stem, copy = path.stem, 1
        while (target := os.path.realpath(out / f"{stem}.jpg").casefold()) in taken:
            copy += 1
            stem = f"{path.stem}-{copy}"
        taken.add(target)
        stems[path] = stem
    return stems


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
