"""A publisher's .pth file as data: its state dict as tensors, the rest inert or left out; nothing in it is executed."""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from mmap import ACCESS_COPY, mmap
from pathlib import Path
from typing import Any, Literal

import torch

from cascadezoo.converters.pickle_values import MAX_NAME, ArrayRecord, Malformed, Stub, TensorRecord
from cascadezoo.converters.torch_containers import Container, open_container
from cascadezoo.errors import CorruptCheckpoint, UnsafeCheckpoint, WeightsNotFound

# What else comes under the name of a checkpoint, by its first bytes.
_MISTAKEN: tuple[tuple[bytes, str], ...] = (
    (
        rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype|html|head|body|\?xml)",
        "it is a web page saved under this name: download the file again",
    ),
    (rb"version https://git-lfs", "it is a git-lfs pointer, not the file itself: run `git lfs pull`"),
    (
        rb"(?s).{8}\{\s*\"",
        "it is a safetensors file, not a publisher's checkpoint: name it .safetensors and load it as weights",
    ),
    (
        rb"(?s).{257}ustar",
        "it is a tar archive, as torch itself wrote before 0.1.10: give the file inside it, or save it again",
    ),
    (rb"\x1f\x8b", "it is compressed with gzip: unpack it first"),
    (rb"\x80[\x02-\x05]", "it is a plain pickle, or one cut off at its start, not a torch checkpoint"),
)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a publisher's file holds.

    Attributes:
        path: the file, as it was given.
        container: how torch packed it: "zip" (torch >= 1.6) or "legacy".
        tensors: the state dict: the publisher's raw key -> tensor on the CPU, in the file's order.  Each is made when
            it is asked for, and lies on the file's own pages where these are aligned; writing to it never reaches the
            file, which must stay as it is while tensors are used.
        meta: the entry "meta" of the file, inert: dict, list, tuple, str, bytes, number, None, and records of
            `cascadezoo.converters.pickle_values` (`Stub` for all that would need code).
        globals: every global that the pickle names ("collections.OrderedDict"), in order of appearance.
        refused: those of them that were replaced by stubs.
        unsafe: state-dict key -> global, for entries whose value could only be made by running that global.
        ignored: other entries of the file ("optimizer"), and those of the state dict that are no tensors
            ("state_dict.steps").
    """

    path: Path
    container: Literal["zip", "legacy"]
    tensors: Mapping[str, torch.Tensor] = field(repr=False)
    meta: Any = field(repr=False)
    globals: tuple[str, ...]
    refused: tuple[str, ...]
    unsafe: Mapping[str, str]
    ignored: tuple[str, ...]


class _Tensors(Mapping[str, torch.Tensor]):
    def __init__(self, container: Container, records: Mapping[str, TensorRecord]) -> None:
        self._container = container
        self._records = records

    def __getitem__(self, key: str) -> torch.Tensor:
        return self._container.tensor(self._records[key])

    def __contains__(self, key: object) -> bool:
        return key in self._records

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read the .pth file of a publisher, zip or legacy container, without running anything it names.

    Args:
        path: a file written by torch.save, holding {"state_dict": ...} or the bare state dict.

    Raises:
        WeightsNotFound: there is no such file.
        CorruptCheckpoint: truncated, malformed, beyond a limit, or no torch checkpoint at all.
        UnsafeCheckpoint: the file, or its whole state dict, could only be made by running code it names.
    """
    path = Path(path)
    file = _map(path)
    try:
        container = open_container(file)
    except Malformed as error:
        raise CorruptCheckpoint(f"{path} cannot be read as a checkpoint: {error}") from None
    if container is None:
        raise CorruptCheckpoint(f"{path} cannot be read as a checkpoint: {_mistaken_for(file[:512])}")
    return _checkpoint(path, container)


def _map(path: Path) -> mmap:
    """The whole file as copy-on-write memory: pages are read when they are used."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "is a directory" if stat.S_ISDIR(status.st_mode) else "is no regular file"
            raise CorruptCheckpoint(f"{path} {kind}: give the checkpoint file itself")
        if not status.st_size:
            raise CorruptCheckpoint(f"{path} is empty: download it again")
        with path.open("rb") as file:
            return mmap(file.fileno(), 0, access=ACCESS_COPY)
    except (FileNotFoundError, NotADirectoryError):
        raise WeightsNotFound(f"{path} does not exist: give the path of a downloaded checkpoint") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path, a file emptied meanwhile
        reason = error.strerror if isinstance(error, OSError) else error
        raise CorruptCheckpoint(f"{str(path)!r} cannot be opened: {reason}") from None


def _mistaken_for(head: bytes) -> str:
    for pattern, sentence in _MISTAKEN:
        if re.match(pattern, head):
            return sentence
    return f"it is no torch checkpoint (it begins with {head[:8]!r})"


def _checkpoint(path: Path, container: Container) -> Checkpoint:
    """Pick the state dict out of the file's object; mmengine takes the object itself where it has no "state_dict"."""
    root = _mapping(path, "the file", container.root)
    wrapped = "state_dict" in root
    state = _mapping(path, "its state_dict", root["state_dict"]) if wrapped else root
    records: dict[str, TensorRecord] = {}
    unsafe: dict[str, str] = {}
    ignored = [_label(key) for key in root if key not in ("state_dict", "meta")] if wrapped else []
    for key, value in state.items():
        if isinstance(value, ArrayRecord):
            value = value.values
        if isinstance(value, TensorRecord | Stub) and _label(key) != key:
            raise CorruptCheckpoint(f"{path}: its state dict has the key {_label(key)}, which is no name of a tensor")
        if isinstance(value, TensorRecord):
            records[key] = value
        elif isinstance(value, Stub):
            unsafe[key] = value.name
        else:
            ignored.append(f"state_dict.{_label(key)}" if wrapped else _label(key))
    if not records and unsafe:
        key, name = next(iter(unsafe.items()))
        raise UnsafeCheckpoint(
            f"{path}: {key} could only be read by running {name}, which is never done, and it has no other tensors"
        )
    if not records:
        raise CorruptCheckpoint(f"{path} holds no tensors{' in its state_dict' if wrapped else ''}: {_contents(root)}")
    return Checkpoint(
        path=path,
        container=container.kind,
        tensors=_Tensors(container, records),
        meta=root.get("meta") if wrapped else None,
        globals=container.globals,
        refused=container.refused,
        unsafe=unsafe,
        ignored=tuple(ignored),
    )


def _mapping(path: Path, what: str, value: object) -> dict[Any, Any]:
    if isinstance(value, Stub):
        raise UnsafeCheckpoint(
            f"{path}: {what} could only be read by running {value.name}, which is never done: get a plain state dict"
        )
    if not isinstance(value, dict):
        raise CorruptCheckpoint(f"{path}: {what} is of type {type(value).__name__}, where a state dict is expected")
    return value


def _contents(root: dict[Any, Any]) -> str:
    return f"its entries are {', '.join(_label(key) for key in list(root)[:10])}" if root else "it is empty"


def _label(key: object) -> str:
    """A key as it may be shown."""
    return key if isinstance(key, str) and key.isprintable() and len(key) <= MAX_NAME else repr(key)[:MAX_NAME]
