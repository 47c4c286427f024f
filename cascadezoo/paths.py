"""Where files lie, those of the cache above all.  The environment is read at call time."""

import os
from contextlib import suppress
from pathlib import Path

from cascadezoo.errors import UnwritableOutput


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with the home folder for ``~`` or ``~user`` at its start; as it is where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def home() -> Path:
    """``$CASCADEZOO_HOME``, else ``cascadezoo`` in the user's XDG cache folder.

    Raises UnwritableOutput where that is in a home folder and there is none: no ``$HOME``, and a user whom the system
    does not know.
    """
    if own := os.environ.get("CASCADEZOO_HOME"):
        return in_home(own, "CASCADEZOO_HOME")
    return in_home(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "CASCADEZOO_HOME") / "cascadezoo"


def in_home(path: str, variable: str) -> Path:
    """A cache's folder, whose name may begin with ``~``; ``variable`` is what names another.

    Raises UnwritableOutput where there is no home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UnwritableOutput(
            f"there is no home folder to keep a cache in ({path}): set {variable} to a folder of your own"
        ) from error


def made(folder: Path) -> Path:
    """A folder, made where it is missing; where it is the cache's, so is the cache, for this user alone.

    Raises OSError.
    """
    with suppress(UnwritableOutput):  # no home folder, and so no cache
        if folder.is_relative_to(root := home()):
            make_private(root)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def make_private(folder: Path) -> None:
    """Make a folder, and those that it lies in, for this user alone where they are missing.  Raises OSError."""
    for one in reversed((folder, *folder.parents)):
        if not one.exists():
            one.mkdir(mode=0o700, exist_ok=True)


def cannot_be_written(error: OSError) -> UnwritableOutput:
    """The error for a cache in which nothing can be made."""
    return UnwritableOutput(
        f"the cache {home()} cannot be written ({error.strerror or error}): set CASCADEZOO_HOME to a folder of your own"
    )


def canonical_path(name: str) -> Path:
    """Where the canonical file of the entry with this full name lies, if it is there."""
    return home() / "canonical" / f"{name}.safetensors"


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


def ops_folder() -> Path:
    """Where compiled operators lie, a folder for each version of their sources."""
    return home() / "ops"


def data_folder() -> Path:
    """Where drawn data sets lie, a folder each."""
    return home() / "data"
