"""Files that appear whole or not at all."""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from itertools import count
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast

from cascadezoo.errors import OutputExists, UnwritableOutput

fcntl: Any = import_module("fcntl") if os.name == "posix" else None
_WRITERS = 8  # at once for one target; of more than these, what is abandoned may wait
_LINKS = 40  # one after another, as Linux follows them
_HELD = 2**26  # bytes for a device that are held in memory; more go to a temporary file
_DESCRIPTOR = re.compile(r"/proc/(?P<process>\d+)(?:/task/\d+)?/fd/(?P<number>\d+)|/dev/fd/(?P<own>\d+)")

_PART = re.compile(r"\..+\.\d+\.part", re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")  # escaped in JSON, or as it is


@contextmanager
def whole_file(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A file to write and read again, beside ``path``; renamed to it at the end, and removed after an error or Ctrl-C.

    Until then it is ``.<name>.<number>.part``, locked by its writer: what a killed writer of the same target left is
    removed, what a living one writes is not.  ``mode``: the file's, less the umask.  Of a link the target is replaced.
    A device, a FIFO or a descriptor such as /dev/stdout is never replaced: all of it is written there at the end.
    Raises UnwritableOutput.
    """
    nothing_left = "; nothing was left"
    try:
        target, is_replaced = _target(path)
        if is_replaced:
            with _replacing(target, mode) as file:
                yield file
        else:
            with SpooledTemporaryFile(_HELD) as held:
                yield cast(BinaryIO, held)
                held.seek(0)
                nothing_left = ""
                with _opened(target) as there:
                    shutil.copyfileobj(held, there)
    except OSError as error:
        raise UnwritableOutput(f"{path} cannot be written: {error.strerror or error}{nothing_left}") from error


def can_be_written(path: Path) -> bool:
    """Whether ``whole_file`` can write here, as far as kinds of files and permissions tell."""
    try:
        target, is_replaced = _target(path)
        if not is_replaced and stat.S_ISSOCK(target.stat().st_mode):
            return False
    except OSError:
        return False
    return os.access(target.parent if is_replaced else target, os.W_OK)


def is_same_output(one: Path, other: Path) -> bool:
    """Whether what ``whole_file`` writes to one of these would replace, or be mixed with, what it writes to the other.

    Devices take both.  Raises OSError for links that lead round in a circle, or through a file as if it were a folder.
    """
    (first, is_replaced), (second, _) = _target(one), _target(other)
    return first == second and (is_replaced or _DESCRIPTOR.fullmatch(str(first)) is not None)


def _target(path: Path) -> tuple[Path, bool]:
    """Where the links at ``path`` lead, and whether a file is to be put there in one step, or all written into it."""
    target = _followed(path)
    if _DESCRIPTOR.fullmatch(str(target)):
        return target, False
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target, True
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return target, stat.S_ISREG(mode)


def _followed(path: Path) -> Path:
    """The end of a chain of links; a descriptor's own name is one, for what is open there may have no other."""
    for _ in range(_LINKS):
        path = Path(os.path.realpath(path.parent), path.name)
        if _DESCRIPTOR.fullmatch(str(path)) or not path.is_symlink():
            return path
        path = path.parent / os.readlink(path)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _opened(target: Path) -> BinaryIO:
    """What is no regular file, to write into; a descriptor of this process goes on from where it is."""
    found = _DESCRIPTOR.fullmatch(str(target))
    if found and found["process"] in (None, str(os.getpid())):
        return os.fdopen(os.dup(int(found["number"] or found["own"])), "wb")
    return os.fdopen(os.open(target, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOCTTY", 0)), "wb")


@contextmanager
def _replacing(path: Path, mode: int) -> Iterator[BinaryIO]:
    """A part file that takes the place of ``path`` at the end."""
    part, file = _part_of(path, mode)
    made = os.fstat(file.fileno())
    try:
        yield file
        file.flush()
        os.fsync(file.fileno())
        if fcntl is None:
            file.close()  # Windows renames no open file
        os.replace(part, path)
    finally:
        if fcntl is None:
            file.close()
        if _is_at(part, made):  # not renamed
            part.unlink()
        file.close()  # and with it the lock


def remove_abandoned(folder: Path) -> None:
    """Remove the part files in a folder that killed writers left there, whatever they were to become."""
    for part in folder.glob(".*.part"):
        if _PART.fullmatch(part.name):
            _remove_if_abandoned(part)


def _part_of(path: Path, mode: int) -> tuple[Path, BinaryIO]:
    """The first part file of a target that nobody writes, made anew and locked; other abandoned ones are removed."""
    for number in count():
        part = path.with_name(f".{path.name}.{number}.part")
        _remove_if_abandoned(part)
        try:
            handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        except FileExistsError:  # another process writes it
            continue
        _lock(handle)
        if _is_at(part, os.fstat(handle)):
            break
        os.close(handle)  # taken for abandoned between its making and its locking
    for later in range(number + 1, _WRITERS):
        _remove_if_abandoned(path.with_name(f".{path.name}.{later}.part"))
    return part, os.fdopen(handle, "w+b")


def _remove_if_abandoned(part: Path) -> None:
    """Remove a part file whose writer has died: the system has freed its lock.  Without locks, none is removed."""
    if fcntl is None:
        return
    try:
        handle = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # not there, or not ours
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(part, os.fstat(handle)):
            part.unlink(missing_ok=True)
    except OSError:  # its writer lives
        return
    finally:
        os.close(handle)


def _lock(handle: int) -> None:
    """Lock a new part file; only one who looks whether it is abandoned may hold it for a moment."""
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)


def _is_at(path: Path, made: os.stat_result) -> bool:
    """Whether this file is still the one at ``path``."""
    try:
        return os.path.samestat(path.lstat(), made)
    except FileNotFoundError:
        return False


def protect(target: Path, source: Path, force: bool) -> None:
    """Raise OutputExists where writing ``target`` would replace its source, or, without ``force``, any file.

    What is no regular file, such as /dev/null, is written into and not replaced.
    """
    if target.exists() and target.samefile(source):
        raise OutputExists(f"{target} is the input itself: choose another output")
    if (target.is_file() or target.is_dir()) and not force:
        raise OutputExists(f"{target} is already there: choose another output, or pass --force to replace it")


def write_json(path: str | os.PathLike[str], document: object) -> Path:
    """Write ``document`` as one line of UTF-8 JSON, whole or not at all; returns the path.  Raises UnwritableOutput."""
    path = Path(path)
    text = _text(document)
    with whole_file(path) as file:  # a file name that is no UTF-8 holds half a surrogate pair, which JSON can escape
        file.write(text.encode(errors="backslashreplace") + b"\n")
    return path


def write_json_stream(path: Path, document: Iterator[Any] | Mapping[str, Any]) -> Path:
    """As ``write_json``, byte for byte, of a list whose items come one by one, or of a mapping in which some values are
    such lists: they may be larger than the memory.  Raises UnwritableOutput.
    """
    with whole_file(path) as file:
        for text in _texts(document):
            file.write(text.encode(errors="backslashreplace"))
        file.write(b"\n")
    return path


def _texts(value: Iterator[Any] | Mapping[str, Any]) -> Iterator[str]:
    opening, closing = "{}" if isinstance(value, Mapping) else "[]"
    yield opening
    for number, each in enumerate(value):
        yield ", " * bool(number)
        if isinstance(value, Mapping):
            yield f"{_text(each)}: "
            each = value[each]
        yield from _texts(each) if isinstance(each, Iterator) else (_text(each),)
    yield closing


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def parse_json(data: bytes | str, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The value of a JSON text that may come from anyone; ``pairs`` makes an object of its names and values.

    Raises ValueError where it is no JSON, is nested deeper than Python reads, holds a whole number of more digits than
    Python reads, or half a surrogate pair: such text can be neither printed nor written.
    """
    try:
        value = json.loads(data, object_pairs_hook=pairs)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except ValueError as error:
        if "set_int_max_str_digits" in str(error):  # Python's advice is none for a file from anyone
            raise ValueError("it holds a number of too many digits") from error
        raise
    if _SURROGATE.search(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")):
        json.dumps(value, ensure_ascii=False).encode()  # UnicodeEncodeError is a ValueError
    return value


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_md5(path: Path) -> str:
    """The MD5 of a file's bytes, in hexadecimal: by which some publishers name files; no proof of anything."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def written_sha256(file: BinaryIO) -> str:
    """The same of a file that ``whole_file`` gives, from its beginning; its target may be a device."""
    file.flush()
    file.seek(0)
    digest = hashlib.sha256()
    while block := file.read(2**20):
        digest.update(block)
    return digest.hexdigest()
