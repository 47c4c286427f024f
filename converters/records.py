"""What a file declares its tensors to be, before there are any: shapes and data types, without torch.

Data types go by torch's names ("float32").  `cascadezoo.converters.tensors` makes tensors of records.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol, TypeGuard, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

MAX_NAME = 512  # characters of a tensor's key, a global, a storage key: they stand in messages; genuine ones have < 100
MAX_RANK = 32  # of tensors and arrays, numpy's old own limit; also of arguments to a builder, which take at most 7
MAX_TENSORS = 20_000  # the largest checkpoint has some 6000, optimizer included
_MAX_COUNT = 2**62  # elements of an axis, of a stride: an int64 in torch
_MAX_EMPTY = 2**31  # elements of a tensor without any, counting its empty axes as 1: torch multiplies all of them

ITEM_SIZES = {
    **dict.fromkeys(("bool", "int8", "uint8", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"), 1),
    **dict.fromkeys(("int16", "uint16", "float16", "bfloat16"), 2),
    **dict.fromkeys(("int32", "uint32", "float32"), 4),
    **dict.fromkeys(("int64", "uint64", "float64", "complex64"), 8),
}
"""Every data type that a file may hold here -> bytes of an element."""


class Malformed(ValueError):
    """A file that breaks its format or a limit; the text says how, and whoever opened the file adds which."""


class Declared(Protocol):
    """A tensor as its file describes it."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> str:
        """A key of `ITEM_SIZES`."""


DeclaredT = TypeVar("DeclaredT", bound=Declared)


class LazyTensors(Mapping[str, "Tensor"]):
    """The tensors of ``records`` by key, each made when it is asked for."""

    def __init__(self, records: Mapping[str, DeclaredT], make: "Callable[[DeclaredT], Tensor]") -> None:
        self._records = records
        self._make = make

    def __getitem__(self, key: str) -> "Tensor":
        return self._make(self._records[key])

    def __contains__(self, key: object) -> bool:
        return key in self._records

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)


def is_floating_point(dtype: str) -> bool:
    """Whether a data type, by torch's name, is of floating point numbers."""
    return dtype.startswith(("float", "bfloat"))


def is_count(value: object) -> TypeGuard[int]:
    """Whether a value is a whole number that a size, a stride or an offset may be."""
    return type(value) is int and 0 <= value < _MAX_COUNT


def counts(value: object) -> tuple[int, ...]:
    """``value`` as a shape or as strides; raises Malformed."""
    items = tuple(value) if isinstance(value, tuple | list) and len(value) <= MAX_RANK else (-1,)
    if not all(map(is_count, items)):
        raise Malformed("a tensor or array has a malformed shape or malformed strides")
    return items


def is_possible(shape: tuple[int, ...], elements: int) -> bool:
    """Whether torch bears a shape of at most so many elements: it multiplies the sizes beside an empty axis as well."""
    return math.prod(max(size, 1) for size in shape) <= max(_MAX_EMPTY if 0 in shape else 0, elements)


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides, in elements, of a tensor whose last axis varies fastest."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
