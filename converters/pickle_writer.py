"""Pickles of named arrays, written opcode by opcode and one array at a time.

Python's own pickler cannot write what a publisher's older Python reads: numpy renamed its modules in version 2, and
python 2 knows texts and bytes as one type.  The names written here are those of numpy 1, which numpy 2 still reads.
"""

import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

Value: TypeAlias = "str | Tensor | Mapping[str, Value]"


@dataclass(frozen=True)
class Dialect:
    """How a Python writes texts, and begins bytes of a length."""

    protocol: int
    text: Callable[[str], bytes]
    bytes_head: Callable[[int], bytes]


def _unicode(text: str) -> bytes:
    data = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def _byte_string_head(length: int) -> bytes:
    return pickle.BINSTRING + struct.pack("<i", length)


PYTHON_3 = Dialect(4, _unicode, lambda length: pickle.BINBYTES8 + struct.pack("<Q", length))
PYTHON_2 = Dialect(2, lambda text: _byte_string_head(len(text)) + text.encode("ascii"), _byte_string_head)

_CODES = {"float32": "f4", "float16": "f2", "float64": "f8", "int64": "i8"}


def write_pickle(file: BinaryIO, value: Value, dialect: Dialect) -> None:
    """Write texts and tensors, in mappings of any depth, as one pickle of texts and numpy arrays."""
    file.write(pickle.PROTO + bytes([dialect.protocol]))
    _write(file, value, dialect)
    file.write(pickle.STOP)


def _write(file: BinaryIO, value: Value, dialect: Dialect) -> None:
    if isinstance(value, str):
        file.write(dialect.text(value))
    elif isinstance(value, Mapping):
        file.write(pickle.EMPTY_DICT + pickle.MARK)
        for key, item in value.items():
            file.write(dialect.text(key))
            _write(file, item, dialect)
        file.write(pickle.SETITEMS)
    else:
        _write_array(file, value, dialect)


def _write_array(file: BinaryIO, tensor: "Tensor", dialect: Dialect) -> None:
    """As ``numpy.ndarray.__reduce__``: an empty array, then its state (version, shape, data type, Fortran, bytes)."""
    code = _CODES[str(tensor.dtype).removeprefix("torch.")]
    data = tensor.detach().contiguous().reshape(-1).numpy().view("u1").data
    empty = _named("numpy", "ndarray") + _tuple(_int(0)) + dialect.bytes_head(1) + b"b" + pickle.TUPLE3
    order = _tuple(_int(3), dialect.text("<"), *[pickle.NONE] * 3, _int(-1), _int(-1), _int(0)) + pickle.BUILD
    kind = dialect.text(code) + pickle.NEWFALSE + pickle.NEWTRUE + pickle.TUPLE3 + pickle.REDUCE + order
    file.write(_named("numpy.core.multiarray", "_reconstruct") + empty + pickle.REDUCE)
    file.write(pickle.MARK + _int(1) + _tuple(*map(_int, tensor.shape)) + _named("numpy", "dtype") + kind)
    file.write(pickle.NEWFALSE + dialect.bytes_head(len(data)))
    file.write(data)
    file.write(pickle.TUPLE + pickle.BUILD)


def _named(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _int(value: int) -> bytes:
    return pickle.BININT + struct.pack("<i", value)


def _tuple(*items: bytes) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE
