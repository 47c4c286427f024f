"""Checkpoints that are one pickle of numpy arrays: PaddleDetection's ``.pdparams`` and Detectron's ``.pkl``.

``paddle.save(layer.state_dict())`` writes {name: array, ..., "StructuredToParameterName@@": {...}}, protocol 2 or 4;
a tensor of a nested object as tuple((name, array)); and for protocols 2 and 3 an array of 2**30 bytes or more in
slices that "UnpackBigParamInfor@@" lists.  Source: ``python/paddle/framework/io.py`` and ``io_utils.py``.
Detectron writes {"blobs": {name: array}, "cfg": text} with python 2, protocol 2.  Source: ``detectron/utils/net.py``.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from mmap import mmap
from typing import Any

from cascadezoo.converters.pickle_reader import PickleReader
from cascadezoo.converters.pickle_values import Array, ArrayRecord, Stub
from cascadezoo.converters.records import MAX_RANK, Malformed
from cascadezoo.converters.torch_containers import Container

_START = re.compile(rb"\x80[\x02-\x05]")
_SPLIT = "UnpackBigParamInfor@@"


@dataclass(frozen=True, eq=False)
class SplitArray:
    """An array in flat slices, put together when it is asked for."""

    slices: tuple[Array, ...]
    shape: tuple[int, ...]

    @property
    def dtype(self) -> str:
        return self.slices[0].dtype


def open_pickle(file: mmap) -> Container | None:
    """The checkpoint in ``file``, or None when it does not begin like a pickle.

    Raises:
        Malformed: truncated, contradictory, or beyond a limit.
    """
    if not _START.match(file[:2]):
        return None
    file.seek(0)
    reader = PickleReader(file, len(file))
    root = reader.load()
    if file.tell() != len(file):
        raise Malformed(f"{len(file) - file.tell()} bytes follow its pickle")
    if reader.storages:
        raise Malformed("it is a plain pickle whose tensors lie elsewhere: give the whole file that torch wrote")
    return Container("pickle", root, tuple(reader.globals), reader.refused, {})


def array_of(value: object) -> Array | SplitArray | Stub | None:
    """The array that an entry of a state dict holds, bare or as (name, array); None where it holds none."""
    match value:
        case (ArrayRecord() as record) | (str(), ArrayRecord() as record):
            return record.values
        case SplitArray():
            return value
    return None


def joined(state: dict[Any, Any]) -> dict[Any, Any]:
    """``state`` with the arrays that were split in place of their slices.

    Raises:
        Malformed: a slice is missing, shared, not flat, or the slices do not make the shape that is declared.
    """
    if _SPLIT not in state:
        return state
    whole = {key: value for key, value in state.items() if key != _SPLIT}
    table = state[_SPLIT]
    if not isinstance(table, dict):
        raise Malformed(f"its {_SPLIT} is no table of slices")
    arrays = {key: _join(key, how, whole) for key, how in table.items()}
    _require_own_bytes(arrays)
    if arrays.keys() & whole.keys():
        raise Malformed(f"its {_SPLIT} lists a tensor that is there whole")
    return whole | arrays


def _join(key: object, how: object, whole: dict[Any, Any]) -> SplitArray | Stub:
    """One split array; its slices are taken out of ``whole``."""
    malformed = Malformed(f"the slices of {str(key)[:80]!r} in its {_SPLIT} are malformed")
    match how:
        case {"OriginShape": tuple() | list() as shape, "slices": list() | tuple() as names} if names:
            slices = [array_of(whole.pop(name, None)) for name in names if isinstance(name, str)]
        case _:
            raise malformed
    for part in slices:
        if isinstance(part, Stub):
            return part
    flat = [part for part in slices if isinstance(part, Array) and len(part.shape) == 1]
    if len(shape) > MAX_RANK or not all(type(size) is int and size > 0 for size in shape):
        raise malformed
    if len(flat) != len(names) or len({part.dtype for part in flat}) != 1:
        raise malformed
    if math.prod(shape) != sum(part.shape[0] for part in flat):
        raise malformed
    return SplitArray(tuple(flat), tuple(shape))


def _require_own_bytes(arrays: Mapping[object, SplitArray | Stub]) -> None:
    """Refuse slices on the same bytes: a small file could declare arrays of any size."""
    seen: set[int] = set()
    for key, array in arrays.items():
        for part in array.slices if isinstance(array, SplitArray) else ():
            if id(part.data) in seen and len(part.data) > 1:  # Python has one object for each single byte
                raise Malformed(f"the slices of {str(key)[:80]!r} in its {_SPLIT} share their bytes with others")
            seen.add(id(part.data))
