"""Where files lie, those of the cache above all.  The environment is read at call time."""

import os
from pathlib import Path


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with the home folder for ``~`` or ``~user`` at its start; as it is where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def home() -> Path:
    """``$CASCADEZOO_HOME``, else ``cascadezoo`` in the user's XDG cache folder."""
    if own := os.environ.get("CASCADEZOO_HOME"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cascadezoo"


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
