"""What a foreign pickle may become: plain containers, numbers, text, and the inert records below.

``BUILDERS`` and ``STORAGES`` are all the globals that mean something here, each by a few lines of ours.  Every other
global is a `Stub`, and so is whatever the file wants made of it: no name from a file is ever imported, looked up or
called.  Layouts: ``torch/_utils.py`` (_rebuild_*), numpy's ``ndarray.__reduce__``,
``ndarray.__reduce_ex__`` of protocol 5 and ``dtype.__reduce__``.
"""

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cascadezoo.converters.records import (
    ITEM_SIZES,
    MAX_NAME,
    MAX_RANK,
    MAX_TENSORS,
    Malformed,
    contiguous,
    counts,
    is_count,
    is_possible,
)

MAX_VALUES = 1_000_000  # values a file may make: the largest training checkpoint takes some 250 000


@dataclass(frozen=True, slots=True)
class Stub:
    """The inert stand-in of a global, and of whatever the file wanted made of it; ``name`` is the dotted name."""

    name: str


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of ``numel`` numbers outside the pickle."""

    key: str
    dtype: str
    numel: int

    @property
    def nbytes(self) -> int:
        return self.numel * ITEM_SIZES[self.dtype]


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """A strided view that lies inside its storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def dtype(self) -> str:
        return self.storage.dtype


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A text or byte string too long to be copied, where it lies in the file; writing there never reaches the file.

    ``utf8``: it is a text in UTF-8; otherwise bytes, as python 3 or python 2 wrote them.
    """

    data: memoryview
    utf8: bool

    def __len__(self) -> int:
        return len(self.data)


@dataclass(frozen=True, slots=True, eq=False)
class Array:
    """A numpy array of plain numbers on its own bytes; strides count elements."""

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    data: bytes | memoryview


@dataclass(slots=True, eq=False)
class ArrayRecord:
    """A numpy array, or the stub it hangs on; filled when its state arrives."""

    values: Array | Stub


@dataclass(slots=True, eq=False)
class DtypeRecord:
    """A numpy data type as pickled: kind and size ("f4"), byte order when its state arrives."""

    code: str
    order: str = "|"

    def resolve(self) -> str | Stub:
        """The data type, or a stub for all but native plain numbers (objects, text, structures, big-endian)."""
        if self.code in _PLAIN_DTYPES and self.order in ("<", "|", "="):
            return _PLAIN_DTYPES[self.code]
        return Stub(f"numpy.dtype[{self.order}{self.code}]")


class Ledger:
    """What a file has taken so far, against what it may take."""

    def __init__(self, stream_bytes: int) -> None:
        self.values = 0
        self.tensors = 0
        self._text_left = stream_bytes  # each text is genuinely turned into bytes once, so never more than was read

    def take_tensor(self) -> None:
        self.tensors += 1
        if self.tensors > MAX_TENSORS:
            raise Malformed(f"it holds more than {MAX_TENSORS} tensors and arrays")

    def take_values(self, count: int) -> None:
        self.values += count
        if self.values > MAX_VALUES:
            raise Malformed(f"its pickle makes more than {MAX_VALUES} values")

    def take_text(self, text: str | Run) -> bytes | memoryview:
        """Latin-1 text as bytes, the way pickles of python 2 and of protocol 2 hold them."""
        if isinstance(text, Run) and not text.utf8:
            return text.data
        self._text_left -= len(text)
        if self._text_left < 0:
            raise Malformed("its pickle copies more bytes than it holds")
        try:
            return (str(text.data, "utf-8") if isinstance(text, Run) else text).encode("latin-1")
        except UnicodeError:
            raise Malformed("bytes are pickled as text beyond latin-1") from None


def call(function: object, args: object, ledger: Ledger) -> object:
    """What ``function(*args)`` becomes: made by a builder of ours, or the stub it hangs on."""
    if not isinstance(function, Stub):
        raise Malformed(f"its pickle calls a value of type {type(function).__name__}")
    builder = BUILDERS.get(function.name)
    if builder is None:
        return function
    if isinstance(args, Stub):
        return args
    if not isinstance(args, tuple) or len(args) > MAX_RANK:
        raise Malformed(f"{function.name} is given no plain arguments")
    return _refused_in(args) or builder(args, ledger)


def set_state(target: object, state: object, ledger: Ledger) -> None:
    """What BUILD does: numpy's records are filled; attributes of containers, tensors and stubs are left out."""
    if isinstance(target, ArrayRecord):
        target.values = _array(state, ledger)
    elif isinstance(target, DtypeRecord):
        if not isinstance(state, tuple) or len(state) < 5 or not isinstance(state[1], str):
            raise Malformed("a numpy data type has a malformed state")
        target.order = state[1][:1]
    elif not isinstance(target, Stub | TensorRecord | dict):
        raise Malformed(f"its pickle sets attributes of a value of type {type(target).__name__}")


def storage_of(identifier: object) -> Storage | Stub:
    """The storage that a persistent id ('storage', type, key, location, numel[, view]) names.

    The location (a device that need not exist here) does not matter; views of storages died with torch 0.4.
    """
    match identifier:
        case ("storage", Stub(name), key, _, numel) | ("storage", Stub(name), key, _, numel, None):
            if name not in STORAGES:
                return Stub(name)
            if isinstance(key, str) and len(key) <= MAX_NAME and key.isprintable() and is_count(numel):
                return Storage(key, STORAGES[name], numel)
    raise Malformed("a persistent id names no storage in torch's way")


def _refused_in(args: tuple[Any, ...]) -> Stub | None:
    """The first stub among the arguments and their items that no table gives a meaning."""
    for value in args:
        for item in (value, *value) if isinstance(value, tuple) and len(value) <= MAX_RANK else (value,):
            if isinstance(item, Stub) and item.name not in ADMITTED:
                return item
    return None


def _ordered_dict(args: tuple[Any, ...], ledger: Ledger) -> dict[Any, Any]:
    match args:
        case ():
            return {}
        case (dict() as items,):  # mmengine: ConfigDict({key: value})
            return items
        case (list() as pairs,):  # python 2: OrderedDict([[key, value], ...])
            ledger.take_values(len(pairs))
            if all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
                return {plain_key(key): value for key, value in pairs}
    raise Malformed("a mapping is made of something other than pairs")


def plain_key(key: object) -> object:
    """``key`` if it is text or a number, else a stub: hashing nested keys recurses, and large ints can be chosen to
    collide (hashes of text are salted, those of ints are their value below 2**61)."""
    if isinstance(key, str | bytes | float | Stub | None) or (isinstance(key, int) and abs(key) < 2**61 - 1):
        return key
    return Stub(type(key).__name__)


def _tuple(args: tuple[Any, ...], ledger: Ledger) -> tuple[Any, ...]:
    """tuple((name, array)): how Paddle writes a tensor of a nested object."""
    match args:
        case (tuple() as items,):
            return items
    raise Malformed("a tuple is made of something other than a tuple")


def _tensor(args: tuple[Any, ...], ledger: Ledger) -> TensorRecord:
    """torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])."""
    if len(args) < 4 or not isinstance(args[0], Storage) or not is_count(args[1]):
        raise Malformed("a tensor has malformed arguments")
    storage, offset, shape, strides = args[0], args[1], counts(args[2]), counts(args[3])
    if len(shape) != len(strides):
        raise Malformed(f"a tensor has {len(shape)} sizes and {len(strides)} strides")
    if 0 in shape:
        fits = offset <= storage.numel and is_possible(shape, 0)
    else:
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        fits = last < storage.numel and math.prod(shape) <= storage.numel
    if not fits:
        raise Malformed(
            f"a tensor of shape {shape}, strides {strides} and offset {offset} does not lie inside its storage of "
            f"{storage.numel} elements"
        )
    ledger.take_tensor()
    return TensorRecord(storage, offset, shape, strides)


def _parameter(args: tuple[Any, ...], ledger: Ledger) -> TensorRecord:
    """torch._utils._rebuild_parameter(data, requires_grad, hooks)."""
    if not args or not isinstance(args[0], TensorRecord):
        raise Malformed("a parameter has no tensor")
    return args[0]


def _encode(args: tuple[Any, ...], ledger: Ledger) -> bytes | Run:
    """_codecs.encode(text, "latin1"): how protocol 2 writes bytes."""
    match args:
        case (str() | Run() as text, "latin1" | "latin-1"):
            data = ledger.take_text(text)
            return data if isinstance(data, bytes) else Run(data, utf8=False)
    raise Malformed("_codecs.encode is asked for something other than latin-1 bytes")


def _no_bytes(args: tuple[Any, ...], ledger: Ledger) -> bytes:
    """bytes(): how protocol 2 writes no bytes."""
    if args:
        raise Malformed("bytes are made of something")
    return b""


def _dtype(args: tuple[Any, ...], ledger: Ledger) -> DtypeRecord:
    """numpy.dtype(code, align, copy)."""
    if not args or not isinstance(args[0], str) or len(args[0]) > MAX_NAME or not args[0].isprintable():
        raise Malformed("a numpy data type has no code")
    return DtypeRecord(args[0])


def _reconstruct(args: tuple[Any, ...], ledger: Ledger) -> ArrayRecord:
    """numpy's _reconstruct(ndarray, (0,), b"b"): an empty array that waits for its state."""
    if not args or args[0] != Stub("numpy.ndarray"):
        raise Malformed("a numpy array is of no plain array type")
    ledger.take_tensor()
    return ArrayRecord(Array("int8", (0,), (1,), b""))


def _frombuffer(args: tuple[Any, ...], ledger: Ledger) -> ArrayRecord:
    """numpy's _frombuffer(raw bytes, data type, shape, order[, axes]): how protocol 5 writes an array.

    With order "K" the bytes are those of a contiguous array whose axes are then put into that order.
    """
    if len(args) not in (4, 5) or not isinstance(args[3], str) or args[3] not in ("C", "F", "K"):
        raise Malformed("a numpy array has malformed arguments")
    ledger.take_tensor()
    values = _array((1, args[2], args[1], args[3] == "F", args[0]), ledger)
    if args[3] == "K" and isinstance(values, Array):
        axes = counts(args[4] if len(args) == 5 else None)
        if sorted(axes) != list(range(len(values.shape))):
            raise Malformed(f"a numpy array of shape {values.shape} has malformed axes")
        shape, strides = (tuple(each[axis] for axis in axes) for each in (values.shape, values.strides))
        values = replace(values, shape=shape, strides=strides)
    return ArrayRecord(values)


def _array(state: object, ledger: Ledger) -> Array | Stub:
    """The array of the state (version, shape, data type, Fortran order, raw bytes): a view of the bytes."""
    if isinstance(state, Stub):
        return state
    if not isinstance(state, tuple) or len(state) != 5:
        raise Malformed("a numpy array has a malformed state")
    _, shape, dtype, fortran, raw = state
    shape = counts(shape)
    dtype = dtype.resolve() if isinstance(dtype, DtypeRecord) else dtype if isinstance(dtype, Stub) else None
    for part in (dtype, raw):
        if isinstance(part, Stub):
            return part
    data = _raw(raw, ledger)
    if not isinstance(dtype, str) or math.prod(shape) * ITEM_SIZES[dtype] != len(data):
        raise Malformed(f"a numpy array of shape {shape} does not match its {len(data)} bytes")
    if not is_possible(shape, len(data)):
        raise Malformed(f"a numpy array has the impossible shape {shape}")
    return Array(dtype, shape, contiguous(shape[::-1])[::-1] if fortran else contiguous(shape), data)


def _scalar(args: tuple[Any, ...], ledger: Ledger) -> bool | int | float | Stub:
    """numpy's scalar(data type, raw bytes), as a number of Python's."""
    if len(args) != 2 or not isinstance(args[0], DtypeRecord):
        raise Malformed("a numpy scalar has malformed arguments")
    dtype = args[0].resolve()
    if isinstance(dtype, Stub):
        return dtype
    data = _raw(args[1], ledger)
    if len(data) != ITEM_SIZES[dtype]:
        raise Malformed(f"a numpy scalar of type {dtype} has {len(data)} bytes")
    number: bool | int | float = struct.unpack(_SCALARS[dtype], data)[0]
    return number


def _raw(value: object, ledger: Ledger) -> bytes | memoryview:
    """The bytes of an array: python 2 wrote them as a byte string, which reads as latin-1 text."""
    if isinstance(value, str | Run):
        return ledger.take_text(value)
    if not isinstance(value, bytes):
        raise Malformed(f"a numpy array holds a {type(value).__name__} in place of bytes")
    return value


_PLAIN_DTYPES = {
    "b1": "bool",
    **{f"i{size}": f"int{8 * size}" for size in (1, 2, 4, 8)},
    **{f"u{size}": f"uint{8 * size}" for size in (1, 2, 4, 8)},
    **{f"f{size}": f"float{8 * size}" for size in (2, 4, 8)},
}
_SCALARS = {dtype: f"<{code}" for dtype, code in zip(_PLAIN_DTYPES.values(), "?bhiqBHIQefd", strict=True)}

STORAGES: dict[str, str] = {
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.DoubleStorage": "float64",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
}

BUILDERS: dict[str, Callable[[tuple[Any, ...], Ledger], object]] = {
    "collections.OrderedDict": _ordered_dict,
    "addict.addict.Dict": _ordered_dict,
    "mmcv.utils.config.ConfigDict": _ordered_dict,
    "mmengine.config.config.ConfigDict": _ordered_dict,
    "builtins.tuple": _tuple,
    "__builtin__.tuple": _tuple,  # the module's name in python 2 and protocol 2
    "builtins.bytes": _no_bytes,
    "__builtin__.bytes": _no_bytes,
    "torch._utils._rebuild_tensor": _tensor,  # torch 0.3 and older: without the last three arguments
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "_codecs.encode": _encode,
    "numpy.dtype": _dtype,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,  # its name since numpy 2
    "numpy.core.numeric._frombuffer": _frombuffer,
    "numpy._core.numeric._frombuffer": _frombuffer,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
}

ADMITTED = frozenset((*BUILDERS, *STORAGES, "numpy.ndarray"))
