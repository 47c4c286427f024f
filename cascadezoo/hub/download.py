"""The publisher's own file of an entry: located, fetched and verified.  ``checkpoints.weights`` converts it."""

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from cascadezoo.errors import WeightsNotFound
from cascadezoo.hub import integrity, transport
from cascadezoo.hub.integrity import Check
from cascadezoo.hub.mirror import mirrored
from cascadezoo.hub.offline import refuse_if_offline
from cascadezoo.hub.parts import Fetched, copied, hashed, move
from cascadezoo.hub.redaction import redacted
from cascadezoo.hub.transport import Progress
from cascadezoo.manifest import ZooEntry
from cascadezoo.paths import original_path, part_path

_log = logging.getLogger("cascadezoo")


@dataclass(frozen=True)
class Original:
    """A publisher's file in the cache, and the checks that it passed."""

    file: Fetched
    checks: tuple[Check, ...]


def whereabouts(entry: ZooEntry) -> str:
    """Where an entry's own weights lie, in words; the url of a wrong link is left out, so that nobody follows it."""
    match entry.availability:
        case "never_published":
            return "its publisher never published any"
        case "wrong_link":
            return f"the published link leads to another model; the right file is {entry.download_url}"
        case "moved":
            return f"the publisher's file has moved to {entry.download_url}"
        case _:
            return f"the publisher's file is {entry.download_url}"


def bring_your_own(entry: ZooEntry) -> str:
    """How to use a publisher's file that the user already has."""
    return (
        f"convert a file of your own with `cascadezoo convert --from {entry.publisher} FILE --entry {entry.name}` and "
        "give the result as weights=FILE"
    )


def fetch_original(entry: ZooEntry, progress: Progress | None = None, given: Check | None = None) -> Original:
    """The publisher's file of an entry, verified, in the cache: kept from before, else fetched.

    Call it under the entry's lock.  ``given``: what a caller demands of it.

    Raises:
        WeightsNotFound: never published, or not in the mirror's folder.
        HashMismatch: two downloads were not the file that is expected.
        Offline, DownloadFailed, UnsafeRedirect, UnwritableOutput, CorruptCheckpoint (an unreadable record or md5 file).
    """
    url = entry.download_url
    if url is None:
        raise WeightsNotFound(f"no weights of {entry.name}: {whereabouts(entry)}; {bring_your_own(entry)}")
    name = unquote(PurePosixPath(urlsplit(url).path).name)
    place = mirrored(url)
    target = original_path(entry.name, name)
    if isinstance(place, str) and not target.is_file():
        refuse_if_offline(f"the file of {entry.name} ({whereabouts(entry)})")
    checks = checks_of(entry, given)
    kept = _kept(entry, target, url, checks)
    if kept is not None:
        return Original(kept, checks)

    if entry.availability in ("moved", "wrong_link"):
        _log.warning("%s: %s", entry.name, whereabouts(entry))
    file = _brought(entry, place, part_path(entry.name, name), checks, progress)
    move(file.path, target)
    return Original(replace(file, path=target), checks)


def checks_of(entry: ZooEntry, given: Check | None = None) -> tuple[Check, ...]:
    """All checks that the file must pass; the published md5 is fetched where no whole sha256 is known."""
    checks = (*integrity.known_checks(entry), *([given] if given else []))
    url = entry.source.md5_url
    if url is None or any(check.is_whole for check in checks):
        return checks
    place = mirrored(url)
    if isinstance(place, Path):
        text = place.read_text("utf-8", "replace") if place.is_file() else None
    else:
        text = transport.fetch_text(place)
    if text is None:
        _log.warning("%s: there is no %s, so the file is trusted on first use", entry.name, redacted(str(place)))
        return checks
    return (*checks, integrity.md5_check(text, redacted(str(place))))


def _kept(entry: ZooEntry, target: Path, url: str, checks: tuple[Check, ...]) -> Fetched | None:
    """The file of an earlier call, if it still passes all checks."""
    if not target.is_file():
        return None
    file = hashed(target, url, integrity.wants_md5(checks))
    fault = integrity.fault(entry, file, checks)
    if fault is None:
        return file
    _log.warning("%s; set aside as %s", fault, integrity.quarantine(entry, file))
    return None


def _brought(
    entry: ZooEntry, place: str | Path, part: Path, checks: tuple[Check, ...], progress: Progress | None
) -> Fetched:
    """The part file, once it is whole and passes all checks; a wrong one is set aside and fetched once more."""
    file = arrived(entry, place, part, checks, progress)
    fault = integrity.fault(entry, file, checks)
    if fault is None:
        return file
    _log.warning("%s; set aside as %s; fetching it once more", fault, integrity.quarantine(entry, file))
    file = arrived(entry, place, part, checks, progress)
    fault = integrity.fault(entry, file, checks)
    if fault is None:
        return file
    raise integrity.refuse(fault, integrity.quarantine(entry, file))


def arrived(
    entry: ZooEntry, place: str | Path, part: Path, checks: tuple[Check, ...], progress: Progress | None
) -> Fetched:
    """The file of an entry as its server or the mirror's folder has it, unverified, as ``part``.

    Raises WeightsNotFound, and as ``transport.fetch`` does.
    """
    md5 = integrity.wants_md5(checks)
    if isinstance(place, str):
        return transport.fetch(place, part, md5=md5, size=entry.source.size, progress=progress)
    if not (place.is_file() and os.access(place, os.R_OK)):
        raise WeightsNotFound(
            f"the mirror has no {place} for {entry.name} that can be read: put the file there, or unset "
            "CASCADEZOO_MIRROR"
        )
    return copied(place, part, md5)
