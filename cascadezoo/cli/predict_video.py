"""A video, or what a camera sees, detected on frame by frame, and what is found on it written as it comes.

``STEM.mp4`` is the video with its detections drawn on it, ``STEM.jsonl`` has a line for each frame.  Other kinds of
results lie in a folder STEM, with the frames for images.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from cascadezoo.cli.predict_images import counted, shared_by
from cascadezoo.cli.progress import progress
from cascadezoo.cli.sources import Moving
from cascadezoo.detections import Detections
from cascadezoo.errors import CascadezooError
from cascadezoo.files import whole_file
from cascadezoo.images import Pixels
from cascadezoo.outputs.found import Shown
from cascadezoo.outputs.outputs import Outputs
from cascadezoo.predicting import windows
from cascadezoo.predictor import Predictor
from cascadezoo.threads import in_order
from cascadezoo.video import Film, Frames

_DRAWN, _TOLD = "picture", ("coco", "json")  # kinds that a video has in a form of its own


class Frame(NamedTuple):
    """A frame of a video: its number from 0, the seconds since the first, and its pixels."""

    number: int
    seconds: float
    pixels: Pixels


class Seen(NamedTuple):
    """What became of a video.

    Attributes:
        record: of it, for a document of all images.
        line: which sums it up.
        fault: why it ended before its end.
        interrupted: whether Ctrl-C ended it, which is how a camera ends.
        notes: what a kind of results has no place for.
    """

    record: dict[str, Any]
    line: str
    fault: CascadezooError | None
    interrupted: bool
    notes: list[str]


class _Results(ExitStack):
    """The files of one video, with what has been added to them by the end, however that comes."""

    def __init__(self, frames: Frames, kinds: Sequence[str], folder: Path, stem: str, **of_outputs: Any) -> None:
        super().__init__()
        self._film: Film | None = None
        self._lines: BinaryIO | None = None
        self._outputs: Outputs | None = None
        self.written: list[Path] = []
        if _DRAWN in kinds:
            self.written.append(folder / f"{stem}.mp4")
            self._film = self.enter_context(Film(self.written[-1], frames.fps, frames.size))
        if set(_TOLD) & set(kinds):
            self.written.append(folder / f"{stem}.jsonl")
            self._lines = self.enter_context(whole_file(self.written[-1]))
        if others := [kind for kind in kinds if kind not in (_DRAWN, *_TOLD)]:
            self.written.append(folder / stem)
            self._outputs = self.enter_context(Outputs(others, self.written[-1], **of_outputs))
        self._name, self._stem = frames.name, stem

    def drawn(self, frame: Frame, detections: Detections) -> Pixels | None:
        """What needs no order: the picture, and files of the frame's own."""
        if self._outputs is not None:
            image = Shown(frame.number, f"{self._name}#{frame.number}", f"{self._stem}-{frame.number:06d}", frame.pixels)
            self._outputs.add(image, detections)
        return None if self._film is None else np.asarray(detections.plot(frame.pixels))

    def add(self, frame: Frame, detections: Detections, picture: Pixels | None) -> None:
        """The next frame of the files in which frames follow each other."""
        if self._film is not None and picture is not None:
            self._film.add(picture)
        if self._lines is not None:
            height, width = detections.image_size
            results = [
                {name: value for name, value in each.items() if name != "image_id"} for each in detections.to_coco(0)
            ]
            line = {
                "frame": frame.number, "seconds": round(frame.seconds, 6), "height": height, "width": width,
                "detections": results,
            }  # fmt: skip
            self._lines.write(json.dumps(line, allow_nan=False).encode() + b"\n")

    def finish(self) -> list[str]:
        """Write what is of all frames; returns what was left out of it."""
        if self._outputs is None:
            return []
        self._outputs.finish()
        return self._outputs.notes


def seen(
    predictor: Predictor, moving: Moving, kinds: Sequence[str], folder: Path, stem: str, at_once: int | None,
    **of_outputs: Any,
) -> Seen:  # fmt: skip
    """Detect on every frame, until the video ends, is damaged, or Ctrl-C is pressed; what came before is written.

    Args:
        predictor: which says what is drawn and written, and how many frames share a batch.
        kinds: of results (``outputs.kinds``).
        folder, stem: where, and by which name.
        at_once: batches worked on at once on a CPU; None: as ``predict_images.predicted`` has it.
        of_outputs: further arguments of ``Outputs``.

    Raises MissingResource and UnreadableImage
    where there is no video, UnwritableOutput where nothing can be written.
    """
    counts: Counter[str] = Counter()
    interrupted, fault, done = False, None, 0
    with Frames(moving.source) as frames, _Results(frames, kinds, folder, stem, **of_outputs) as results:

        def work(batch: Sequence[Frame]) -> list[tuple[Frame, Detections, Pixels | None]]:
            found = predictor([frame.pixels for frame in batch])
            return [(frame, one, results.drawn(frame, one)) for frame, one in zip(batch, found, strict=True)]

        shared = shared_by(predictor, frames.count or sys.maxsize, at_once)
        batches = windows(_numbered(frames), predictor.batch_size)
        try:
            with (
                progress(f"predict {moving.name}", "frames", frames.count) as advance,
                closing(in_order(work, batches, shared)) as outcomes,
            ):
                for frame, detections, picture in (one for batch in outcomes for one in batch):
                    results.add(frame, detections, picture)
                    counts.update(detections.counts())
                    done += 1
                    advance(1)
            fault = frames.fault
        except KeyboardInterrupt:
            interrupted = True
        except CascadezooError as error:
            fault = error
        notes = results.finish()
    height, width = frames.size
    record = {"file_name": moving.name, "frames": done, "fps": frames.fps, "height": height, "width": width}
    written = f" -> {', '.join(map(str, results.written))}" if results.written else ""
    line = f"{moving.name}: {done} frame{'s' * (done != 1)}, {counted(dict(counts.most_common()))}{written}"
    return Seen(record, line, fault, interrupted, notes)


def _numbered(frames: Frames) -> Iterator[Frame]:
    began = time.monotonic()
    for number, pixels in enumerate(frames):
        seconds = time.monotonic() - began if frames.is_camera else number / frames.fps
        yield Frame(number, seconds, pixels)

