"""Films of moving squares, and a camera that shows one."""

from pathlib import Path

import cv2
import numpy as np


def pictures(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """RGB frames: a red square on blue that moves to the right."""
    frames = []
    for number in range(count):
        frame = np.full((height, width, 3), (20, 40, 200), np.uint8)
        left = number * 2 % (width - 16)
        frame[8:24, left : left + 16] = (220, 30, 30)
        frames.append(frame)
    return frames


def film(path: Path, frames: list[np.ndarray], code: str = "mp4v", fps: float = 10) -> Path:
    """The frames as a video file."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), fps, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


class Camera:
    """Stands for ``cv2.VideoCapture``: shows some frames, then raises ``end`` if there is one, else nothing more."""

    def __init__(self, frames: list[np.ndarray], fps: float = 25, end: BaseException | None = None) -> None:
        self.frames, self.fps, self.end = list(frames), fps, end
        self.opened: list[tuple[object, ...]] = []
        self.released = False

    def __call__(self, *source: object) -> "Camera":
        self.opened.append(source)
        return self

    def read(self) -> tuple[bool, np.ndarray | None]:
        if self.frames:
            return True, cv2.cvtColor(self.frames.pop(0), cv2.COLOR_RGB2BGR)
        if self.end is not None:
            raise self.end
        return False, None

    def get(self, what: int) -> float:
        return self.fps if what == cv2.CAP_PROP_FPS else -1.0

    def release(self) -> None:
        self.released = True
