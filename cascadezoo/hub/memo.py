"""Content digests of files, remembered, so that an unchanged file is hashed once.

A note lies in ``digests/`` of the cache, one small file for each file it speaks of.  It holds while size, inode, time
of modification and time of change are what they were.  The last of them moves whenever a file is written or its times
are set back; where a system keeps none (Windows), a file modified with its size and time kept is beyond the memo, as
bits that rot on the disk are anywhere: ``cascadezoo verify --files`` hashes regardless.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from cascadezoo.converters import canonical
from cascadezoo.errors import UnwritableOutput
from cascadezoo.files import whole_file
from cascadezoo.paths import home, made

Fingerprint = list[int]  # size, inode, mtime_ns, ctime_ns

_TICK = 0.02  # seconds: the kernel's clock for files that keep fractions of a second moves every 1 to 10 ms
_COARSE = 2.0  # FAT's; any file system that keeps whole seconds


def known_good(path: Path, digest: str) -> bool:
    """Whether ``path`` had this content digest when it was last hashed, and has not changed since."""
    try:
        return bool(json.loads(_note(path).read_text("utf-8")) == _content(path, _fingerprint(path), digest))
    except (OSError, ValueError, UnwritableOutput):  # no note or no cache, or half a note from a broken disk
        return False


def remember(path: Path, digest: str) -> None:
    """Note that ``path``, which the caller has just written or hashed, has this content digest.

    A cache that cannot be written to is no error: the file is hashed again next time.
    """
    if (fingerprint := _settled(path)) is not None:
        _remember(path, fingerprint, digest)


def require_digest(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """``converters.canonical.require_digest``, at no cost for a file that has passed it before.

    Raises CorruptCheckpoint.
    """
    stated = metadata.get("content_digest")
    if stated is not None:
        once(path, stated, lambda: canonical.require_digest(path, tensors, metadata))


def once(path: Path, digest: str, verify: Callable[[], None]) -> None:
    """Call ``verify``, which raises where ``path`` has another digest, unless the file has passed before."""
    if known_good(path, digest):
        return
    fingerprint = _settled(path)
    verify()
    if fingerprint is not None and fingerprint == _fingerprint(path):
        _remember(path, fingerprint, digest)


def _settled(path: Path) -> Fingerprint | None:
    """The file's fingerprint, once any later change must alter it; None where that is too long to wait for.

    As git's index: what is written within one tick of a file's last change carries the same time.
    """
    fingerprint = _fingerprint(path)
    changed = max(fingerprint[2:])
    margin = _TICK if changed % 10**9 else _COARSE
    left = changed / 1e9 + margin - time.time()
    if left > _TICK:  # coarse, or of a clock ahead of ours
        return None
    time.sleep(max(left, 0.0))
    return fingerprint


def _remember(path: Path, fingerprint: Fingerprint, digest: str) -> None:
    try:
        note = _note(path)
        made(note.parent)
        with whole_file(note) as file:
            file.write(json.dumps(_content(path, fingerprint, digest)).encode())
    except (OSError, UnwritableOutput):
        return


def _content(path: Path, fingerprint: Fingerprint, digest: str) -> dict[str, object]:
    return {"path": str(path.resolve()), "file": fingerprint, "digest": digest}


def _fingerprint(path: Path) -> Fingerprint:
    status = path.stat()
    return [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]


def _note(path: Path) -> Path:
    """Where the note on a file lies: named by the path, so that processes never write to one another's."""
    return home() / "digests" / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]}.json"
