"""Servers of a small network, each in a process of its own, and images for them."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

TESTS = Path(__file__).parent
SCORE = 0.3  # the threshold of the servers
SERVE = (sys.executable, str(TESTS / "tiny_zoo.py"), "serve")


def environ() -> dict[str, str]:
    """Of a process that imports what this one does, and computes with one thread."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


class Server(NamedTuple):
    """A server that listens, in a process of its own."""

    process: subprocess.Popen
    url: str
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def connected(self) -> socket.socket:
        """A connection without a client's courtesy."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def ended(self, number: int = signal.SIGTERM) -> int:
        """Tell it to end; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def listening(command: list[str], log: Path) -> Iterator[Server]:
    """The server that a command starts; what it says goes into ``log``."""
    with log.open("w") as file:
        process = subprocess.Popen(command, stderr=file, env=environ())
    try:
        yield Server(process, _url(process, log), log)
    finally:
        process.kill()
        process.wait()


def _url(process: subprocess.Popen, log: Path) -> str:
    while process.poll() is None:
        if found := re.search(r"^serving .* at (http://\S+:\d+),", log.read_text(), re.MULTILINE):
            return found[1]
        time.sleep(0.1)
    raise RuntimeError(f"no server: {log.read_text()}")


def image(number: int) -> np.ndarray:
    """A smooth image of its own, of one of three sizes that differ when padded."""
    height, width = ((60, 90), (64, 64), (90, 60))[number % 3]
    noise = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
