"""Is this file the one?  By the publisher's hashes where there are any, else by what was trusted on first use.

What was trusted is recorded, with the whole sha256, once the file has proved to be a checkpoint of its entry; from then
on nothing else is taken under the same url.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cascadezoo.errors import CorruptCheckpoint, HashMismatch
from cascadezoo.files import whole_file
from cascadezoo.hub.parts import Fetched, move
from cascadezoo.manifest import ZooEntry
from cascadezoo.paths import quarantine_path, record_path


class Trusted(BaseModel):
    """A file that was trusted: the publisher's url, its size in bytes, its whole sha256, and why (``basis``)."""

    model_config = ConfigDict(frozen=True)

    url: str
    size: int
    sha256: str
    etag: str | None = None
    basis: str
    when: datetime


class Check(BaseModel):
    """Something that must be true of a file: ``kind`` sha256 (the digits that are known), md5 or size; who says so."""

    model_config = ConfigDict(frozen=True)

    kind: str
    value: str
    origin: str

    def found(self, file: Fetched) -> str:
        """The same of a file."""
        return {"sha256": file.sha256, "md5": str(file.md5), "size": str(file.size)}[self.kind]

    def holds(self, file: Fetched) -> bool:
        """Whether the file agrees."""
        found = self.found(file)
        return found.startswith(self.value) if self.kind == "sha256" else found == self.value


def recorded(name: str) -> Trusted | None:
    """What was trusted of an entry before; raises CorruptCheckpoint where the note of it cannot be read."""
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
    """Note that a file was trusted, unless the same is noted already."""
    before = recorded(entry.name)
    url = str(entry.download_url)
    if before is not None and (before.url, before.sha256) == (url, file.sha256):
        return
    basis = " and ".join(check.origin for check in checks) or "first use"
    trusted = Trusted(url=url, size=file.size, sha256=file.sha256, etag=file.etag, basis=basis, when=datetime.now(UTC))
    path = record_path(entry.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as target:
        target.write(trusted.model_dump_json(indent=2).encode() + b"\n")


def known_checks(entry: ZooEntry) -> tuple[Check, ...]:
    """What the manifest and the record say of an entry's file.  A record counts for its own url only."""
    source, checks = entry.source, []
    if digits := source.sha256 or source.sha256_prefix:
        origin = (
            "the published sha256" if source.sha256 else f"the {len(digits)} digits of sha256 in the published name"
        )
        checks.append(Check(kind="sha256", value=digits, origin=origin))
    if source.size is not None:
        checks.append(Check(kind="size", value=str(source.size), origin="the published size"))
    before = recorded(entry.name)
    if before is not None and before.url == entry.download_url:
        origin = f"the file trusted on {before.when:%Y-%m-%d}, until you delete the note {record_path(entry.name)}"
        checks.append(Check(kind="sha256", value=before.sha256, origin=origin))
    return tuple(checks)


def md5_check(text: str, url: str) -> Check:
    """The check that a ``.md5sum`` file makes: md5 in hexadecimal, then perhaps a name.  Raises CorruptCheckpoint."""
    digits = (text.split() or [""])[0].lower()
    if len(digits) != 32 or not all(digit in "0123456789abcdef" for digit in digits):
        raise CorruptCheckpoint(f"{url} holds no md5 but {text[:40]!r}: try again later, or set CASCADEZOO_MIRROR")
    return Check(kind="md5", value=digits, origin="the published md5")


def fault(entry: ZooEntry, file: Fetched, checks: Sequence[Check]) -> str | None:
    """What is wrong with a file, naming what was expected and what was found; None: nothing."""
    for check in checks:
        if not check.holds(file):
            starts = "starts with " if check.kind == "sha256" and len(check.value) < 64 else ""
            return (
                f"{file.url} is not the file of {entry.name}: {check.kind} {starts}{check.value} expected "
                f"({check.origin}), {check.found(file)} found"
            )
    return None


def quarantine(entry: ZooEntry, file: Fetched) -> Path:
    """Put a file where nothing will use it; its new place."""
    target = quarantine_path(entry.name, file.path.name, file.sha256)
    move(file.path, target)
    return target


def refuse(fault: str, kept: Path) -> HashMismatch:
    """The error of a file that was wrong twice."""
    return HashMismatch(f"{fault}; it was fetched twice and is kept in {kept} for inspection")
