"""The images of one evaluation, shared among the processes of a run and with the runs that were stopped before it.

Whatever number of processes they had: each process adds to a file of its own, and what any file holds is done.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cascadezoo.benchmarks.verify.attempts import in_every_process, of_every_process
from cascadezoo.benchmarks.verify.coco_layout import CocoImage
from cascadezoo.benchmarks.verify.results_stream import Results, ResultsStream, kept_results
from cascadezoo.errors import FileError

if TYPE_CHECKING:
    from cascadezoo.benchmarks.verify.accuracy import DetectionCost
    from cascadezoo.distributed import World

_NAMED = 3  # images in a message


class Store(NamedTuple):
    """Where the results of one evaluation are kept.

    Attributes:
        folder: of the entry.
        stem: what the names of the files begin with.
        identity: of the results, as JSON data; a file of another identity does not count.
        is_temporary: the folder is removed when the run ends.
    """

    folder: Path
    stem: str
    identity: dict[str, Any]
    is_temporary: bool

    def files(self) -> list[Path]:
        """All that are there, of any number of processes."""
        return sorted(self.folder.glob(f"{self.stem}*.results"))

    def stream(self, world: "World") -> ResultsStream:
        """The file that this process adds to."""
        part = "" if world.size == 1 else f".{world.rank}of{world.size}"
        path = self.folder / f"{self.stem}{part}.results"
        return ResultsStream(path, self.identity, is_temporary=self.is_temporary)


def results_of_all(
    world: "World", store: Store, detect: Callable[[ResultsStream], "DetectionCost"]
) -> list[tuple["DetectionCost", dict[int, Results]]] | None:
    """What detecting took in each process, and the results it answers for, at the first process; None elsewhere.

    ``detect`` adds the results of this process's share to a stream.  Results that are there already are answered for
    by the first process that sees them: on several machines that may be another.  Raises Stopped.
    """
    held = in_every_process(world, lambda: {image_id for image_id, _ in kept_results(store.files(), store.identity)})
    seen = world.all_gather(held)
    done = set[int]().union(*seen)
    mine = held.difference(*seen[: world.rank])

    def share() -> tuple["DetectionCost", dict[int, Results]]:
        with store.stream(world) as stream:
            stream.done |= done
            cost = detect(stream)
            answered = mine | (stream.done - done)
        kept = kept_results(store.files(), store.identity)
        return cost, {image_id: results for image_id, results in kept if image_id in answered}

    return of_every_process(world, share)


def accounted(images: Sequence[CocoImage], shares: Sequence[dict[int, Results]]) -> Results:
    """The results on these images, by their order; raises FileError where an image has none, not even an empty list."""
    everything = {image_id: results for share in shares for image_id, results in share.items()}
    if missing := [str(image.path) for image in images if image.image_id not in everything]:
        named = ", ".join(missing[:_NAMED]) + (", …" if len(missing) > _NAMED else "")
        raise FileError(
            f"{len(missing)} of {len(images)} images have no results on disk ({named}), so no AP was made: something "
            "else wrote to or removed them; run the same command again"
        )
    return [result for image in images for result in everything[image.image_id]]
