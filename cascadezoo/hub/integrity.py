"""Whether a file is the published one: by the publisher's hashes, else by the hash of the file first trusted.

Where a publisher states the first digits of a hash alone, they must hold, but prove little: some other file in 17
million has the same 6, and anybody can make one that has.  A file is trusted, and its whole sha256 recorded, once it
has proved to be a checkpoint of its entry; from then on no other file is accepted from the same url.
"""

import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cascadezoo.errors import CorruptCheckpoint, HashMismatch, UsageError
from cascadezoo.files import file_sha256, whole_file
from cascadezoo.hub.parts import Fetched, move
from cascadezoo.manifest import ZooEntry
from cascadezoo.paths import made, quarantine_path, record_path

_log = logging.getLogger("cascadezoo")

_DIGITS = {"sha256": 64, "md5": 32}  # of a whole hash


class Trusted(BaseModel):
    """The record of a file that was trusted."""

    model_config = ConfigDict(frozen=True)

    url: str = Field(description="the publisher's address of the file")
    size: int = Field(description="size in bytes")
    sha256: str = Field(description="the whole SHA-256, in hexadecimal")
    etag: str | None = Field(default=None, description="the server's ETag, where it sent one")
    basis: str = Field(description="why the file was trusted: the published facts that it agrees with, or first use")
    when: datetime = Field(description="when it was trusted, in UTC")


class Check(BaseModel):
    """A fact that must be true of a file."""

    model_config = ConfigDict(frozen=True)

    kind: str = Field(description="sha256, md5 or size")
    value: str = Field(description="the whole value, or the first digits of a hash; a size in bytes")
    origin: str = Field(description="where the value comes from, as a phrase for messages")

    def found(self, file: Fetched) -> str:
        """What the file has of this kind."""
        return {"sha256": file.sha256, "md5": str(file.md5), "size": str(file.size)}[self.kind]

    @property
    def is_whole(self) -> bool:
        """Whether no other file has this value, or none that anybody made by accident."""
        return len(self.value) == _DIGITS.get(self.kind)

    def holds(self, file: Fetched) -> bool:
        """Whether the file passes."""
        found = self.found(file)
        return found.startswith(self.value) if self.kind in _DIGITS else found == self.value


def recorded(name: str) -> Trusted | None:
    """The record of the file that was trusted for an entry, if any; raises CorruptCheckpoint where it is unreadable."""
    path = record_path(name)
    try:
        return Trusted.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise CorruptCheckpoint(
            f"{path}, which says what file was trusted before, cannot be read: delete it to trust the next one anew"
        ) from error


def record(entry: ZooEntry, file: Fetched, checks: Sequence[Check]) -> None:
    """Record that a file is trusted, unless the same file is recorded already.

    A file that no whole hash speaks for is trusted on first use, which is said: another cache may trust another file.
    """
    before = recorded(entry.name)
    url = str(entry.download_url)
    if before is not None and (before.url, before.sha256) == (url, file.sha256):
        return
    basis = " and ".join(check.origin for check in checks) or "first use"
    trusted = Trusted(url=url, size=file.size, sha256=file.sha256, etag=file.etag, basis=basis, when=datetime.now(UTC))
    path = record_path(entry.name)
    made(path.parent)
    with whole_file(path) as target:
        target.write(trusted.model_dump_json(indent=2).encode() + b"\n")
    if not any(check.is_whole for check in checks):
        parts = [f"{len(check.value)} digits of this file's {check.kind}" for check in checks if check.kind in _DIGITS]
        stated = f"only {parts[0]}" if parts else "no hash of this file"
        _log.warning(
            "%s: its publisher states %s, so it is trusted on first use, with sha256 %s: `cascadezoo lock write` keeps "
            "that for other machines, which might be sent another file",
            *(entry.name, stated, file.sha256),
        )


def given(sha256: str) -> Check:
    """The check that a caller's SHA-256 makes; raises UsageError where it is none."""
    if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise UsageError(f"sha256: give all 64 hexadecimal digits, not {sha256!r:.80}")
    return Check(kind="sha256", value=sha256.lower(), origin="the sha256 that was given")


def require_given(sha256: str, path: Path) -> None:
    """Raise HashMismatch where a file has another SHA-256 than the caller's, and UsageError where that is none."""
    wanted, found = given(sha256).value, file_sha256(path)
    if found != wanted:
        raise HashMismatch(f"{path}: sha256 {wanted} expected (the sha256 that was given), {found} found")


def known_checks(entry: ZooEntry) -> tuple[Check, ...]:
    """The checks that the manifest and the record make of an entry's file.  A record counts for its own url only."""
    source, checks = entry.source, []
    if digits := source.sha256 or source.sha256_prefix:
        origin = (
            "the published sha256" if source.sha256 else f"the {len(digits)} digits of sha256 in the published name"
        )
        checks.append(Check(kind="sha256", value=digits, origin=origin))
    if digits := source.md5_prefix:
        origin = f"the weak {len(digits)} digits of md5 in the published name"
        checks.append(Check(kind="md5", value=digits, origin=origin))
    if source.size is not None:
        checks.append(Check(kind="size", value=str(source.size), origin="the published size"))
    before = recorded(entry.name)
    if before is not None and before.url == entry.download_url:
        origin = f"the file trusted on {before.when:%Y-%m-%d}, until you delete the note {record_path(entry.name)}"
        checks.append(Check(kind="sha256", value=before.sha256, origin=origin))
    return tuple(checks)


def wants_md5(checks: Sequence[Check]) -> bool:
    """Whether the md5 of a file decides on one of its checks."""
    return any(check.kind == "md5" for check in checks)


def md5_check(text: str, url: str) -> Check:
    """The check that a ``.md5sum`` file makes: md5 in hexadecimal, then perhaps a name.  Raises CorruptCheckpoint."""
    digits = (text.split() or [""])[0].lower()
    if len(digits) != 32 or not all(digit in "0123456789abcdef" for digit in digits):
        raise CorruptCheckpoint(f"{url} holds no md5 but {text[:40]!r}: try again later, or set CASCADEZOO_MIRROR")
    return Check(kind="md5", value=digits, origin="the published md5")


def fault(entry: ZooEntry, file: Fetched, checks: Sequence[Check]) -> str | None:
    """What is wrong with a file, as a sentence that names the expected and the actual value; None: nothing."""
    for check in checks:
        if not check.holds(file):
            starts = "starts with " if len(check.value) < _DIGITS.get(check.kind, 0) else ""
            return (
                f"{file.url} is not the file of {entry.name}: {check.kind} {starts}{check.value} expected "
                f"({check.origin}), {check.found(file)} found"
            )
    return None


def quarantine(entry: ZooEntry, file: Fetched) -> Path:
    """Move a file to a folder from which nothing is loaded; returns its new path."""
    target = quarantine_path(entry.name, file.path.name, file.sha256)
    move(file.path, target)
    return target


def refuse(fault: str, kept: Path) -> HashMismatch:
    """The error for a file that was wrong in two downloads."""
    return HashMismatch(f"{fault}; it was fetched twice and is kept in {kept} for inspection")
