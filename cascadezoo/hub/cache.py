"""Where files lie below the cache folder, and one lock an entry.  The environment is read at call time."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from filelock import FileLock, Timeout

from cascadezoo.errors import UnwritableOutput
from cascadezoo.manifest import ZooEntry

_log = logging.getLogger("cascadezoo")


def home() -> Path:
    """``$CASCADEZOO_HOME``, else ``cascadezoo`` in the user's XDG cache folder."""
    if own := os.environ.get("CASCADEZOO_HOME"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cascadezoo"


def canonical_path(name: str) -> Path:
    """Where the canonical file of the entry with this full name lies, if it is there."""
    return home() / "canonical" / f"{name}.safetensors"


def weights_path(entry: ZooEntry) -> Path:
    """Where an entry's canonical file lies, or will lie: in the cache, or of an embedded one in this package."""
    if entry.availability == "embedded":
        return Path(str(files("cascadezoo.zoo_manifest") / entry.source.checkpoint_url))
    return canonical_path(entry.name)


def original_path(name: str, file: str) -> Path:
    """Where the publisher's own file of an entry is kept, under its own name."""
    return home() / "originals" / name / file


def part_path(name: str, file: str) -> Path:
    """Where the publisher's file grows while it arrives."""
    return home() / "parts" / name / file


def quarantine_path(name: str, file: str, sha256: str) -> Path:
    """Where a file goes that was not the one expected; the same wrong file again takes no more room."""
    return home() / "quarantine" / name / f"{sha256[:16]}-{file}"


def record_path(name: str) -> Path:
    """Where it is noted which file of an entry was trusted."""
    return home() / "records" / f"{name}.json"


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Only one process, and one thread of it, at a time is here for an entry; the others wait.

    The lock ends with its process, however that ends.  Raises UnwritableOutput where the cache cannot be written.
    """
    path = home() / "locks" / f"{name}.lock"
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            _log.warning("%s: waiting for another process that is fetching it", name)
            lock.acquire()
    except OSError as error:
        raise UnwritableOutput(
            f"{name} is not in the cache {home()}, which cannot be written ({error.strerror or error}): set "
            "CASCADEZOO_HOME to a folder of your own, or give the weights as a file"
        ) from error
    try:
        yield
    finally:
        lock.release()
