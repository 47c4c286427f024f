"""Detections on their way to disk: a file that grows by one line per image and survives being cut off at any byte.

A line is the CRC-32 of its JSON, a blank, and the JSON ``[image_id, results]``.  The first line says what the results
are of.  Whatever follows the last whole line is dropped when the file is opened again.
"""

import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cascadezoo.errors import UnwritableOutput

Results = list[dict[str, Any]]


class ResultsStream:
    """The results file of one evaluation, open for adding to it.

    ``identity`` is JSON data that says which results these are: a file with another one is begun anew.  ``done`` are
    the ids of the images that it holds.  ``is_temporary``: the file will be gone when the run ends, which errors say.
    """

    def __init__(self, path: Path, identity: dict[str, Any], *, is_temporary: bool = False) -> None:
        self.path, self.is_temporary = path, is_temporary
        self.done: set[int] = set()
        self._size = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                self._read(identity)
            self._file = path.open("ab", buffering=0)
            self._file.truncate(self._size)
            if not self._size:
                self._write(identity)
        except OSError as error:
            raise self._unwritable(error) from error

    def add(self, image_id: int, results: Results) -> None:
        """Append the results of one image, unless they are there.

        Raises UnwritableOutput when the disk is full, for example; what was written before stays.
        """
        if image_id in self.done:
            return
        try:
            self._write([image_id, results])
        except OSError as error:
            raise self._unwritable(error) from error
        self.done.add(image_id)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, identity: dict[str, Any]) -> None:
        """Find the end of the last whole line of ours."""
        with self.path.open("rb") as file:
            for line, record in _whole_lines(file):
                if not self._size:
                    if record != json.loads(json.dumps(identity)):
                        return
                else:
                    self.done.add(record[0])
                self._size += len(line)

    def _write(self, record: object) -> None:
        """One line, straight to the system: it outlives this process."""
        line = _line(record)
        try:
            written = 0
            while written < len(line):
                written += self._file.write(line[written:]) or 0
        except OSError:
            self._file.truncate(self._size)
            raise
        self._size += len(line)

    def _unwritable(self, error: OSError) -> UnwritableOutput:
        advice = (
            "nothing of it is kept: make room, set TMPDIR to a folder with more, or give --run-dir DIR to go on later"
            if self.is_temporary
            else "the results so far are kept: make room and run the same command again"
        )
        return UnwritableOutput(f"{self.path} cannot be written: {error.strerror or error}; {advice}")


def read_results(path: Path) -> dict[int, Results]:
    """The results in a file, by the id of their image; the first line and a torn end are left out."""
    with path.open("rb") as file:
        lines = _whole_lines(file)
        next(lines, None)
        return {image_id: results for _, (image_id, results) in lines}


def kept_results(paths: Iterable[Path], identity: dict[str, Any]) -> Iterator[tuple[int, Results]]:
    """Id and results of every image in those of the files that have this identity."""
    wanted = json.loads(json.dumps(identity))
    for path in paths:
        with path.open("rb") as file:
            lines = _whole_lines(file)
            if next(lines, (b"", None))[1] == wanted:
                yield from ((image_id, results) for _, (image_id, results) in lines)


def merged(parts: list[dict[int, Results]]) -> Results:
    """One list of results, by the id of their image, each image's in their own order."""
    everything = {image_id: results for part in parts for image_id, results in part.items()}
    return [result for image_id in sorted(everything) for result in everything[image_id]]


def _line(record: object) -> bytes:
    data = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(data), data)


def _whole_lines(file: Any) -> Iterator[tuple[bytes, Any]]:
    for line in file:
        crc, _, data = line[:-1].partition(b" ")
        if not line.endswith(b"\n") or crc != b"%08x" % zlib.crc32(data):
            return
        yield line, json.loads(data)
