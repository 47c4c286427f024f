"""A lock: a text file for version control that says which files the weights of a cache were made from.

One line an entry, by name: its full name, the SHA-256 of the publisher's file (of the package's own for an embedded
entry), and the content digest of the canonical weights.  The same cache gives the same bytes.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cascadezoo import registry
from cascadezoo.converters.canonical import read_canonical
from cascadezoo.errors import CorruptCheckpoint, MissingResource, WeightsNotFound
from cascadezoo.files import file_sha256
from cascadezoo.hub import housekeeping, integrity, memo
from cascadezoo.hub.cache import embedded_file, weights_path
from cascadezoo.manifest import ZooEntry

_HEAD = "# cascadezoo lock 1: entry, sha256 of the publisher's file, content digest of its weights\n"
_LINE = re.compile(r"([a-z0-9_]+\.[a-z][a-z0-9]*)  ([0-9a-f]{64})  ([0-9a-f]{64})")

State = Literal["ok", "differs", "absent"]


@dataclass(frozen=True)
class Pin:
    """Which weights of an entry are meant.

    Attributes:
        entry: its full name.
        sha256: of the publisher's file, in hexadecimal.
        digest: the content digest of the canonical weights.
    """

    entry: str
    sha256: str
    digest: str


@dataclass(frozen=True)
class PinVerdict:
    """Whether the cache has the weights that a lock names.

    Attributes:
        entry: the full name.
        state: ok; differs; or absent, where the cache has none.
        detail: the reason, as a phrase.
    """

    entry: str
    state: State
    detail: str


def cached() -> list[ZooEntry]:
    """The entries whose weights are in the cache."""
    names = {item.entry for item in housekeeping.items(("canonical",))}
    return [entry for entry in registry.all_known() if entry.name in names]


def pin(entry: ZooEntry) -> Pin:
    """The pin of an entry, as the cache has its weights; their content digest is verified.

    Raises WeightsNotFound where it has none, and CorruptCheckpoint where they are damaged.
    """
    embedded = entry.availability == "embedded"
    path = embedded_file(entry) if embedded else weights_path(entry)
    if not path.is_file():
        raise WeightsNotFound(f"{entry.name} is not in the cache: fetch it with `cascadezoo download {entry.name}`")
    _, metadata = read_canonical(path, verify=memo.require_digest)
    sha256 = file_sha256(path) if embedded else metadata.get("source_sha256")
    if sha256 is None or "content_digest" not in metadata:
        raise CorruptCheckpoint(f"{path} does not say what it was made from: fetch it anew")
    trusted = None if embedded else integrity.recorded(entry.name)
    if trusted is not None and trusted.sha256 != sha256:
        raise CorruptCheckpoint(
            f"{path} was made from a file with sha256 {sha256}, but the one trusted has {trusted.sha256}: fetch it anew"
        )
    return Pin(entry.name, sha256, metadata["content_digest"])


def text(entries: Iterable[ZooEntry]) -> str:
    """The lock of these entries.  Raises as ``pin`` does, and MissingResource where there are none."""
    pins = sorted((pin(entry) for entry in set(entries)), key=lambda one: one.entry)
    if not pins:
        raise MissingResource("the cache holds no weights to lock: fetch some with `cascadezoo download NAME`")
    return _HEAD + "".join(f"{one.entry}  {one.sha256}  {one.digest}\n" for one in pins)


def read(path: Path) -> list[Pin]:
    """The pins of a lock.  Raises MissingResource, and CorruptCheckpoint where it is none."""
    try:
        lines = path.read_bytes().decode().replace("\r\n", "\n").split("\n")
    except FileNotFoundError as error:
        raise MissingResource(f"{path} is not there: write it with `cascadezoo lock write`") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CorruptCheckpoint(f"{path} cannot be read as a lock: write it anew") from error
    pins: dict[str, Pin] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None or found[1] in pins:
            fault = "names an entry twice" if found else f"is no line of a lock: {line[:60]!r}"
            raise CorruptCheckpoint(f"{path}, line {number} {fault}: write it anew with `cascadezoo lock write`")
        pins[found[1]] = Pin(*found.groups())
    if not pins:
        raise CorruptCheckpoint(f"{path} locks no entry: write it anew with `cascadezoo lock write`")
    return list(pins.values())


def check(pins: Iterable[Pin]) -> list[PinVerdict]:
    """Whether the cache has what a lock names.  Raises UsageError (UnknownName) for a name that is no entry's."""
    return [_verdict(one) for one in pins]


def _verdict(locked: Pin) -> PinVerdict:
    try:
        found = pin(registry.info(locked.entry))
    except WeightsNotFound:
        return PinVerdict(locked.entry, "absent", "not in the cache")
    except CorruptCheckpoint as error:
        return PinVerdict(locked.entry, "differs", str(error))
    if found.sha256 != locked.sha256:
        detail = f"made from a file with sha256 {found.sha256}, the lock says {locked.sha256}"
        return PinVerdict(locked.entry, "differs", detail)
    if found.digest != locked.digest:
        return PinVerdict(locked.entry, "differs", f"content digest {found.digest}, the lock says {locked.digest}")
    return PinVerdict(locked.entry, "ok", "as locked")
