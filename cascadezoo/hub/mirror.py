"""``CASCADEZOO_MIRROR``: an http(s) url or a folder that stands in for the publishers' hosts.

A publisher's file lies there under its host and path, as ``wget -x`` lays files out:
``$CASCADEZOO_MIRROR/download.openmmlab.com/mmdetection/…``.
"""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cascadezoo.errors import UsageError
from cascadezoo.hub.redaction import redacted
from cascadezoo.paths import expanded


def mirrored(url: str) -> str | Path:
    """Where to fetch a publisher's url from: itself, its place on the mirror, or its file in the mirror's folder.

    Names in a folder are written plainly, not percent-encoded.  Raises UsageError where the variable is neither a
    folder nor an http(s) url.
    """
    mirror = os.environ.get("CASCADEZOO_MIRROR")
    if not mirror:
        return url
    parts = urlsplit(url)
    if mirror.startswith(("http://", "https://")):
        query = f"?{parts.query}" if parts.query else ""
        return f"{mirror.rstrip('/')}/{parts.netloc}{parts.path}{query}"
    folder = expanded(mirror)
    if not folder.is_dir():
        raise UsageError(
            f"CASCADEZOO_MIRROR={redacted(mirror)} is neither a folder nor an http(s) url: correct or unset it"
        )
    return place_in(folder, url)


def place_in(folder: Path, url: str) -> Path:
    """Where the file of a url lies in a mirror's folder."""
    parts = urlsplit(url)
    return folder / parts.netloc / unquote(parts.path).lstrip("/")
