"""Where an entry's weights lie, and one lock an entry."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from filelock import FileLock, Timeout

from cascadezoo.errors import UnwritableOutput
from cascadezoo.manifest import ZooEntry
from cascadezoo.paths import canonical_path, home

_log = logging.getLogger("cascadezoo")


def weights_path(entry: ZooEntry) -> Path:
    """Where an entry's canonical file lies, or will lie: in the cache, or of an embedded one in this package."""
    if entry.availability == "embedded":
        return Path(str(files("cascadezoo.zoo_manifest") / entry.source.checkpoint_url))
    return canonical_path(entry.name)


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
