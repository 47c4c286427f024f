"""A weights file as data: its state dict as tensors, the rest inert or left out; nothing in it is executed.

What a file is shows in its bytes, never in its name: a container of torch's, a plain pickle of numpy arrays, or
safetensors.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cascadezoo.converters.mapped import mapped
from cascadezoo.converters.mistaken import about_file, about_name, about_state
from cascadezoo.converters.pickle_values import Array, Stub, TensorRecord
from cascadezoo.converters.plain_pickles import SplitArray, array_of, joined, open_pickle
from cascadezoo.converters.records import MAX_NAME, MAX_TENSORS, Declared, LazyTensors, Malformed
from cascadezoo.converters.safetensors_file import SafetensorsFile, open_safetensors
from cascadezoo.converters.torch_containers import Container, open_torch
from cascadezoo.converters.wrappers import unwrap
from cascadezoo.errors import CorruptCheckpoint, UnsafeCheckpoint
from cascadezoo.paths import expanded

if TYPE_CHECKING:
    from torch import Tensor

_Record = TensorRecord | Array | SplitArray


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a weights file holds.

    Attributes:
        path: the file, as it was given.
        container: how it is packed: by torch, "zip" (since 1.6) or "legacy", as one "pickle" of numpy arrays, or as
            "safetensors".
        wrapper: the entry that the state dict is under, "state_dict" or "model.blobs"; None where it is bare.
        records: the state dict: the publisher's raw key -> shape and data type ("float32"), in the file's order.
        tensors: the same as tensors on the CPU.  Each is made when it is asked for (nothing else here needs torch), and
            lies on the file's own pages where these are aligned; writing to it never reaches the file, which must stay
            as it is while tensors are used.
        meta: the entry "meta" of the file, its usual contents ("cfg", "CLASSES", …) where they lie beside the weights,
            or the metadata of safetensors, inert: dict, list, tuple, str, bytes, number, None, and records of
            `cascadezoo.converters.pickle_values` (`Stub` for what would need code).
        globals: every global that the pickle names ("collections.OrderedDict"), in order of appearance.
        refused: those of them that were replaced by stubs.
        unsafe: state-dict key -> global, for entries whose value could only be made by running that global.
        ignored: other entries of the file ("optimizer"), and those of the state dict that are no tensors
            ("state_dict.steps").
    """

    path: Path
    container: Literal["zip", "legacy", "pickle", "safetensors"]
    wrapper: str | None
    records: Mapping[str, Declared] = field(repr=False)
    tensors: "Mapping[str, Tensor]" = field(repr=False)
    meta: Any = field(repr=False)
    globals: tuple[str, ...]
    refused: tuple[str, ...]
    unsafe: Mapping[str, str]
    ignored: tuple[str, ...]


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a weights file without running anything it names.

    Args:
        path: a file written by torch.save, paddle.save, Detectron or safetensors, holding the state dict, bare or under
            the usual names ("state_dict", "model", "blobs", …).

    Raises:
        WeightsNotFound: there is no such file.
        CorruptCheckpoint: truncated, malformed, beyond a limit, or no checkpoint at all.
        UnsafeCheckpoint: the file, or its whole state dict, could only be made by running code it names.
    """
    path = expanded(path)
    file = mapped(path)
    if known := about_name(path):
        raise _unreadable(path, Malformed(known))
    if file[8:9] == b"{":
        return _of_safetensors(open_safetensors(path))
    try:
        container = open_torch(file) or open_pickle(file)
        if container is None:
            raise Malformed(about_file(path, file[:4096]))
        return _checkpoint(path, container)
    except Malformed as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Malformed) -> CorruptCheckpoint:
    return CorruptCheckpoint(f"{path} cannot be read as a checkpoint: {error}")


def _of_safetensors(file: SafetensorsFile) -> Checkpoint:
    if not file.records:
        raise CorruptCheckpoint(f"{file.path} holds no tensors")
    return Checkpoint(
        path=file.path,
        container="safetensors",
        wrapper=None,
        records=file.records,
        tensors=file.tensors,
        meta=dict(file.metadata),
        globals=(),
        refused=(),
        unsafe={},
        ignored=(),
    )


def _checkpoint(path: Path, container: Container) -> Checkpoint:
    """Pick the state dict out of the file's object; mmengine takes the object itself where it has no "state_dict"."""
    root = _mapping(path, "the file", container.root)
    wrapped = unwrap(root, _is_tensor)
    wrapper = ".".join(wrapped.path) or None
    state = joined(_mapping(path, f"its {wrapper}", wrapped.state))
    records: dict[str, _Record] = {}
    unsafe: dict[str, str] = {}
    ignored = [f"{place}{_label(key)}" for place, key in wrapped.beside]
    for key, value in state.items():
        found = value if isinstance(value, TensorRecord | Stub) else array_of(value)
        if found is not None and _label(key) != key:
            raise CorruptCheckpoint(f"{path}: its state dict has the key {_label(key)}, which is no name of a tensor")
        if isinstance(found, Stub):
            unsafe[key] = found.name
        elif found is not None:
            records[key] = found
        else:
            ignored.append(_label(key) if wrapper is None else f"{wrapper}.{_label(key)}")
    if len(records) > MAX_TENSORS:  # under many names, even one tensor takes long to identify
        raise Malformed(f"it names more than {MAX_TENSORS} tensors")
    if not records and unsafe:
        key, name = next(iter(unsafe.items()))
        raise UnsafeCheckpoint(
            f"{path}: {key} could only be read by running {name}, which is never done, and it has no other tensors"
        )
    if not records:
        about = about_state([_label(key) for key in root]) or _contents(root)
        raise CorruptCheckpoint(f"{path} holds no tensors{f' in its {wrapper}' if wrapper else ''}: {about}")
    return Checkpoint(
        path=path,
        container=container.kind,
        wrapper=wrapper,
        records=records,
        tensors=LazyTensors(records, partial(_tensor, path, container)),
        meta=wrapped.meta,
        globals=container.globals,
        refused=container.refused,
        unsafe=unsafe,
        ignored=tuple(ignored),
    )


def _tensor(path: Path, container: Container, record: _Record) -> "Tensor":
    from cascadezoo.converters.tensors import tensor_of  # torch, only where a tensor is made

    try:
        return tensor_of(record, container.storages)
    except Malformed as error:
        raise _unreadable(path, error) from None


def _is_tensor(value: object) -> bool:
    return isinstance(value, TensorRecord | Stub) or array_of(value) is not None


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
