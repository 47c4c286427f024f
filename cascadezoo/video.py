"""Frames of a video file or a camera, one after the other, and frames as a video file, by OpenCV with FFmpeg.

Frames are (H, W, 3) RGB.  ``model.predict(Frames("film.mp4"))`` detects on each as it comes.
"""

import math
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import cv2

from cascadezoo.errors import MissingResource, TooManyPixels, UnreadableImage, UnwritableOutput
from cascadezoo.files import whole_file
from cascadezoo.image_files import most_pixels, not_there
from cascadezoo.levels import Pixels
from cascadezoo.paths import expanded

_USUAL = 30.0  # frames a second, where none is stated
_MOST = 1000.0  # frames a second that are believed


class Frames(AbstractContextManager["Frames"], Iterator[Pixels]):
    """The frames of a video file, or of a camera, which has no end of its own.

    Attributes:
        name: of the file or camera, for messages.
        fps: frames a second, as stated; 30 where nothing is.
        size: (height, width) in pixels.
        count: frames, as a file's header states them; None where it does not.
        taken: frames given so far.
    """

    def __init__(self, source: str | os.PathLike[str] | int) -> None:
        """``source``: a file, or the number of a camera.

        Raises MissingResource: no such file, or no camera that gives a picture; UnreadableImage: no video, or one of
        more pixels than an image may have.
        """
        self.is_camera = isinstance(source, int)
        if isinstance(source, int):
            self.name = f"camera:{source}"
            self._capture = cv2.VideoCapture(source)
        else:
            path = expanded(source)
            self.name = str(path)
            if not path.exists():
                raise not_there(source)
            # of an absolute path FFmpeg makes no protocol and OpenCV no series of images
            self._capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
        self.taken = 0
        self._next = self._read()
        if self._next is None:
            self.close()
            if self.is_camera:
                raise MissingResource(f"{self.name} gives no picture: is it there, and does nobody else use it?")
            raise UnreadableImage(
                f"{self.name} is no video that OpenCV can decode: damaged, cut short or of another kind"
            )
        height, width = self.size = self._next.shape[:2]
        if height * width > most_pixels():
            self.close()
            raise TooManyPixels(
                f"{self.name} has frames of {width} x {height} pixels, more than the {most_pixels():,} allowed"
            )
        self.fps = self._stated(cv2.CAP_PROP_FPS, _MOST) or _USUAL
        count = 0.0 if self.is_camera else self._stated(cv2.CAP_PROP_FRAME_COUNT, 2.0**53)
        self.count = round(count) or None

    def __next__(self) -> Pixels:
        frame = self._next
        if frame is None:
            raise StopIteration
        self.taken += 1
        self._next = self._read()
        return frame

    @property
    def fault(self) -> UnreadableImage | None:
        """Why a video that has come to its end is not whole: some headers state frames by an estimate, which may be 2 %
        too high."""
        if self.count is None or self.taken >= self.count - max(1, self.count // 50):
            return None
        return UnreadableImage(
            f"{self.name} gave {self.taken:,} of the {self.count:,} frames that its header states: damaged or cut short"
        )

    def close(self) -> None:
        """Give the file or the camera back."""
        self._next = None
        self._capture.release()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> Pixels | None:
        """The next frame of the first one's size; others than that end a video, which has one size."""
        is_there, bgr = self._capture.read()
        if not is_there or bgr is None or (self.taken and bgr.shape[:2] != self.size):
            return None
        return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]

    def _stated(self, what: int, most: float) -> float:
        value = float(self._capture.get(what))
        return value if math.isfinite(value) and 0 < value <= most else 0.0


class Film(AbstractContextManager["Film"]):
    """An mp4 file of frames, MPEG-4 part 2; its last column or row is cut off where the width or height is odd.

    It is at its place when it is closed, with the frames added by then.
    """

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        """``size``: (height, width).  Raises UnwritableOutput."""
        self.path, self._part = path, path.with_name(f".{path.stem}.part{path.suffix}")
        height, width = size
        self._writer = cv2.VideoWriter(
            str(self._part.absolute()), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height)
        )
        if not self._writer.isOpened():
            raise UnwritableOutput(
                f"{path} cannot be written: no such folder, not allowed, or this OpenCV has no FFmpeg"
            )

    def add(self, frame: Pixels) -> None:
        """A frame of the film's size."""
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def __exit__(self, *_: object) -> None:
        self._writer.release()
        try:
            with self._part.open("rb") as film, whole_file(self.path) as file:  # a link or a device stays one
                shutil.copyfileobj(film, file)
        except OSError as error:
            raise UnwritableOutput(f"{self.path} cannot be written: {error.strerror or error}") from error
        finally:
            self._part.unlink(missing_ok=True)
