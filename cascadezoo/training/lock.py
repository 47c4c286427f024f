"""A run's folder belongs to one process at a time."""

import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from cascadezoo.errors import RunInUse
from cascadezoo.text import printable

fcntl: Any = import_module("fcntl") if os.name == "posix" else None
_NAME = ".lock"
_held: set[Path] = set()  # by this process, whose own locks the system would let it take twice
_log = logging.getLogger("cascadezoo")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder for this process alone, within the block; the system frees it when the process dies in any way.

    The lock is of a kind that worker processes do not inherit, so that none of them keeps it.  Without locks (Windows,
    some network file systems) a warning says so.

    Raises RunInUse where another process has it.
    """
    real = folder.resolve()
    if real in _held:
        raise _in_use(folder, "this process")
    handle = _acquire(folder)
    _held.add(real)
    try:
        yield
    finally:
        _held.remove(real)
        if handle is not None:
            with suppress(OSError):
                (folder / _NAME).unlink()  # while it is held: whoever waits at the old file sees that it is gone
            os.close(handle)


def _acquire(folder: Path) -> int | None:
    path = folder / _NAME
    while fcntl is not None:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            owner = os.read(handle, 200).decode(errors="replace")
            os.close(handle)
            raise _in_use(folder, printable(owner) or "another process") from error
        except OSError as error:
            os.close(handle)
            _log.warning("%s: no lock (%s): see that no other process trains there", folder, error.strerror)
            return None
        with suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(handle)):
                os.ftruncate(handle, 0)
                os.write(handle, f"process {os.getpid()} on {platform.node()}".encode())
                return handle
        os.close(handle)  # of a run that ended just now and removed it
    _log.warning("%s: no lock on this system: see that no other process trains there", folder)
    return None


def _in_use(folder: Path, owner: str) -> RunInUse:
    return RunInUse(f"{folder} is in use by {owner}: wait until that run ends, or stop it")
