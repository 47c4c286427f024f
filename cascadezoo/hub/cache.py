"""Where an entry's weights lie, and one lock an entry."""

import atexit
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path

from filelock import FileLock, Timeout

from cascadezoo.errors import CorruptCheckpoint, UnwritableOutput
from cascadezoo.manifest import ZooEntry
from cascadezoo.paths import canonical_path, home, made

_log = logging.getLogger("cascadezoo")


def weights_path(entry: ZooEntry) -> Path:
    """Where an entry's canonical file lies, or will lie: in the cache, or of an embedded one in this package."""
    if entry.availability == "embedded":
        return Path(str(_in_package(entry)))
    return canonical_path(entry.name)


def embedded_file(entry: ZooEntry) -> Path:
    """The canonical file of an entry that this package holds; where the package is an archive, a copy outside of it.

    Raises CorruptCheckpoint where the package lacks it, and UnwritableOutput where there is no room for a copy.
    """
    path = weights_path(entry)
    if path.is_file():
        return path
    if not _in_package(entry).is_file():
        raise CorruptCheckpoint(f"{path} is missing in this installation: install cascadezoo anew")
    return _extracted(_name(entry))


def _in_package(entry: ZooEntry) -> Traversable:
    return files("cascadezoo.zoo_manifest") / _name(entry)


def _name(entry: ZooEntry) -> str:
    return entry.source.checkpoint_url.removeprefix("./")  # which an archive does not resolve


@cache
def _extracted(name: str) -> Path:
    """A file of an archive as one of the disk, until this process ends."""
    held = ExitStack()
    try:
        path = held.enter_context(as_file(files("cascadezoo.zoo_manifest") / name))
    except OSError as error:
        raise UnwritableOutput(
            f"{name} cannot be taken out of the package's archive ({error.strerror or error}): set TMPDIR to a folder "
            "of your own, or install cascadezoo with pip"
        ) from error
    atexit.register(held.close)
    return path


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Only one process, and one thread of it, at a time is here for an entry; the others wait.

    The lock ends with its process, however that ends.  Raises UnwritableOutput where the cache cannot be written.
    """
    path = home() / "locks" / f"{name}.lock"
    lock = FileLock(path)
    try:
        made(path.parent)
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
