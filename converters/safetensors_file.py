"""A safetensors file: its header held to the format before any of it is used, its tensors made when they are asked for.

Format: https://github.com/huggingface/safetensors#format.  The library of that name lets
pass sizes that torch fails on.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from mmap import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascadezoo.converters.mapped import mapped
from cascadezoo.converters.records import (
    ITEM_SIZES,
    MAX_NAME,
    MAX_TENSORS,
    Declared,
    LazyTensors,
    Malformed,
    contiguous,
    counts,
    is_count,
    is_possible,
)
from cascadezoo.errors import CorruptCheckpoint
from cascadezoo.files import parse_json

if TYPE_CHECKING:
    from torch import Tensor

MAX_HEADER = 2**23  # bytes: what is decoded from it may take 25 times as many; a genuine one has below 2**20
_METADATA = "__metadata__"
_DTYPES = {
    "BOOL": "bool",
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "BF16": "bfloat16",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}


@dataclass(frozen=True, slots=True)
class Section:
    """A tensor of the file, and where its bytes begin and end."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class SafetensorsFile:
    """What a safetensors file holds.

    Attributes:
        path: as it was given.
        records: key -> shape and data type ("float32"), by sorted key.
        tensors: the same as tensors on the CPU, on the file's own pages where these are aligned; writing to one never
            reaches the file, which is to be replaced, never written into.
        metadata: texts by sorted name.
    """

    path: Path
    records: Mapping[str, Declared] = field(repr=False)
    tensors: "Mapping[str, Tensor]" = field(repr=False)
    metadata: Mapping[str, str]
    _sections: Mapping[str, Section] = field(repr=False)
    _file: mmap = field(repr=False)

    def content_digest(self) -> str:
        """`cascadezoo.converters.canonical.content_digest` of the tensors, without making them."""
        digest = hashlib.sha256()
        whole = memoryview(self._file)
        for name, section in self._sections.items():
            digest.update(digest_head(name, section.dtype, section.shape))
            digest.update(whole[section.start : section.end])
        return digest.hexdigest()

    def digest_fault(self) -> str | None:
        """How the tensors differ from the content digest that the metadata states; None where they do not."""
        stated = self.metadata.get("content_digest")
        if stated is None or (found := self.content_digest()) == stated:
            return None
        return digest_mismatch(self.path, found, stated)


def digest_mismatch(path: Path, found: str, stated: str) -> str:
    """The sentence for a file whose tensors have another content digest than it states."""
    return f"{path}: the tensors have content digest {found}, the file says {stated}: fetch or convert it again"


def digest_head(name: str, dtype: str, shape: tuple[int, ...]) -> bytes:
    """What a content digest takes of a tensor before its bytes."""
    return json.dumps([name, dtype, list(shape)]).encode() + b"\n"


def is_safetensors(path: Path) -> bool:
    """Whether a file starts as safetensors does: eight bytes of length, then a JSON object."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def open_safetensors(path: Path) -> SafetensorsFile:
    """A whole safetensors file.

    Raises:
        WeightsNotFound: there is no such file.
        CorruptCheckpoint: truncated, malformed, or beyond a limit.
    """
    file = mapped(path)
    try:
        sections, metadata = _header(file)
    except Malformed as error:
        raise CorruptCheckpoint(f"{path} is no whole safetensors file ({error}): fetch or convert it again") from None

    def make(section: Section) -> "Tensor":
        from cascadezoo.converters.tensors import strided  # torch, only where a tensor is made

        return strided(file, section.start, section.dtype, section.shape, contiguous(section.shape))

    return SafetensorsFile(path, sections, LazyTensors(sections, make), metadata, sections, file)


def _header(file: mmap) -> tuple[dict[str, Section], dict[str, str]]:
    size = int.from_bytes(file[:8], "little")
    if 8 + size > len(file):
        raise Malformed("it ends within its header")
    if size > MAX_HEADER:
        raise Malformed(f"its header of {size} bytes is longer than {MAX_HEADER}")
    try:
        entries = parse_json(file[8 : 8 + size].decode(), pairs=_unique)
    except ValueError as error:  # what is no JSON or no UTF-8, or Malformed itself
        raise error if isinstance(error, Malformed) else Malformed("its header is no JSON") from None
    if not isinstance(entries, dict):
        raise Malformed("its header is no JSON object")
    metadata = entries.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise Malformed("its metadata is not all text")
    if len(entries) > MAX_TENSORS:
        raise Malformed(f"it holds more than {MAX_TENSORS} tensors")
    sections = {name: _section(name, entry, 8 + size) for name, entry in sorted(entries.items())}
    position = 8 + size
    for section in sorted(sections.values(), key=lambda section: (section.start, section.end)):
        if section.start != position:
            raise Malformed("its tensors overlap, or leave bytes between them")
        position = section.end
    if position != len(file):
        raise Malformed(f"its tensors end at byte {position}, the file at byte {len(file)}")
    return sections, dict(sorted(metadata.items()))


def _section(name: str, entry: object, base: int) -> Section:
    """The record of a header's entry; offsets count from ``base``, the end of the header."""
    if len(name) > MAX_NAME:
        raise Malformed(f"a tensor's name has {len(name)} characters, more than {MAX_NAME}")
    match entry:
        case {"dtype": str(code), "shape": list(sizes), "data_offsets": [start, end]} if is_count(start):
            if code not in _DTYPES:
                raise Malformed(f"tensor {name!r} is of the data type {code[:60]!r}, which is not read here")
            dtype, shape = _DTYPES[code], counts(sizes)
            elements = math.prod(shape)
            if is_count(end) and end - start == elements * ITEM_SIZES[dtype] and is_possible(shape, elements):
                return Section(dtype, shape, base + start, base + end)
    raise Malformed(f"the header's entry of tensor {name!r} is malformed, or not of the size that its offsets give")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    items = dict(pairs)
    if len(items) != len(pairs):
        raise Malformed("its header gives a name twice")
    return items
