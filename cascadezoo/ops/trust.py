"""What may be loaded from the cache: code that this user or root put there and nobody else can change.

``root`` is the cache's own folder, which may be reached through a link; nothing below it may be one.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cascadezoo import paths
from cascadezoo.errors import UntrustedCache


def make_private(root: Path, *names: str) -> Path:
    """The folder of these names below ``root``, made for this user alone where it is missing.

    Raises:
        UntrustedCache: one of the folders from ``root`` down is a link, another user's, or writable by others.
        OSError: it cannot be made.
    """
    paths.make_private(root)
    for count in range(len(names)):
        folder = root.joinpath(*names[: count + 1])
        if not os.path.lexists(folder):
            folder.mkdir(mode=0o700, exist_ok=True)
    os.close(_open_folder(root, names))
    return root.joinpath(*names)


@contextmanager
def opened(root: Path, *names: str) -> Iterator[str]:
    """A path that leads to the file of these names, even if one of its folders is exchanged now that it is checked.

    Where a system has no owners of files (Windows) nothing is checked.

    Raises:
        UntrustedCache: as ``make_private``, and the same of the file.
        OSError: there is no such file.
    """
    path = root.joinpath(*names)
    if not hasattr(os, "geteuid"):
        yield str(path)
        return
    folder = _open_folder(root, names[:-1])
    try:
        os.close(_open(path, os.O_RDONLY, folder, "a file"))
        held = Path(f"/proc/self/fd/{folder}")  # Linux's name of the folder that was checked, not of its path
        yield str((held if held.exists() else path.parent) / path.name)
    finally:
        os.close(folder)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; the system frees the lock of a killed one.

    Raises:
        UntrustedCache: what lies at ``path`` is not a file of this user's.
        OSError: it cannot be written.
    """
    import fcntl  # not on Windows

    lock = _open(path, os.O_RDWR | os.O_CREAT, None, "a file")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def is_trusted(path: Path) -> bool:
    """Whether there is a file, and nobody else can have written it."""
    try:
        os.close(_open(path, os.O_RDONLY, None, "a file"))
    except (OSError, UntrustedCache):
        return False
    return True


def _open_folder(root: Path, names: tuple[str, ...]) -> int:
    """A descriptor of the folder; each one on the way is opened in the one before and checked."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _check(os.fstat(folder), root, "a folder")
        path = root
        for name in names:
            path = path / name
            above, folder = folder, _open(path, os.O_RDONLY | os.O_DIRECTORY, folder, "a folder")
            os.close(above)
    except BaseException:
        os.close(folder)
        raise
    return folder


def _open(path: Path, flags: int, folder: int | None, kind: str) -> int:
    name = path.name if folder is not None else path
    try:
        # said in words before the system refuses it with "Too many levels of symbolic links"
        if stat.S_ISLNK(os.lstat(name, dir_fd=folder).st_mode):
            raise UntrustedCache(f"{path} is a link, and none is followed here: put {kind} in its place")
    except FileNotFoundError:
        pass  # it is made, or opening it says so
    # never waits for a pipe's other end
    opened = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        _check(os.fstat(opened), path, kind)
    except BaseException:
        os.close(opened)
        raise
    return opened


def _check(found: os.stat_result, path: Path, kind: str) -> None:
    is_folder, mode = stat.S_ISDIR(found.st_mode), stat.S_IMODE(found.st_mode)
    if not (is_folder or stat.S_ISREG(found.st_mode)) or is_folder != (kind == "a folder"):
        raise UntrustedCache(f"{path} is not {kind}: delete it, and run `cascadezoo build-ops`")
    if found.st_uid not in (os.geteuid(), 0):
        raise UntrustedCache(
            f"{path} belongs to user {found.st_uid}, who could have put any code there: delete it, or name a folder of"
            " your own in CASCADEZOO_HOME, and run `cascadezoo build-ops`"
        )
    if mode & (stat.S_IWGRP | stat.S_IWOTH) and not (is_folder and mode & stat.S_ISVTX):
        raise UntrustedCache(
            f"{path} can be changed by other users (mode {mode:o}), who could have put any code there: run `chmod go-w"
            f" {path}` if you trust what it holds, else delete it and run `cascadezoo build-ops`"
        )
