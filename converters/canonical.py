"""Canonical weights: a safetensors file whose bytes depend on nothing but the tensors and the metadata.

The library writes several metadata keys in random order, hence the writer here; reading is the library's.
Format: https://github.com/huggingface/safetensors#format
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cascadezoo.errors import CorruptCheckpoint, TensorMismatch, WeightsNotFound, WrongPublisher
from cascadezoo.files import whole_file

# given a file's path, tensors and metadata, raises CorruptCheckpoint where they do not belong together
Verify = Callable[[Path, Mapping[str, Tensor], Mapping[str, str]], None]

_EXACT = frozenset({torch.float16, torch.bfloat16, torch.float64})  # float64 where the values allow it
_ITEM = 4  # bytes of a float32


def as_float32(key: str, tensor: Tensor) -> Tensor:
    """``tensor`` in float32, exactly: a view of one that is, a copy of a narrower one or of a float64 that fits.

    Raises TensorMismatch for other data types and for float64 values that float32 would round.
    """
    if tensor.dtype == torch.float32:
        return tensor
    if tensor.dtype not in _EXACT:
        raise TensorMismatch(f"tensor {key} holds {_dtype(tensor)}, not floating point numbers")
    cast = tensor.to(torch.float32)
    if not torch.allclose(cast.to(tensor.dtype), tensor, rtol=0, atol=0, equal_nan=True):
        raise TensorMismatch(f"tensor {key} holds {_dtype(tensor)} values that float32 would round: store float32")
    return cast


def is_finite(tensor: Tensor) -> bool:
    """Whether no element is NaN or infinite, without a second tensor of that size."""
    low, high = torch.aminmax(tensor)
    return bool(low.isfinite() & high.isfinite())


def content_digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over name, data type, shape and bytes of each tensor, by sorted name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, _dtype(tensor), list(tensor.shape)]).encode() + b"\n")
        digest.update(_raw(tensor))
    return digest.hexdigest()


def write_canonical(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Write float32 ``tensors`` by sorted name, each taken from the mapping when its turn comes; the file's sha256.

    The file appears whole or not at all.  Raises UnwritableOutput.
    """
    digest = hashlib.sha256()
    with whole_file(path) as file:
        for block in _blocks(tensors, metadata):
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def is_safetensors(path: Path) -> bool:
    """Whether a file starts as safetensors does: eight bytes of length, then a JSON object."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a whole safetensors file; raises CorruptCheckpoint."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            return tensors, dict(sorted((file.metadata() or {}).items()))
    except SafetensorError as error:
        raise CorruptCheckpoint(f"{path} is no whole safetensors file ({error}): fetch or convert it again") from error


def shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor, read from the file's header alone; raises CorruptCheckpoint."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CorruptCheckpoint(f"{path} is no whole safetensors file ({error}): fetch or convert it again") from error


def require_digest(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Raise CorruptCheckpoint where a file's content digest is not that of its tensors."""
    stated = metadata.get("content_digest")
    if stated is not None and (found := content_digest(tensors)) != stated:
        raise CorruptCheckpoint(
            f"{path}: the tensors have content digest {found}, the file says {stated}: fetch or convert it again"
        )


def read_canonical(
    path: str | Path, device: torch.device | str = "cpu", *, verify: Verify = require_digest
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a canonical file, its content digest verified where it has one.

    On the CPU the tensors are a private mapping of the file, which is to be replaced, never written into.
    ``verify`` holds the digest; ``hub.memo.require_digest`` does so once for an unchanged file.

    Raises WeightsNotFound, and CorruptCheckpoint for a malformed file or another content than the digest's.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsNotFound(f"{path}: no such file")
    tensors, metadata = read_safetensors(path)
    verify(path, tensors, metadata)
    return {name: tensor.to(device) for name, tensor in tensors.items()}, metadata


def read_network(
    path: str | Path, publisher: str, architecture: str, *, verify: Verify = require_digest
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """As ``read_canonical``, for a file that was made for this network or does not state for which.

    Raises WrongPublisher where the file states another network.
    """
    tensors, metadata = read_canonical(path, verify=verify)
    made_for = metadata.get("publisher", publisher), metadata.get("architecture", architecture)
    if made_for != (publisher, architecture):
        raise WrongPublisher(
            f"{path} holds {made_for[1]} of {made_for[0]}, not {architecture} of {publisher}: use it under its own name"
        )
    return tensors, metadata


def _blocks(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    header = _header(tensors, metadata)
    yield len(header).to_bytes(8, "little")
    yield header
    for name in sorted(tensors):
        yield _raw(tensors[name])


def _header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
    offset = 0
    for name in sorted(tensors):
        shape = tensors[name].shape
        end = offset + _ITEM * shape.numel()
        entries[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, sort_keys=True, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _raw(tensor: Tensor) -> memoryview:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data
