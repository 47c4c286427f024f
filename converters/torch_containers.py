"""The two containers that torch.save has written: a pickle whose tensors name storages, and the storages beside it.

zip (torch >= 1.6): ``<root>/data.pkl``, ``<root>/data/<storage key>``, and ``<root>/byteorder`` since torch 2.0.
legacy: pickles in a row (magic number, protocol, system, the object, the list of storage keys), then for each key of
that list the number of elements (int64) and their bytes.  Source: ``torch/serialization.py`` (_save, _legacy_save).
"""

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from mmap import mmap
from typing import Any, Literal

from cascadezoo.converters.mistaken import about_archive
from cascadezoo.converters.pickle_reader import PickleReader
from cascadezoo.converters.records import Malformed
from cascadezoo.converters.zip_members import zip_members

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_LEGACY_START = re.compile(rb"\x80[\x02-\x05].{0,9}\x8a\x0a" + re.escape(_LEGACY_MAGIC.to_bytes(10, "little")), re.S)
_ZIP_START = re.compile(rb"PK\x03\x04")

# Storage key -> a function that gives the file's pages, or what it has inflated, and where the storage begins there.
Storages = Mapping[str, Callable[[], tuple[mmap | bytearray, int]]]


@dataclass(frozen=True, eq=False)
class Container:
    """A checkpoint: the inert object, and the bytes of each storage it names."""

    kind: Literal["zip", "legacy", "pickle"]  # in a plain pickle, arrays hold their numbers themselves
    root: Any
    globals: tuple[str, ...]  # in order of appearance
    refused: tuple[str, ...]
    storages: Storages


def open_torch(file: mmap) -> Container | None:
    """The checkpoint in ``file``, or None when it does not begin like one of torch's.

    Raises:
        Malformed: truncated, contradictory, or beyond a limit.
    """
    head = file[:64]
    if _ZIP_START.match(head):
        return _open_zip(file)
    if _LEGACY_START.match(head):
        return _open_legacy(file)
    return None


def _open_zip(file: mmap) -> Container:
    members = zip_members(file)
    pickles = [name for name in members if name.rpartition("/")[2] == "data.pkl"]
    if not pickles and (known := about_archive(members)):
        raise Malformed(known)
    if len(pickles) != 1:
        found = f"{len(pickles)} members" if pickles else "no member"
        raise Malformed(f"it is a zip archive with {found} named data.pkl, where a torch checkpoint has one")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in members:
        raise Malformed("it is a TorchScript archive, which holds code: give the checkpoint it was made from")
    if f"{root}byteorder" in members:
        buffer, start = members[f"{root}byteorder"].contents(file)
        if buffer[start : start + members[f"{root}byteorder"].size] != b"little":
            raise Malformed("it was written on a big-endian machine: save it again on a little-endian one")
    pickle = members[pickles[0]]
    buffer, start = pickle.contents(file)
    stream = buffer if isinstance(buffer, mmap) else io.BytesIO(buffer)
    stream.seek(start)
    reader = PickleReader(stream, pickle.size)
    value = reader.load()
    if stream.tell() > start + pickle.size:
        raise Malformed("its pickle does not end where its zip member ends")
    storages: dict[str, Callable[[], tuple[mmap | bytearray, int]]] = {}
    for key, storage in reader.storages.items():
        member = members.get(f"{root}data/{key}")
        if member is None:
            raise Malformed(f"storage {key!r} is missing from its zip archive")
        if member.size != storage.nbytes:
            raise Malformed(f"storage {key!r} should have {storage.nbytes} bytes and has {member.size}")
        storages[key] = cache(partial(member.contents, file))  # a deflated one is inflated when it is asked for, once
    return Container("zip", value, tuple(reader.globals), reader.refused, storages)


def _open_legacy(file: mmap) -> Container:
    file.seek(0)
    reader = PickleReader(file, len(file))
    magic, protocol, system = reader.load(), reader.load(), reader.load()
    if (magic, protocol) != (_LEGACY_MAGIC, _LEGACY_PROTOCOL) or not isinstance(system, dict):
        raise Malformed(f"it is no legacy torch file of protocol {_LEGACY_PROTOCOL}")
    if system.get("little_endian") is not True:
        raise Malformed("it was written on a big-endian machine: save it again on a little-endian one")
    value, keys = reader.load(), reader.load()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise Malformed("its list of storages is malformed")
    if len(keys) != len(reader.storages) or set(keys) != reader.storages.keys():
        raise Malformed("its list of storages is not that of its tensors")
    starts: dict[str, int] = {}
    position = file.tell()
    for key in keys:
        storage = reader.storages[key]
        start = position + 8
        count = int.from_bytes(file[position:start], "little")
        position = start + storage.nbytes
        if position > len(file):
            raise Malformed(f"it ends within storage {key!r}, at byte {len(file)}: download it again")
        if count != storage.numel:
            raise Malformed(f"storage {key!r} should have {storage.numel} elements and has {count}")
        starts[key] = start
    if position != len(file):
        raise Malformed(f"{len(file) - position} bytes follow its last storage")
    storages = {key: partial(_place, file, start) for key, start in starts.items()}
    return Container("legacy", value, tuple(reader.globals), reader.refused, storages)


def _place(file: mmap, start: int) -> tuple[mmap, int]:
    return file, start
