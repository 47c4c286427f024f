"""The canonical weights of an entry, wherever they must come from: cache, Hub organisation, publisher."""

import logging
import os
from contextlib import nullcontext
from pathlib import Path

from cascadezoo import registry
from cascadezoo.converters.canonical import read_canonical
from cascadezoo.errors import CorruptCheckpoint, FileError, HashMismatch, Offline, UnwritableOutput, WeightsNotFound
from cascadezoo.hub import integrity, memo
from cascadezoo.hub.cache import embedded_file, locked
from cascadezoo.hub.download import Original, fetch_original
from cascadezoo.hub.huggingface import canonical_from_hub
from cascadezoo.hub.integrity import Check
from cascadezoo.hub.parts import copied
from cascadezoo.hub.progress import Bars, bars
from cascadezoo.hub.transport import Progress
from cascadezoo.manifest import ZooEntry
from cascadezoo.paths import canonical_path, home, made, original_path, part_path, quarantine_path, record_path

_log = logging.getLogger("cascadezoo")


def download(name: str, *, keep_original: bool = False, sha256: str | None = None) -> Path:
    """Bring an entry's weights into the cache, converted, and return the canonical ``.safetensors``.

    Args:
        name: as for ``load``.
        keep_original: keep the publisher's own file in the cache beside it.
        sha256: the whole SHA-256 that the publisher's file must have, in hexadecimal.

    Raises:
        UsageError: no such entry (UnknownName), or ``sha256`` is none.
        MissingResource: never published, offline, or not to be had from the server.
        FileError: not the file it should be, unreadable, or no room for it.
    """
    return obtain(registry.info(name), keep_original=keep_original, sha256=sha256)


def obtain(
    entry: ZooEntry, *, keep_original: bool = False, progress: Bars | None = None, sha256: str | None = None
) -> Path:
    """The canonical file of an entry in the cache, fetched and converted where it is not there yet.

    One process at a time fetches an entry; the others wait and use its file.  A file that is there needs no lock, so
    that a cache may be read-only.  ``progress``: the bars of a caller who shows several downloads.  With ``sha256``,
    of the publisher's file (or of the package's own), the claim of a Hub repository is not enough: what came from one
    is made anew.  Raises as ``download`` does.
    """
    given = None if sha256 is None else integrity.given(sha256)
    if entry.availability == "embedded":
        path = embedded_file(entry)
        if given:
            integrity.require_given(given.value, path)
        return path
    target = canonical_path(entry.name)
    if _is_there(entry, target, given):
        return target
    with locked(entry.name), nullcontext(progress) if progress else bars() as shown:
        if not _is_there(entry, target, given):
            try:
                _clear(entry)
                _make(entry, target, keep_original, shown, given)
            except OSError as error:
                raise UnwritableOutput(
                    f"{entry.name}: {error.filename or home()}: {error.strerror or error}: mend that, or set "
                    "CASCADEZOO_HOME to a folder of your own"
                ) from error
    return target


def _is_there(entry: ZooEntry, target: Path, given: Check | None) -> bool:
    """Whether the cache has an entry's weights, and, where a hash is given, made of that file as far as we saw it.

    Raises HashMismatch where they were made here of another file.
    """
    if given is None or not target.is_file():
        return target.is_file()
    before = integrity.recorded(entry.name)
    if before is None or before.url != entry.download_url:
        return False
    if before.sha256 != given.value:
        raise HashMismatch(
            f"{target} was made from a file with sha256 {before.sha256}, and {given.value} is wanted ({given.origin}): "
            f"if that is the right one, delete {target} and {record_path(entry.name)}"
        )
    try:
        _, metadata = read_canonical(target, verify=memo.require_digest)
    except CorruptCheckpoint:
        return False
    return metadata.get("source_sha256") == given.value


def set_aside_damaged(entry: ZooEntry, fault: CorruptCheckpoint) -> None:
    """Take an entry's canonical file out of use, unless another process has replaced it meanwhile.

    Raises ``fault`` itself where the cache cannot be written, or the file is this package's own.
    """
    if entry.availability == "embedded":
        raise fault
    target = canonical_path(entry.name)
    if not os.access(target.parent, os.W_OK):
        raise fault
    with locked(entry.name):
        try:
            read_canonical(target)
        except WeightsNotFound:  # another process has just set it aside
            return
        except CorruptCheckpoint:
            place = quarantine_path(entry.name, target.name, "damaged")
            made(place.parent)
            os.replace(target, place)
            _log.warning("%s; set aside as %s", fault, place)


def _clear(entry: ZooEntry) -> None:
    """Remove what processes that were killed had begun to write; the lock says that none is writing now."""
    for path in (canonical_path(entry.name), record_path(entry.name), part_path(entry.name, "*")):
        for leftover in path.parent.glob(f".{path.name}.*.part"):
            leftover.unlink()


def _make(entry: ZooEntry, target: Path, keep_original: bool, progress: Bars, given: Check | None) -> None:
    """Fetch and convert.  The file gets its place last, so that no entry is in use whose origin was not recorded."""
    made(target.parent)
    converted = part_path(entry.name, target.name)
    if given is None and _wants_its_place_only(entry, converted):
        os.replace(converted, target)
        return
    with progress.of(entry.name) as report:
        if given is None and _from_hub(entry, target, report):
            return
        original = fetch_original(entry, report, given)
    with progress.busy(f"{entry.name}, converting"):
        digest = _convert(entry, original, converted)
    integrity.record(entry, original.file, original.checks)
    if not keep_original:
        original.file.path.unlink()
    os.replace(converted, target)
    memo.remember(target, digest)


def _wants_its_place_only(entry: ZooEntry, converted: Path) -> bool:
    """Whether a process was killed just before its last step: with the original gone, its record was written."""
    originals = original_path(entry.name, "*").parent
    gone = not originals.is_dir() or not any(originals.iterdir())
    return gone and converted.is_file() and integrity.recorded(entry.name) is not None


def _from_hub(entry: ZooEntry, target: Path, report: Progress) -> bool:
    """Take the canonical file that ``CASCADEZOO_HUB`` has, if it has one."""
    organisation = os.environ.get("CASCADEZOO_HUB")
    if not organisation:
        return False
    try:
        repo = canonical_from_hub(entry, organisation, report)
    except Offline:  # the publisher's file may be here already, or in a folder that mirrors it
        return False
    if repo is None:
        _log.warning("%s: %s has no repository of that name; asking the publisher", entry.name, organisation)
        return False
    try:
        os.link(repo.weights.resolve(), target)  # the bytes lie in Hugging Face's cache already
    except OSError:  # another disk, or one without links
        copied(repo.weights, target, md5=False)
    memo.remember(target, repo.config.content_digest)
    return True


def _convert(entry: ZooEntry, original: Original, converted: Path) -> str:
    """Convert, and return the content digest; a file that turns out to be no checkpoint is set aside."""
    from cascadezoo.checkpoints.conversion import convert

    made(converted.parent)
    try:
        report = convert(original.file.path, entry.publisher, entry.name, converted, force=True)
    except UnwritableOutput:
        raise
    except FileError as error:
        place = integrity.quarantine(entry, original.file)
        raise type(error)(f"{error}; the downloaded file is kept in {place} for inspection") from error
    return report.content_digest
