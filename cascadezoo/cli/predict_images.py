"""Images detected on and what is found on them written, several at once on a CPU, or in batches."""

import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from cascadezoo.cli.sources import Still, stems_of
from cascadezoo.detections import Detections
from cascadezoo.devices import usable
from cascadezoo.errors import CascadezooError
from cascadezoo.images import Pixels
from cascadezoo.outputs.found import Shown
from cascadezoo.outputs.outputs import Outputs
from cascadezoo.predicting import windows
from cascadezoo.predictor import Predictor
from cascadezoo.threads import Share, in_order, share

Outcome = str | CascadezooError  # of an image: a line that sums it up, or why it failed


class _Item(NamedTuple):
    number: int  # from 0
    still: Still
    fetched: Still | bytes | CascadezooError


def predicted(
    predictor: Predictor, stills: Sequence[Still], outputs: Outputs, at_once: int | None = None
) -> Generator[Outcome, None, None]:
    """The outcome of each image in turn; a bar on stderr shows how many are done.

    Args:
        predictor: which says what is drawn and written, and how many images share a batch.
        stills: the images; their ids count from 1.
        outputs: which writes them down.
        at_once: batches worked on at once on a CPU, each from decoding to writing; None: with one image a batch, one
            per core, at most 4; else, and with test-time augmentation or tiles, whose images are large, one.
    """
    stems = stems_of([(still.stem, still.path) for still in stills], outputs.folder, ".jpg")

    def work(batch: Sequence[_Item]) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        read = list(_read(batch, outcomes))
        try:
            found = predictor([pixels for _, pixels in read]) if read else []
        except CascadezooError as error:
            return [outcomes.get(item.number, error) for item in batch]
        for (item, pixels), detections in zip(read, found, strict=True):
            shown = Shown(item.number + 1, item.still.name, stems[item.number], pixels, item.still.path)
            outcomes[item.number] = _written(shown, detections, outputs)
        return [outcomes[item.number] for item in batch]

    shared = shared_by(predictor, len(stills), at_once)
    items = windows(_fetched(stills), images_together(predictor))
    with _bar(len(stills)) as bar, closing(in_order(work, items, shared)) as done:
        each = (outcome for outcomes in done for outcome in outcomes)
        yield from bar.track(each, total=len(stills), description="predict")


def shared_by(predictor: Predictor, images: int, at_once: int | None) -> Share:
    """How batches of so many images share the cores; ``at_once`` as ``predicted`` takes it."""
    together = images_together(predictor)
    alone = 1 if predictor.tta or predictor.tiles or together > 1 else None
    return share(usable(predictor.device), -(-images // together), at_once or alone)


def images_together(predictor: Predictor) -> int:
    """How many images one batch is made of: with tiles, it is made of those of one."""
    return 1 if predictor.tiles else predictor.batch_size


def counted(counts: dict[str, int]) -> str:
    """So many detections of each class, in words."""
    total = sum(counts.values())
    named = [f"{count} {name}" for name, count in sorted(counts.items(), key=lambda each: -each[1])]
    listed = f" ({', '.join(named[:3] + ['…'] * (len(named) > 3))})" if named else ""
    return f"{total} detection{'s' * (total != 1)}{listed}"


def _fetched(stills: Iterable[Still]) -> Iterator[_Item]:
    """The images, those at addresses fetched one after the other by the thread that Ctrl-C reaches."""
    for number, still in enumerate(stills):
        try:
            yield _Item(number, still, still.fetched())
        except CascadezooError as error:
            yield _Item(number, still, error)


def _read(batch: Iterable[_Item], failed: dict[int, Outcome]) -> Iterator[tuple[_Item, Pixels]]:
    for item in batch:
        try:
            if isinstance(item.fetched, CascadezooError):
                raise item.fetched
            yield item, item.still.read(item.fetched)
        except CascadezooError as error:
            failed[item.number] = error


def _written(image: Shown, detections: Detections, outputs: Outputs) -> Outcome:
    try:
        written = outputs.add(image, detections)
    except CascadezooError as error:
        return error
    more = f" and {len(written) - 1} more" * (len(written) > 1)
    return f"{image.name}: {counted(detections.counts())}" + (f" -> {written[0]}{more}" if written else "")


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
