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
from typing import Any, NamedTuple

import numpy as np

from cascadezoo.cli.predict_images import counted, images_together, shared_by
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


class _Made(NamedTuple):
    """What is made of a frame by itself: its picture and its line, where these are wanted, and its summary."""

    picture: Pixels | None
    line: bytes | None
    counts: dict[str, int]


class _Results(ExitStack):
    """The files of one video, with what has been added to them by the end, however that comes."""

    def __init__(self, frames: Frames, kinds: Sequence[str], folder: Path, stem: str, **of_outputs: Any) -> None:
        super().__init__()
        self._name, self._stem = frames.name, stem
        self.written: list[Path] = []
        others = [kind for kind in kinds if kind not in (_DRAWN, *_TOLD)]
        with ExitStack() as opened:  # closed where one of them cannot be
            self._film = self._lines = self._outputs = None
            if _DRAWN in kinds:
                self._film = opened.enter_context(Film(self._place(folder, ".mp4"), frames.fps, frames.size))
            if set(_TOLD) & set(kinds):
                self._lines = opened.enter_context(whole_file(self._place(folder, ".jsonl")))
            if others:
                self._outputs = opened.enter_context(Outputs(others, self._place(folder, ""), **of_outputs))
            self.push(opened.pop_all())

    def _place(self, folder: Path, suffix: str) -> Path:
        self.written.append(folder / f"{self._stem}{suffix}")
        return self.written[-1]

    def made(self, frame: Frame, detections: Detections) -> _Made:
        """What needs no order; files of the frame's own are written."""
        if self._outputs is not None:
            stem = f"{self._stem}-{frame.number:06d}"
            self._outputs.add(Shown(frame.number, f"{self._name}#{frame.number}", stem, frame.pixels), detections)
        return _Made(
            None if self._film is None else np.asarray(detections.plot(frame.pixels)),
            None if self._lines is None else _line(frame, detections),
            detections.counts(),
        )

    def add(self, made: _Made) -> None:
        """The next frame, to the files in which frames follow each other."""
        if self._film is not None and made.picture is not None:
            self._film.add(made.picture)
        if self._lines is not None and made.line is not None:
            self._lines.write(made.line)

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

    Raises MissingResource and UnreadableImage where there is no video, UnwritableOutput where nothing can be written.
    """
    counts: Counter[str] = Counter()
    interrupted, done = False, 0
    fault: CascadezooError | None = None
    with Frames(moving.source) as frames, _Results(frames, kinds, folder, stem, **of_outputs) as results:

        def work(batch: Sequence[Frame]) -> list[_Made]:
            found = predictor([frame.pixels for frame in batch])
            return [results.made(frame, one) for frame, one in zip(batch, found, strict=True)]

        shared = shared_by(predictor, frames.count or sys.maxsize, at_once)
        batches = windows(_numbered(frames), images_together(predictor))
        try:
            with (
                progress(f"predict {moving.name}", "frames", frames.count) as advance,
                closing(in_order(work, batches, shared)) as outcomes,
            ):
                for made in (one for batch in outcomes for one in batch):
                    results.add(made)
                    counts.update(made.counts)
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


def _line(frame: Frame, detections: Detections) -> bytes:
    height, width = detections.image_size
    results = [{name: value for name, value in each.items() if name != "image_id"} for each in detections.to_coco(0)]
    line = {"frame": frame.number, "seconds": round(frame.seconds, 6), "height": height, "width": width}
    return json.dumps(line | {"detections": results}, allow_nan=False).encode() + b"\n"
