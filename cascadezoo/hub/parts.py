"""A file that is arriving: its bytes so far, their hashes, and which version of the file they belong to."""

import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from cascadezoo.errors import UnwritableOutput
from cascadezoo.files import whole_file
from cascadezoo.hub.redaction import redacted
from cascadezoo.paths import made

CHUNK = 256 * 1024  # bytes


class Version(BaseModel):
    """Which version of a file some bytes belong to, by its server's headers.

    ``url`` is without its secrets, as everything that is kept or shown; ``size`` is the whole file's, in bytes.
    """

    model_config = ConfigDict(frozen=True)

    url: str
    etag: str | None = None
    last_modified: str | None = None
    size: int | None = None

    @property
    def validator(self) -> str | None:
        """What If-Range takes: an ETag, unless it is weak, else the date."""
        weak = self.etag is None or self.etag.startswith("W/")
        return self.last_modified if weak else self.etag


@dataclass(frozen=True)
class Fetched:
    """A file that has arrived whole.

    Attributes:
        path: where it lies.
        url: where it came from, without its secrets.
        size: in bytes.
        sha256: in hexadecimal.
        md5: in hexadecimal, where it was asked for.
        etag: the server's, where it sent one.
    """

    path: Path
    url: str
    size: int
    sha256: str
    md5: str | None
    etag: str | None


class Hashes:
    """sha256, and md5 where it is asked for, of bytes as they come."""

    def __init__(self, md5: bool) -> None:
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None
        self.size = 0

    def update(self, block: bytes) -> None:
        """Take the next block."""
        self._sha256.update(block)
        if self._md5:
            self._md5.update(block)
        self.size += len(block)

    def fetched(self, path: Path, url: str, etag: str | None = None) -> Fetched:
        """What is known of the file with these bytes."""
        md5 = self._md5.hexdigest() if self._md5 else None
        return Fetched(path, url, self.size, self._sha256.hexdigest(), md5, etag)


class Part:
    """The part file at ``path`` and the note beside it; bytes of another url, or of no known version, are dropped.

    Writes are not buffered: what has arrived survives the process.  Both are for their owner alone: what they hold may
    want a password.
    """

    def __init__(self, path: Path, url: str, md5: bool) -> None:
        self.path = path
        self.url = url
        self.version = Version(url=redacted(url))
        self._md5 = md5
        self._hashes = Hashes(md5)
        self._finished = False
        self._file: BinaryIO

    def __enter__(self) -> Self:
        noted = self._noted()
        try:
            made(self.path.parent)
            self._file = open(self.path, "a+b", buffering=0, opener=_for_the_owner)
            self.path.chmod(0o600)  # one that an earlier version began
        except OSError as error:
            raise _unwritable(self.path, error) from error
        if noted is None:
            self.restart()
        else:
            self.version = noted
            self._file.seek(0)
            while block := self._file.read(CHUNK):
                self._hashes.update(block)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        if not (self.size or self._finished):  # nothing came
            self.path.unlink(missing_ok=True)
            self._note.unlink(missing_ok=True)

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self._hashes.size

    @property
    def can_resume(self) -> bool:
        """Whether a server can check that its present file begins with these bytes."""
        return self.size > 0 and self.version.validator is not None

    @property
    def is_complete(self) -> bool:
        """Whether all bytes are there."""
        return self._finished or (self.version.size is not None and self.size == self.version.size > 0)

    def resume_headers(self) -> dict[str, str]:
        """What to ask for: the rest, if the file is still the same."""
        if not self.can_resume:
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": self.version.validator or ""}

    def restart(self, version: Version | None = None) -> None:
        """Drop what has arrived; ``version`` is what comes now."""
        self.version = version or Version(url=redacted(self.url))
        self._hashes = Hashes(self._md5)
        self._file.truncate(0)
        if self.version.validator is None:
            self._note.unlink(missing_ok=True)
        else:
            self._write_note()

    def require_room(self) -> None:
        """Raise UnwritableOutput where the disk cannot take what is missing."""
        missing = (self.version.size or 0) - self.size
        free = shutil.disk_usage(self.path.parent).free
        if missing > free:
            raise UnwritableOutput(
                f"{redacted(self.url)} needs {missing:,} bytes more, and {self.path.parent} has {free:,} left: make "
                "room there, or set CASCADEZOO_HOME to a larger disk"
            )

    def write(self, block: bytes) -> None:
        """Append a block."""
        rest = memoryview(block)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._file.truncate(self.size)  # what the hashes know, no more
            raise _unwritable(self.path, error) from error
        self._hashes.update(block)

    def finish(self) -> None:
        """The server has sent all."""
        self._finished = True
        if self.version.size is None and self.version.validator is not None:
            self.version = self.version.model_copy(update={"size": self.size})
            self._write_note()

    def fetched(self) -> Fetched:
        """The whole file, written through to the disk."""
        os.fsync(self._file.fileno())
        return self._hashes.fetched(self.path, redacted(self.url), self.version.etag)

    @property
    def _note(self) -> Path:
        return _note_of(self.path)

    def _noted(self) -> Version | None:
        """The note of an earlier run, where it is of this url and can be believed."""
        try:
            version = Version.model_validate_json(self._note.read_bytes())
        except (OSError, ValidationError):
            return None
        return version if version.url == redacted(self.url) else None

    def _write_note(self) -> None:
        with whole_file(self._note, 0o600) as file:
            file.write(self.version.model_dump_json().encode())


def move(part: Path, target: Path) -> None:
    """Give a file that has arrived its place, readable by whoever may read the folder; its note goes after it, so that
    no moment loses it."""
    made(target.parent)
    with suppress(PermissionError):  # of a file system that keeps no modes
        part.chmod(target.parent.stat().st_mode & 0o666)
    os.replace(part, target)
    _note_of(part).unlink(missing_ok=True)


def drop(part: Path) -> None:
    """Remove a file that has arrived, and its note."""
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)


def hashed(path: Path, url: str, md5: bool) -> Fetched:
    """A file that is already here, hashed."""
    hashes = Hashes(md5)
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            hashes.update(block)
    return hashes.fetched(path, url)


def copied(source: Path, path: Path, md5: bool) -> Fetched:
    """Copy a file of a mirror folder, hashing it on the way; raises UnwritableOutput."""
    hashes = Hashes(md5)
    made(path.parent)
    with source.open("rb") as file, whole_file(path) as copy:
        while block := file.read(CHUNK):
            hashes.update(block)
            copy.write(block)
    return hashes.fetched(path, source.absolute().as_uri())


def _for_the_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _unwritable(path: Path, error: OSError) -> UnwritableOutput:
    return UnwritableOutput(
        f"{path} cannot be written: {error.strerror or error}; what has arrived is kept: make room there, or set "
        "CASCADEZOO_HOME to another disk"
    )
