"""What lies in the cache: a list of it, throwing it away, and a check of everything that can be checked.

Records of trusted files are not listed: they are kept, so that a file that is fetched again must have the same hash.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import unquote, urlsplit

from filelock import FileLock, Timeout

from cascadezoo import registry
from cascadezoo.errors import CorruptCheckpoint, UnknownName
from cascadezoo.manifest import ZooEntry
from cascadezoo.ops import building
from cascadezoo.paths import data_folder, home, made, ops_folder

Kind = Literal["canonical", "original", "part", "quarantine", "data", "operators", "outdated"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_FILES: dict[Kind, str] = {
    "canonical": "canonical",
    "original": "originals",
    "part": "parts",
    "quarantine": "quarantine",
}
State = Literal["ok", "damaged", "unproven"]


@dataclass(frozen=True)
class CacheItem:
    """A file of the cache, or a folder that is of use only as a whole.

    Attributes:
        kind: what it is kept for.  Folders are drawn images ("data"), and compiled operators of these sources
            ("operators") or of others ("outdated").
        entry: the full name of its entry; of a folder, its own name.
        path: where it lies.
        size: in bytes.
        used: when it was last read or written, as far as the file system keeps these times.
    """

    kind: Kind
    entry: str
    path: Path
    size: int
    used: datetime

    @property
    def is_folder(self) -> bool:
        """Whether the item is a folder, listed and removed as a whole."""
        return self.kind not in _FILES


@dataclass(frozen=True)
class Pruned:
    """What was removed (in a dry run: would be), and what another process is working on."""

    removed: tuple[CacheItem, ...]
    busy: tuple[CacheItem, ...]


@dataclass(frozen=True)
class FileVerdict:
    """The result of checking one file of the cache.

    Attributes:
        kind: canonical or original.
        entry: the full name of its entry.
        path: where it lies.
        state: ok; damaged; or unproven, where neither the manifest nor a record gives a hash to compare it with.
        detail: the reason, as a phrase.
    """

    kind: Kind
    entry: str
    path: Path
    state: State
    detail: str


def items(kinds: Sequence[Kind] = KINDS) -> list[CacheItem]:
    """The files and folders of these kinds, by kind, entry and name; none where there is no cache."""
    return sorted(_items(kinds), key=lambda item: (KINDS.index(item.kind), item.entry, item.path))


def prune(kinds: Sequence[Kind], older_than: timedelta = timedelta(0), *, dry_run: bool = False) -> Pruned:
    """Remove the files and folders of these kinds that were not used for ``older_than``.

    Each is removed under its entry's or builder's lock; what another process works on stays.  Notes on missing files
    go, too.  Raises OSError where a file cannot be removed.
    """
    limit = datetime.now(UTC) - older_than
    old = [item for item in items(kinds) if item.used <= limit]
    if dry_run:
        return Pruned(tuple(old), ())
    removed = tuple(item for item in old if _remove(item))
    _forget_what_is_gone()
    return Pruned(removed, tuple(item for item in old if item not in removed))


def check_files(report: Callable[[FileVerdict], None] = lambda verdict: None) -> list[FileVerdict]:
    """Hash every canonical and original file of the cache, also unchanged ones; ``report`` is called with each result.

    A canonical file must hold its content digest and be of its entry, made from the file that was trusted; an original
    must have the hash and size that the manifest gives, and the hash that was recorded when it was trusted.
    """
    verdicts = []
    for item in items(("canonical", "original")):
        verdicts.append(FileVerdict(item.kind, item.entry, item.path, *_check(item)))
        report(verdicts[-1])
    return verdicts


def _items(kinds: Sequence[Kind]) -> Iterator[CacheItem]:
    for kind in kinds:
        if kind not in _FILES:
            yield from _folders(kind)
            continue
        root = home() / _FILES[kind]
        for path in root.rglob("*"):
            unfinished = path.name.startswith(".") and path.suffix == ".part"  # by a process that was killed
            if path.is_file() and not unfinished:
                yield _item(kind, path, root)
    if "part" in kinds:
        for folder in ("canonical", "originals", "parts", "records"):
            for path in (home() / folder).rglob(".*.part"):
                yield _item("part", path, home() / folder)


def _folders(kind: Kind) -> Iterator[CacheItem]:
    """Drawn data sets; operators of these sources; or those of other versions, which nothing loads any more."""
    root, current = data_folder() if kind == "data" else ops_folder(), building.folder()
    for path in root.glob("*/"):
        if kind == "data" or (kind == "operators") == (path == current):
            files = [each for each in path.rglob("*") if each.is_file()]
            used = max((_used(each) for each in files), default=_used(path))
            yield CacheItem(kind, path.name, path, sum(each.stat().st_size for each in files), used)


def _item(kind: Kind, path: Path, root: Path) -> CacheItem:
    first = path.relative_to(root).parts[0]  # <entry>, <entry>.safetensors or .<entry>.json.0a1b2c3d.part
    entry = re.sub(r"\.(safetensors|json)(\..*)?$", "", first.removeprefix("."))
    return CacheItem(kind, entry, path, path.stat().st_size, _used(path))


def _used(path: Path) -> datetime:
    status = path.stat()
    return datetime.fromtimestamp(max(status.st_atime, status.st_mtime), UTC)


def _locks(item: CacheItem) -> Iterable[Path]:
    """The locks of those who write an item."""
    if item.kind in ("operators", "outdated"):
        return building.locks(item.path)
    return (home() / "locks" / f"{item.entry}.lock",)


def _remove(item: CacheItem) -> bool:
    try:
        with ExitStack() as held:
            for lock in _locks(item):
                made(lock.parent)
                held.enter_context(FileLock(lock).acquire(timeout=0))
            if item.is_folder:
                shutil.rmtree(item.path)
                return True
            item.path.unlink(missing_ok=True)
            folder = item.path.parent
            if folder.parent.parent == home() and not any(folder.iterdir()):  # the entry's own
                folder.rmdir()
    except Timeout:
        return False
    return True


def _forget_what_is_gone() -> None:
    """Remove the memo's notes on files that are no longer there, inside the cache or outside, and half-written ones."""
    for unfinished in (home() / "digests").glob(".*.part"):  # a memo that is being written can be spared
        unfinished.unlink(missing_ok=True)
    for note in (home() / "digests").glob("*.json"):
        try:
            path = Path(json.loads(note.read_text("utf-8"))["path"])
        except (ValueError, TypeError, KeyError):  # half a note, which says nothing
            path = Path()
        if not path.is_file():
            note.unlink(missing_ok=True)


def _check(item: CacheItem) -> tuple[State, str]:
    try:
        return _check_canonical(item) if item.kind == "canonical" else _check_original(item)
    except CorruptCheckpoint as error:  # of the file, or of the note that says what was trusted
        return "damaged", str(error).removeprefix(f"{item.path}: ")
    except OSError as error:
        return "damaged", f"cannot be read: {error.strerror or error}"


def _check_canonical(item: CacheItem) -> tuple[State, str]:
    from cascadezoo.converters.canonical import read_canonical  # torch is imported only when there is something to hash
    from cascadezoo.hub.integrity import recorded

    _, metadata = read_canonical(item.path)
    made_for = metadata.get("entries", item.entry).split(",")
    if item.entry not in made_for:
        return "damaged", f"holds the weights of {' or '.join(made_for)}"
    trusted, made_from = recorded(item.entry), metadata.get("source_sha256")
    if trusted is not None and made_from not in (None, trusted.sha256):
        return "damaged", f"made from a file with sha256 {made_from}, but the one trusted has {trusted.sha256}"
    if "content_digest" not in metadata:
        return "unproven", "says no content digest"
    return "ok", "content digest holds"


def _check_original(item: CacheItem) -> tuple[State, str]:
    from cascadezoo.hub import integrity
    from cascadezoo.hub.parts import hashed

    entry = _entry(item.entry)
    if entry is None or _file_name(entry) != item.path.name:
        return "unproven", "no file of an entry's present address"
    checks = integrity.known_checks(entry)
    fault = integrity.fault(entry, hashed(item.path, str(item.path), integrity.wants_md5(checks)), checks)
    if fault is not None:
        return "damaged", fault.removeprefix(f"{item.path} ")
    if not checks:
        return "unproven", "neither the manifest nor a record says anything of it"
    return "ok", f"agrees with {' and '.join(check.origin for check in checks)}"


def _entry(name: str) -> ZooEntry | None:
    try:
        return registry.info(name)
    except UnknownName:
        return None


def _file_name(entry: ZooEntry) -> str:
    return unquote(urlsplit(entry.download_url or "").path).rpartition("/")[2]
