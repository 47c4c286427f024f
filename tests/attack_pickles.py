"""Pickles and checkpoints built byte by byte, so that hostile ones need no hostile writer.

A fragment is a run of opcodes that leaves one value on the stack.
"""

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import torch

TRIPWIRE = "cascadezoo-tripwire"  # stands in the arguments of every attack
TRIPWIRE_CODE = 0xF0  # an extension code that stands for os.system


def stop(fragment: bytes, protocol: int = 2) -> bytes:
    """A whole pickle."""
    return pickle.PROTO + bytes([protocol]) + fragment + pickle.STOP


def text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def integer(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return pickle.LONG1 + bytes([len(data)]) + data


def sequence(*fragments: bytes) -> bytes:
    return pickle.MARK + b"".join(fragments) + pickle.TUPLE


def mapping(items: Mapping[str, bytes]) -> bytes:
    pairs = b"".join(text(key) + value for key, value in items.items())
    return pickle.EMPTY_DICT + pickle.MARK + pairs + pickle.SETITEMS


def named(dotted: str) -> bytes:
    module, _, name = dotted.rpartition(".")
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def called(dotted: str, *args: bytes) -> bytes:
    return named(dotted) + sequence(*args) + pickle.REDUCE


def storage(key: str = "0", numel: int = 4, kind: str = "torch.FloatStorage") -> bytes:
    return sequence(text("storage"), named(kind), text(key), text("cuda:0"), integer(numel)) + pickle.BINPERSID


def tensor(
    data: bytes | None = None,
    offset: bytes = integer(0),
    shape: bytes = sequence(integer(4)),
    strides: bytes = sequence(integer(1)),
) -> bytes:
    """By default, the four floats of storage "0"."""
    args = (data or storage(), offset, shape, strides, pickle.NEWFALSE, called("collections.OrderedDict"))
    return called("torch._utils._rebuild_tensor_v2", *args)


FLOATS = struct.pack("<4f", 1, 2, 3, 4)


def array(
    raw: bytes = pickle.SHORT_BINBYTES + bytes([len(FLOATS)]) + FLOATS,
    shape: bytes = sequence(integer(4)),
    dtype: bytes = called("numpy.dtype", text("f4")),
) -> bytes:
    """By default, a numpy array of the same four floats."""
    empty = called("numpy.core.multiarray._reconstruct", named("numpy.ndarray"), sequence(integer(0)), text("b"))
    return empty + sequence(integer(1), shape, dtype, pickle.NEWFALSE, raw) + pickle.BUILD


def _named_in(fragment: bytes) -> dict[str, bytes]:
    return {"0": FLOATS} if text("storage") in fragment else {}


def zip_checkpoint(fragment: bytes, storages: Mapping[str, bytes] | None = None, **more: bytes) -> bytes:
    """A zip container, without padding; ``more`` are further members of the root."""
    members = {"data.pkl": stop(fragment), "byteorder": b"little"} | more
    members |= {f"data/{key}": data for key, data in (_named_in(fragment) if storages is None else storages).items()}
    return zip_archive({f"archive/{name}": data for name, data in members.items()})


def zip_archive(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return file.getvalue()


LEGACY_HEAD = b"".join(
    pickle.dumps(value, 2)
    for value in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}})
)


def legacy_checkpoint(fragment: bytes, storages: Mapping[str, bytes] | None = None) -> bytes:
    """A legacy container whose storages are floats."""
    storages = _named_in(fragment) if storages is None else storages
    runs = b"".join(struct.pack("<q", len(data) // 4) + data for data in storages.values())
    return LEGACY_HEAD + stop(fragment) + pickle.dumps(list(storages), 2) + runs


CONTAINERS = {"zip": zip_checkpoint, "legacy": legacy_checkpoint}


def saved(value: Any, container: str, protocol: int = 2) -> bytes:
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(value, file, pickle_protocol=protocol, _use_new_zipfile_serialization=container == "zip")
    return file.getvalue()


_COMMAND = text(f"echo {TRIPWIRE}")
_ARGS = sequence(_COMMAND)
_PYTHON = text(f"print({TRIPWIRE!r})")

# name -> (fragment that runs code when Python's own unpickler reads it, the global it hangs on)
ATTACKS: dict[str, tuple[bytes, str]] = {
    "os.system by REDUCE": (named("os.system") + _ARGS + pickle.REDUCE, "os.system"),
    "posix.system": (named("posix.system") + _ARGS + pickle.REDUCE, "posix.system"),
    "eval": (called("builtins.eval", _PYTHON), "builtins.eval"),
    "eval of python 2": (called("__builtin__.eval", _PYTHON), "__builtin__.eval"),
    "exec": (called("builtins.exec", _PYTHON), "builtins.exec"),
    "Popen": (called("subprocess.Popen", sequence(text("echo"), text(TRIPWIRE))), "subprocess.Popen"),
    "__setstate__ set by BUILD, called by BUILD": (
        called("types.SimpleNamespace")
        + (pickle.EMPTY_DICT + text("__setstate__") + named("os.system") + pickle.SETITEM + pickle.BUILD)
        + (_COMMAND + pickle.BUILD),
        "types.SimpleNamespace",
    ),
    "STACK_GLOBAL": (text("os") + text("system") + pickle.STACK_GLOBAL + _ARGS + pickle.REDUCE, "os.system"),
    "INST": (pickle.MARK + _COMMAND + pickle.INST + b"os\nsystem\n", "os.system"),
    "OBJ": (pickle.MARK + named("os.system") + _COMMAND + pickle.OBJ, "os.system"),
    "NEWOBJ": (named("victim.Class") + _ARGS + pickle.NEWOBJ, "victim.Class"),
    "NEWOBJ_EX": (named("victim.Class") + _ARGS + pickle.EMPTY_DICT + pickle.NEWOBJ_EX, "victim.Class"),
    "EXT1": (pickle.EXT1 + bytes([TRIPWIRE_CODE]) + _ARGS + pickle.REDUCE, "copyreg.extension[240]"),
    "getattr": (
        called("builtins.getattr", called("importlib.import_module", text("os")), text("system"))
        + (_ARGS + pickle.REDUCE),
        "builtins.getattr",
    ),
    "partial": (
        called("functools.partial", named("os.system"), _COMMAND) + pickle.EMPTY_TUPLE + pickle.REDUCE,
        "functools.partial",
    ),
    "items of a mapping": (
        named("victim.Class") + pickle.EMPTY_TUPLE + pickle.NEWOBJ + _COMMAND + pickle.NONE + pickle.SETITEM,
        "victim.Class",
    ),
    "items of a list": (
        named("victim.Class") + pickle.EMPTY_TUPLE + pickle.NEWOBJ + _COMMAND + pickle.APPEND,
        "victim.Class",
    ),
    "an admitted name as an argument": (
        called("functools.reduce", named("os.system"), sequence(_COMMAND, named("collections.OrderedDict")), _COMMAND),
        "functools.reduce",
    ),
}
