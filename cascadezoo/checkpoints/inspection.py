"""A look into a weights file: what it holds, what it would have run, and which entries it may be."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from cascadezoo.checkpoints.conversion import expected_shapes, shapes, supported_entries, unwrapped
from cascadezoo.converters import CONVERTERS
from cascadezoo.converters.canonical import is_safetensors, read_safetensors, require_digest
from cascadezoo.converters.checkpoint import Checkpoint, read_checkpoint
from cascadezoo.converters.converter import Converter
from cascadezoo.converters.identify import best_fits
from cascadezoo.converters.report import Inspection, Match, TensorInfo
from cascadezoo.errors import CorruptCheckpoint, WeightsNotFound
from cascadezoo.files import file_sha256
from cascadezoo.paths import expanded

_LINE = 100  # characters of a text in the metadata that is worth a line


def inspect(path: str | Path) -> Inspection:
    """What a publisher's checkpoint or a canonical file holds; nothing in it is executed.

    Raises WeightsNotFound where there is no file, and FileError where it is neither.
    """
    path = expanded(path)
    if not path.is_file():
        raise WeightsNotFound(f"{path}: no such file")
    return _canonical(path) if is_safetensors(path) else _foreign(path, read_checkpoint(path))


def _canonical(path: Path) -> Inspection:
    tensors, metadata = read_safetensors(path)
    try:
        require_digest(path, tensors, metadata)
        fault = None
    except CorruptCheckpoint as error:
        fault = str(error)
    return Inspection(
        path=path,
        container="safetensors",
        size=path.stat().st_size,
        sha256=file_sha256(path),
        metadata=metadata,
        tensors=_tensors(tensors),
        parameters=_parameters(tensors),
        fault=fault,
    )


def _foreign(path: Path, checkpoint: Checkpoint) -> Inspection:
    keys = unwrapped(checkpoint)
    refusals = {name: c.refusal(keys.keys(), checkpoint.meta) for name, c in CONVERTERS.items()}
    return Inspection(
        path=path,
        container=checkpoint.container,
        size=path.stat().st_size,
        sha256=file_sha256(path),
        globals=checkpoint.globals,
        refused=checkpoint.refused,
        unsafe=dict(checkpoint.unsafe),
        ignored_entries=tuple(checkpoint.ignored),
        metadata=_highlights(checkpoint.meta),
        tensors=_tensors(checkpoint.tensors),
        parameters=_parameters(checkpoint.tensors),
        matches=tuple(
            match
            for name, converter in CONVERTERS.items()
            if refusals[name] is None
            for match in _matches(converter, checkpoint, keys)
        ),
        refusals={name: reason for name, reason in refusals.items() if reason is not None},
    )


def _matches(converter: Converter, checkpoint: Checkpoint, keys: Mapping[str, str]) -> list[Match]:
    found = shapes(checkpoint, keys)
    entries = supported_entries(converter.publisher)
    return [
        Match(
            publisher=converter.publisher,
            architecture=architecture,
            entries=tuple(entry.name for entry in entries if entry.architecture == architecture),
            problems=fit.problems,
            description=fit.describe(),
        )
        for architecture, fit in best_fits(converter, found, expected_shapes(converter.publisher)).items()
    ]


def _highlights(meta: object) -> dict[str, str]:
    """What of the metadata fits a line each: short texts, numbers, and how long the lists are."""
    shown = {}
    for key, value in meta.items() if isinstance(meta, dict) else ():
        if isinstance(value, str | int | float) and len(str(value)) <= _LINE and "\n" not in str(value):
            shown[str(key)] = str(value)
        elif isinstance(value, str):
            shown[str(key)] = f"text of {len(value)} characters"
        elif isinstance(value, list | tuple | dict):
            shown[str(key)] = f"{len(value)} items"
    return shown


def _tensors(tensors: Mapping[str, Tensor]) -> dict[str, TensorInfo]:
    return {
        key: TensorInfo(shape=tuple(tensor.shape), dtype=str(tensor.dtype).removeprefix("torch."))
        for key, tensor in tensors.items()
    }


def _parameters(tensors: Mapping[str, Tensor]) -> int:
    """Numbers in all floating point tensors: weights and statistics, without counters."""
    return sum(tensor.numel() for tensor in tensors.values() if tensor.is_floating_point())
