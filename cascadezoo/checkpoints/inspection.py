"""A look into a weights file: what it holds, what it would have run, and which entries it may be; without torch."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from cascadezoo.checkpoints.evidence import evidence
from cascadezoo.checkpoints.identification import Examination, examine
from cascadezoo.converters.keymap import Fit
from cascadezoo.converters.records import Declared, is_floating_point
from cascadezoo.converters.report import Inspection, Match, TensorInfo
from cascadezoo.converters.safetensors_file import open_safetensors
from cascadezoo.paths import expanded

_LINE = 100  # characters of a text in the metadata that is worth a line


def inspect(path: str | Path) -> Inspection:
    """What a weights file holds, a publisher's or ours, and what it may be; nothing in it is executed.

    Raises WeightsNotFound where there is no file, and FileError where it is no weights file.
    """
    examined = examine(expanded(path))
    checkpoint = examined.checkpoint
    closest = list(examined.closest())
    return Inspection(
        path=examined.path,
        container=checkpoint.container,
        wrapper=checkpoint.wrapper or "",
        prefix=examined.names.prefix,
        publisher=examined.layout.publisher if examined.layout else None,
        num_classes=examined.num_classes(*closest[0][:2]) if closest else None,
        classes=examined.described.classes or (),
        evidence=tuple(evidence(examined)),
        size=examined.path.stat().st_size,
        sha256=examined.sha256,
        globals=checkpoint.globals,
        refused=checkpoint.refused,
        unsafe=dict(checkpoint.unsafe),
        ignored_entries=tuple(checkpoint.ignored),
        metadata=_highlights(checkpoint.meta),
        tensors={key: TensorInfo(shape=one.shape, dtype=one.dtype) for key, one in checkpoint.records.items()},
        parameters=_parameters(checkpoint.records),
        matches=tuple(_matches(examined, closest)),
        refusals=examined.refusals if examined.layout is None else {},
        fault=open_safetensors(examined.path).digest_fault() if "content_digest" in examined.metadata else None,
    )


def _matches(examined: Examination, closest: list[tuple[str, str, Fit]]) -> Iterator[Match]:
    for publisher, architecture, fit in closest:
        names = [e.name for e in examined.entries if (e.publisher, e.architecture) == (publisher, architecture)]
        yield Match(
            publisher=publisher,
            architecture=architecture,
            entries=tuple(names),
            problems=fit.problems,
            description=fit.describe(),
        )


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


def _parameters(records: Mapping[str, Declared]) -> int:
    """Numbers in all floating point tensors: weights and statistics, without counters."""
    return sum(math.prod(record.shape) for record in records.values() if is_floating_point(record.dtype))
