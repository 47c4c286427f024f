"""A folder that belongs to one process at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from cascadezoo.errors import RunInUse, UnwritableOutput

_NAME = "run.lock"


@contextmanager
def locked(folder: Path, *, in_use: str, unusable: str) -> Iterator[None]:
    """The folder, made where it is missing, for this process alone within the block; the lock ends with the process.

    Raises RunInUse with the words ``in_use`` where another process has it; UnwritableOutput, ``unusable`` and the
    reason, where no such folder can be made or locked.
    """
    lock = FileLock(folder / _NAME)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise RunInUse(in_use) from error
    except (OSError, NotImplementedError) as error:  # the latter from a file system without locks
        raise UnwritableOutput(f"{unusable}: {getattr(error, 'strerror', None) or error}") from error
    try:
        yield
    finally:
        lock.release()
