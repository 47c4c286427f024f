"""The cache of canonical files.  The environment is read at call time."""

import os
from pathlib import Path


def home() -> Path:
    """``$CASCADEZOO_HOME``, else ``cascadezoo`` in the user's XDG cache folder."""
    if own := os.environ.get("CASCADEZOO_HOME"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cascadezoo"


def canonical_path(name: str) -> Path:
    """Where the canonical file of the entry with this full name lies, if it is there."""
    return home() / "canonical" / f"{name}.safetensors"
