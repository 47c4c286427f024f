"""Tensors made of records: on the file's own pages where these allow it, else on a copy of the elements.

Writing to a tensor never reaches the file: its pages are mapped copy-on-write.
"""

from mmap import mmap

import numpy as np
import torch
from torch import Tensor

from cascadezoo.converters.pickle_values import Array, TensorRecord
from cascadezoo.converters.plain_pickles import SplitArray
from cascadezoo.converters.records import ITEM_SIZES
from cascadezoo.converters.torch_containers import Storages

Buffer = mmap | bytearray | bytes | memoryview


def tensor_of(record: TensorRecord | Array | SplitArray, storages: Storages) -> Tensor:
    """The tensor of a record; one of torch's has its numbers in ``storages``.

    Raises Malformed where a storage cannot be unpacked.
    """
    if isinstance(record, SplitArray):
        return torch.cat([tensor_of(part, storages) for part in record.slices]).reshape(record.shape)
    if isinstance(record, Array):
        return strided(record.data, 0, record.dtype, record.shape, record.strides)
    buffer, start = storages[record.storage.key]()
    start += record.offset * ITEM_SIZES[record.dtype]
    return strided(buffer, start, record.dtype, record.shape, record.strides)


def strided(buffer: Buffer, start: int, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...]) -> Tensor:
    """The tensor whose first element lies at byte ``start`` of ``buffer``; ``strides`` count elements.

    A copy where its elements are not aligned, as where a legacy file packs storages without padding, or the buffer is
    not to be written; it takes memory for the elements alone.
    """
    kind: torch.dtype = getattr(torch, dtype)
    if 0 in shape:
        return torch.empty(0, dtype=kind).as_strided(shape, strides)
    item = ITEM_SIZES[dtype]
    steps = [stride * item for stride in strides]
    words = np.ndarray(shape, f"<i{item}", buffer, start, steps)  # integers: numpy lacks some of torch's types
    return torch.from_numpy(np.require(words, requirements=("ALIGNED", "WRITEABLE"))).view(kind)
