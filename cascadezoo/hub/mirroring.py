"""A mirror of the publishers' files, as ``CASCADEZOO_MIRROR`` finds them in a folder.

The files are held to every hash that is known, and trusted no further: whoever loads one from the mirror verifies it.
"""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from cascadezoo.errors import HashMismatch, UsageError
from cascadezoo.files import whole_file
from cascadezoo.hub import integrity, transport
from cascadezoo.hub.download import arrived, checks_of
from cascadezoo.hub.mirror import mirrored, place_in
from cascadezoo.hub.parts import drop, hashed, move
from cascadezoo.hub.transport import Progress
from cascadezoo.manifest import ZooEntry
from cascadezoo.paths import made

_log = logging.getLogger("cascadezoo")


def addresses(entries: Iterable[ZooEntry]) -> Iterator[str]:
    """The addresses that a mirror of these entries needs: of their weights, and of the md5 beside them, each once."""
    yield from dict.fromkeys(url for entry in entries for url in (entry.download_url, entry.source.md5_url) if url)


def bring(entry: ZooEntry, folder: Path, progress: Progress | None = None) -> Path:
    """The publisher's file of an entry in a mirror's folder: there already and sound, else fetched, or fetched on.

    Where ``CASCADEZOO_MIRROR`` names another mirror, that is asked.

    Raises:
        UsageError: the entry has no file to mirror, or ``folder`` is what ``CASCADEZOO_MIRROR`` names.
        HashMismatch: two downloads were not the file that is expected.
        WeightsNotFound, Offline, DownloadFailed, UnsafeRedirect, UnwritableOutput, CorruptCheckpoint.
        OSError: the folder cannot be written.
    """
    url = entry.download_url
    if url is None:
        raise UsageError(f"{entry.name} has no file at a publisher that could be mirrored")
    target, place = place_in(folder, url), mirrored(url)
    if isinstance(place, Path) and place.resolve() == target.resolve():
        raise UsageError(f"{folder} is the mirror that CASCADEZOO_MIRROR names: unset it, or name another folder")
    _bring_md5(entry, folder)
    checks = checks_of(entry)
    if target.is_file():
        fault = integrity.fault(entry, hashed(target, str(target), integrity.wants_md5(checks)), checks)
        if fault is None:
            return target
        _log.warning("%s; fetching it anew", fault)
    part = target.with_name(f".{target.name}.part")
    for last in (False, True):
        file = arrived(entry, place, part, checks, progress)
        fault = integrity.fault(entry, file, checks)
        if fault is None:
            break
        drop(part)
        if last:
            raise HashMismatch(f"{fault}; it was fetched twice, and nothing of it is kept")
        _log.warning("%s; fetching it once more", fault)
    move(part, target)
    return target


def _bring_md5(entry: ZooEntry, folder: Path) -> None:
    url = entry.source.md5_url
    if url is None:
        return
    place, target = mirrored(url), place_in(folder, url)
    if isinstance(place, Path):
        text = place.read_text("utf-8", "replace") if place.is_file() else None
    else:
        text = transport.fetch_text(place)
    if text is not None:
        made(target.parent)
        with whole_file(target) as file:
            file.write(text.encode())
