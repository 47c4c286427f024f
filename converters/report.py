"""What a conversion did, and what a look into a checkpoint found: frozen records, as JSON for ``--json``."""

import json
from pathlib import Path

from pydantic import Field

from cascadezoo.spec.record import Record


class ConversionReport(Record):
    """``mapped``: publisher's key -> canonical name.  ``ignored``: publisher's key -> reason; ``partly_ignored``:
    mapped key -> which part of it is left out, and why; ``ignored_entries``: what else lay beside the weights.
    ``refused``: names the pickle would have called, none of which was.  ``casts``: publisher's key -> data type it had
    before float32.  ``non_finite``: publisher's keys kept with NaN or infinity.  ``source_is_published``: the file's
    sha256 is the one that the publisher gives for these entries.  ``output`` and ``output_sha256`` are absent for a
    conversion in memory."""

    path: Path
    source_sha256: str
    source_is_published: bool
    container: str
    publisher: str
    architecture: str
    entries: tuple[str, ...]
    found_by: str
    mapped: dict[str, str]
    ignored: dict[str, str]
    partly_ignored: dict[str, str]
    ignored_entries: tuple[str, ...]
    refused: tuple[str, ...]
    casts: dict[str, str]
    non_finite: tuple[str, ...]
    content_digest: str
    output: Path | None = None
    output_sha256: str | None = None

    @property
    def name(self) -> str:
        """The entry, or with several candidates what they share: ``<architecture>.<publisher>``."""
        return self.entries[0] if len(self.entries) == 1 else f"{self.architecture}.{self.publisher}"

    def to_json(self) -> str:
        return self.model_dump_json(indent=2)


class ExportReport(Record):
    """``zeroed``: publisher's key -> which part of it is zeros, and why: conversion drops it, the publisher's loader
    wants it there.  ``tensors`` counts those of the file."""

    entry: str
    format: str
    weights: Path
    tensors: int
    zeroed: dict[str, str]
    output: Path
    output_sha256: str

    def to_json(self) -> str:
        return self.model_dump_json(indent=2)


class TensorInfo(Record):
    """A tensor of a checkpoint."""

    shape: tuple[int, ...]
    dtype: str


class Match(Record):
    """How near a checkpoint's tensors come to the entries of one architecture; ``problems`` is 0 where they fit."""

    publisher: str
    architecture: str
    entries: tuple[str, ...]
    problems: int
    description: str


class Inspection(Record):
    """A weights file seen without running anything in it, a publisher's or a canonical one.

    ``metadata``: short texts, numbers and the sizes of lists.  ``refused``: the part of ``globals``, the names in its
    pickle, that stays inert.  ``unsafe``: key -> the refused name that its value hangs on.  ``refusals``: publisher ->
    why it is none of theirs.  ``fault``: of a canonical file whose tensors are not those of its digest.
    """

    path: Path
    container: str
    size: int
    sha256: str
    globals: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    unsafe: dict[str, str] = Field(default_factory=dict)
    ignored_entries: tuple[str, ...] = ()
    metadata: dict[str, str]
    tensors: dict[str, TensorInfo]
    parameters: int
    matches: tuple[Match, ...] = ()
    refusals: dict[str, str] = Field(default_factory=dict)
    fault: str | None = None

    def to_json(self, tensors: bool = False) -> str:
        """``tensors``: with each tensor's shape and data type, not only how many there are."""
        data = self.model_dump(mode="json", exclude=None if tensors else {"tensors"})
        return json.dumps({**data, "tensor_count": len(self.tensors)}, indent=2)
