"""A look into a weights file: what it holds, what it would have run, and which entries it may be."""

import math
from collections.abc import Mapping
from pathlib import Path

from cascadezoo.checkpoints.conversion import expected_shapes, shapes, supported_entries, unwrapped
from cascadezoo.converters import CONVERTERS
from cascadezoo.converters.checkpoint import Checkpoint, read_checkpoint
from cascadezoo.converters.converter import Converter
from cascadezoo.converters.identify import best_fits
from cascadezoo.converters.records import Declared, is_floating_point
from cascadezoo.converters.report import Inspection, Match, TensorInfo
from cascadezoo.converters.safetensors_file import is_safetensors, open_safetensors
from cascadezoo.errors import WeightsNotFound
from cascadezoo.files import file_sha256

_LINE = 100  # characters of a text in the metadata that is worth a line


def inspect(path: str | Path) -> Inspection:
    """What a publisher's checkpoint or a canonical file holds; nothing in it is executed.

    Raises WeightsNotFound where there is no file, and FileError where it is neither.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsNotFound(f"{path}: no such file")
    return _canonical(path) if is_safetensors(path) else _foreign(path, read_checkpoint(path))


def _canonical(path: Path) -> Inspection:
    file = open_safetensors(path)
    return Inspection(
        path=path,
        container="safetensors",
        size=path.stat().st_size,
        sha256=file_sha256(path),
        metadata=dict(file.metadata),
        tensors=_tensors(file.records),
        parameters=_parameters(file.records),
        fault=file.digest_fault(),
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
        tensors=_tensors(checkpoint.records),
        parameters=_parameters(checkpoint.records),
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


def _tensors(records: Mapping[str, Declared]) -> dict[str, TensorInfo]:
    return {key: TensorInfo(shape=record.shape, dtype=record.dtype) for key, record in records.items()}


def _parameters(records: Mapping[str, Declared]) -> int:
    """Numbers in all floating point tensors: weights and statistics, without counters."""
    return sum(math.prod(record.shape) for record in records.values() if is_floating_point(record.dtype))
