"""Finished parts of a run: a folder in which each part of the images is a file, whole or not there.

``run.json`` says whose results they are; a folder that is another run's is refused.  A part is a file of JSON lines,
one for each of its images: ``image_id``, ``file_name``, and either ``height``, ``width`` and ``detections`` (COCO
results), or ``error`` and ``error_type``.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascadezoo.batch.sources import Piece, RowGroup, is_uri
from cascadezoo.errors import CorruptData, UsageError
from cascadezoo.files import parse_json, remove_abandoned, whole_file, write_json
from cascadezoo.folder_lock import locked

Run = Mapping[str, Mapping[str, Any]]

_RUN = "run.json"
_FORMAT = "cascadezoo predict parts 1"
_FEWEST, _MOST, _PARTS = 8, 64, 64  # images in a part of files; parts that a run of few images has


@dataclass(frozen=True)
class Part:
    """Images that are computed, kept and, after a failure, computed again together.

    Attributes:
        number: 0, 1, …
        first: the ``image_id`` of its first image; the others follow.
        names: its images, as they are called in the results: all paths, or all URIs, or rows of ``group``.
        group: where they lie, if they are no files of their own.
    """

    number: int
    first: int
    names: tuple[str, ...]
    group: RowGroup | None = None


def divided(pieces: Sequence[Piece]) -> list[Part]:
    """The images in parts, whose extent depends on nothing else; ids count from 1, in the order of the images."""
    files = sum(isinstance(piece, str) for piece in pieces)
    size = min(_MOST, max(_FEWEST, -(-files // _PARTS)))
    parts: list[Part] = []
    names: list[str] = []
    first = 1

    def close(group: RowGroup | None = None) -> None:
        nonlocal first
        if names:
            parts.append(Part(len(parts), first, tuple(names), group))
            first += len(names)
            names.clear()

    for piece in pieces:
        if isinstance(piece, RowGroup):
            close()
            names.extend(piece.names())
            close(piece)
        else:
            if names and (len(names) == size or is_uri(piece) != is_uri(names[0])):
                close()
            names.append(piece)
    close()
    return parts


def digest_of(parts: Sequence[Part]) -> str:
    """A SHA-256 of the images' names and of how they are divided."""
    digest = hashlib.sha256()
    for part in parts:
        text = json.dumps([part.first, part.names if part.group is None else part.group.identity()])
        digest.update(text.encode(errors="surrogatepass"))
    return digest.hexdigest()


class PartsFolder:
    """The finished parts of one run.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def claim(self, run: Run) -> None:
        """Write down whose results these are: ``run`` by what it is (model, settings, …), each by name.

        Raises UsageError where there are finished parts of another run.
        """
        path = self.path / _RUN
        now = json.loads(json.dumps(run))
        if not self.done():
            write_json(path, {"format": _FORMAT, **now})
            return
        try:
            earlier = parse_json(path.read_bytes())
        except (OSError, ValueError):
            earlier = None
        if not isinstance(earlier, dict) or earlier.pop("format", None) != _FORMAT:
            raise UsageError(f"{path} is damaged or of another version: {self._way_out()}")
        if differ := [
            f"{name} was {_shown(then.get(name))}, is {_shown(value)}"
            for what, values in now.items()
            for then in [earlier.get(what) or {}]
            for name, value in values.items()
            if then.get(name) != value
        ]:
            raise UsageError(f"{self.path} holds the parts of another run ({'; '.join(differ)}): {self._way_out()}")

    def done(self) -> set[int]:
        """The numbers of the finished parts."""
        stems = [path.stem.removeprefix("part-") for path in self.path.glob("part-*.jsonl")]
        return {int(stem) for stem in stems if stem.isdecimal()}

    def keep(self, part: Part, lines: Sequence[str]) -> None:
        """Write a finished part, one line for each image in order.  Raises UnwritableOutput."""
        with whole_file(self._file(part)) as file:
            file.writelines(line.encode(errors="backslashreplace") + b"\n" for line in lines)

    def read(self, part: Part) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Each line of a finished part, and what it says.  Raises CorruptData where it is not what was written."""
        path = self._file(part)
        try:
            lines = path.read_bytes().splitlines(keepends=True)
            records = [json.loads(line) for line in lines]
            if [record["image_id"] for record in records] != list(range(part.first, part.first + len(part.names))):
                raise ValueError("it holds other images")
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise CorruptData(
                f"{path} is not what was written ({error}): remove it, and the same command computes it again"
            ) from error
        yield from zip(lines, records, strict=True)

    def _file(self, part: Part) -> Path:
        return self.path / f"part-{part.number:06d}.jsonl"

    def _way_out(self) -> str:
        return f"choose another --out, or remove the folder {self.path} to begin anew"


@contextmanager
def parts_folder(path: Path) -> Iterator[PartsFolder]:
    """The folder, made where it is missing, for this process alone within the block; the lock ends with the process.

    Raises RunInUse where another process has it, UnwritableOutput.
    """
    in_use = f"{path} is in use by another `cascadezoo predict`: wait for its end, or choose another --out"
    with locked(path, in_use=in_use, unusable=f"{path} cannot hold the parts of the results"):
        remove_abandoned(path)
        yield PartsFolder(path)


def _shown(value: object) -> str:
    return f"{value[:12]}…" if isinstance(value, str) and len(value) > 40 else str(value)
