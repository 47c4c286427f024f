"""Records that are kept on the disk until all are there: memory does not grow with what they hold."""

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock
from typing import Any

from cascadezoo.errors import UnwritableOutput


class Spool:
    """Records by number, added in any order by several threads, and read in the order of their numbers.

    They lie in a file without a name, on the disk of ``folder``, which is gone when this process ends.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock = folder, Lock()
        self._places: list[tuple[int, int, int]] = []  # number, start, length
        self._end = 0
        try:
            self._file = TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed by ``close``
        except OSError as error:
            raise self._full(error) from error

    def add(self, number: int, record: dict[str, Any]) -> None:
        """Keep a record that JSON can hold.  Raises UnwritableOutput; then nothing of it is kept."""
        line = json.dumps(record, allow_nan=False).encode()
        with self._lock:
            try:
                self._file.seek(self._end)
                left = memoryview(line)
                while left:
                    left = left[self._file.write(left) :]
            except OSError as error:
                raise self._full(error) from error
            self._places.append((number, self._end, len(line)))
            self._end += len(line)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The records, each read when it is asked for."""
        for _, start, length in sorted(self._places):
            with self._lock:
                self._file.seek(start)
                line = self._file.read(length)
            yield json.loads(line)

    def close(self) -> None:
        """Give the disk's space back."""
        self._file.close()

    def _full(self, error: OSError) -> UnwritableOutput:
        return UnwritableOutput(f"{self._folder} cannot hold the results: {error.strerror or error}; nothing was left")
