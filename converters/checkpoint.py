"""A publisher's checkpoint as data: its state dict as tensors, the rest inert or left out; nothing in it is executed.

What a file is shows in its bytes, never in its name: a container of torch's, or a plain pickle of numpy arrays.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from mmap import ACCESS_COPY, mmap
from pathlib import Path
from typing import Any, Literal

import torch

from cascadezoo.converters.pickle_values import MAX_NAME, Malformed, Stub, TensorRecord
from cascadezoo.converters.plain_pickles import array_of, joined, open_pickle, to_tensor
from cascadezoo.converters.torch_containers import Container, open_torch
from cascadezoo.errors import CorruptCheckpoint, UnsafeCheckpoint, WeightsNotFound
from cascadezoo.paths import expanded

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
)

_META_BESIDE = {"state_dict": "meta", "blobs": "cfg"}  # where the state dict is -> what tells about it


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a publisher's file holds.

    Attributes:
        path: the file, as it was given.
        container: how it is packed: by torch, "zip" (since 1.6) or "legacy", or as one "pickle" of numpy arrays.
        tensors: the state dict: the publisher's raw key -> tensor on the CPU, in the file's order.  Each is made when
            it is asked for, and lies on the file's own pages where these are aligned; writing to it never reaches the
            file, which must stay as it is while tensors are used.
        meta: the entry "meta" of the file, or what lies beside "blobs" ({"cfg": text}), inert: dict, list, tuple, str,
            bytes, number, None, and records of `cascadezoo.converters.pickle_values` (`Stub` for what would need code).
        globals: every global that the pickle names ("collections.OrderedDict"), in order of appearance.
        refused: those of them that were replaced by stubs.
        unsafe: state-dict key -> global, for entries whose value could only be made by running that global.
        ignored: other entries of the file ("optimizer"), and those of the state dict that are no tensors
            ("state_dict.steps").
    """

    path: Path
    container: Literal["zip", "legacy", "pickle"]
    tensors: Mapping[str, torch.Tensor] = field(repr=False)
    meta: Any = field(repr=False)
    globals: tuple[str, ...]
    refused: tuple[str, ...]
    unsafe: Mapping[str, str]
    ignored: tuple[str, ...]


class _Tensors(Mapping[str, torch.Tensor]):
    def __init__(self, makers: Mapping[str, Callable[[], torch.Tensor]]) -> None:
        self._makers = makers

    def __getitem__(self, key: str) -> torch.Tensor:
        return self._makers[key]()

    def __contains__(self, key: object) -> bool:
        return key in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a publisher's checkpoint without running anything it names.

    Args:
        path: a file written by torch.save, paddle.save, or Detectron, holding {"state_dict": ...}, {"blobs": ...} or
            the bare state dict.

    Raises:
        WeightsNotFound: there is no such file.
        CorruptCheckpoint: truncated, malformed, beyond a limit, or no checkpoint at all.
        UnsafeCheckpoint: the file, or its whole state dict, could only be made by running code it names.
    """
    path = expanded(path)
    file = _map(path)
    try:
        container = open_torch(file) or open_pickle(file)
        if container is None:
            raise Malformed(_mistaken_for(file[:512]))
        return _checkpoint(path, container)
    except Malformed as error:
        raise CorruptCheckpoint(f"{path} cannot be read as a checkpoint: {error}") from None


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
    return f"it is no checkpoint (it begins with {head[:8]!r})"


def _checkpoint(path: Path, container: Container) -> Checkpoint:
    """Pick the state dict out of the file's object; mmengine takes the object itself where it has no "state_dict"."""
    root = _mapping(path, "the file", container.root)
    wrapper = next((key for key in _META_BESIDE if key in root), None)
    state = joined(root if wrapper is None else _mapping(path, f"its {wrapper}", root[wrapper]))
    makers: dict[str, Callable[[], torch.Tensor]] = {}
    unsafe: dict[str, str] = {}
    ignored = [] if wrapper is None else [_label(key) for key in root if key not in (wrapper, _META_BESIDE[wrapper])]
    for key, value in state.items():
        found = value if isinstance(value, TensorRecord | Stub) else array_of(value)
        if found is not None and _label(key) != key:
            raise CorruptCheckpoint(f"{path}: its state dict has the key {_label(key)}, which is no name of a tensor")
        if isinstance(found, TensorRecord):
            makers[key] = partial(container.tensor, found)
        elif isinstance(found, Stub):
            unsafe[key] = found.name
        elif found is not None:
            makers[key] = partial(to_tensor, found)
        else:
            ignored.append(_label(key) if wrapper is None else f"{wrapper}.{_label(key)}")
    if not makers and unsafe:
        key, name = next(iter(unsafe.items()))
        raise UnsafeCheckpoint(
            f"{path}: {key} could only be read by running {name}, which is never done, and it has no other tensors"
        )
    if not makers:
        raise CorruptCheckpoint(f"{path} holds no tensors{f' in its {wrapper}' if wrapper else ''}: {_contents(root)}")
    return Checkpoint(
        path=path,
        container=container.kind,
        tensors=_Tensors(makers),
        meta=_meta(root, wrapper),
        globals=container.globals,
        refused=container.refused,
        unsafe=unsafe,
        ignored=tuple(ignored),
    )


def _meta(root: dict[Any, Any], wrapper: str | None) -> Any:
    if wrapper == "blobs":
        return {"cfg": root.get("cfg")}
    return None if wrapper is None else root.get("meta")


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
