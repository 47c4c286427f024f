"""The results of conversion, export and inspection: frozen records, printed as JSON by ``--json``."""

import json
from pathlib import Path

from pydantic import Field

from cascadezoo.spec.record import Record


class Evidence(Record):
    """Something that was found out about a file, and how."""

    about: str = Field(description="container, wrapper, prefix, layout, network, classes, class names, md5 or entry")
    value: str = Field(description="the finding")
    source: str = Field(description="what it was found by")


class ConversionReport(Record):
    """What a conversion read, did and wrote."""

    path: Path = Field(description="the publisher's file")
    source_sha256: str = Field(description="SHA-256 of the publisher's file")
    source_is_published: bool = Field(description="whether the publisher gives that SHA-256 for these entries")
    container: str = Field(description="how the file is packed: zip, legacy, pickle or safetensors")
    wrapper: str = Field(description="the entry of the file that holds the tensors, such as state_dict; may be empty")
    prefix: str = Field(description="what a wrapper of the model put before every name of a tensor; may be empty")
    publisher: str = Field(description="the publisher, as in the manifest")
    architecture: str = Field(description="the architecture that the tensors fit")
    entries: tuple[str, ...] = Field(description="full names of the entries that the file may be")
    found_by: str = Field(description="the clues that led to them")
    num_classes: int = Field(description="number of classes, without background")
    classes: tuple[str, ...] = Field(default=(), description="the file's own names of them; empty: the entry's")
    mapped: dict[str, str] = Field(description="publisher's key -> canonical name")
    ignored: dict[str, str] = Field(description="publisher's key of a tensor that is left out -> the reason")
    partly_ignored: dict[str, str] = Field(description="mapped key -> which part of its tensor is left out, and why")
    ignored_entries: tuple[str, ...] = Field(description="names of what lay beside the weights")
    refused: tuple[str, ...] = Field(description="names that the pickle would have called; none of them was")
    casts: dict[str, str] = Field(description="publisher's key -> data type that was cast to float32")
    non_finite: tuple[str, ...] = Field(description="publisher's keys of tensors kept with NaN or infinity")
    content_digest: str = Field(description="SHA-256 over names, shapes and bytes of the canonical tensors")
    output: Path | None = Field(default=None, description="the canonical file; None for a conversion in memory")
    output_sha256: str | None = Field(default=None, description="its SHA-256; None for a conversion in memory")

    @property
    def name(self) -> str:
        """The entry, or with several candidates what they share: ``<architecture>.<publisher>``."""
        return self.entries[0] if len(self.entries) == 1 else f"{self.architecture}.{self.publisher}"

    def to_json(self) -> str:
        return json.dumps(self.model_dump(mode="json"), indent=2)


class ExportReport(Record):
    """What an export read and wrote."""

    entry: str = Field(description="the entry's full name")
    format: str = Field(description="the publisher whose format was written")
    weights: Path = Field(description="the canonical file")
    tensors: int = Field(description="number of tensors in the output")
    zeroed: dict[str, str] = Field(
        description="publisher's key -> which part is written as zeros, and why: conversion drops it, but the "
        "publisher's loader needs it"
    )
    output: Path = Field(description="the file that was written")
    output_sha256: str = Field(description="its SHA-256")

    def to_json(self) -> str:
        return json.dumps(self.model_dump(mode="json"), indent=2)


class TensorInfo(Record):
    """A tensor of a checkpoint."""

    shape: tuple[int, ...]
    dtype: str


class Match(Record):
    """How close a checkpoint's tensors are to one architecture."""

    publisher: str = Field(description="the publisher, as in the manifest")
    architecture: str = Field(description="the architecture")
    entries: tuple[str, ...] = Field(description="full names of its entries")
    problems: int = Field(description="number of tensors that are missing, unexpected or misshapen; 0: it fits")
    description: str = Field(description="these tensors, listed by kind")


class Inspection(Record):
    """The contents of a weights file, a publisher's or a canonical one, read without running anything in it."""

    path: Path = Field(description="the file")
    container: str = Field(description="how it is packed: zip, legacy, pickle or safetensors")
    wrapper: str = Field(default="", description="the entry that holds the tensors, such as state_dict")
    prefix: str = Field(default="", description="what a wrapper of the model put before every name of a tensor")
    publisher: str | None = Field(default=None, description="whose layout the tensors have; cascadezoo: our own")
    num_classes: int | None = Field(default=None, description="number of classes by the class scores, less background")
    classes: tuple[str, ...] = Field(default=(), description="names of the classes in its metadata")
    evidence: tuple[Evidence, ...] = Field(default=(), description="what was found, each with its reason")
    size: int = Field(description="size in bytes")
    sha256: str = Field(description="SHA-256 of the file")
    globals: tuple[str, ...] = Field(default=(), description="names in its pickle")
    refused: tuple[str, ...] = Field(default=(), description="the names among them that stay inert")
    unsafe: dict[str, str] = Field(
        default_factory=dict, description="key -> the refused name that would have to be run to make its value"
    )
    ignored_entries: tuple[str, ...] = Field(default=(), description="names of what lies beside the weights")
    metadata: dict[str, str] = Field(description="short texts, numbers and lengths of lists in its metadata")
    tensors: dict[str, TensorInfo] = Field(description="key -> shape and data type")
    parameters: int = Field(description="numbers in all floating-point tensors")
    matches: tuple[Match, ...] = Field(default=(), description="the closest architectures")
    refusals: dict[str, str] = Field(default_factory=dict, description="publisher -> why the file is not theirs")
    fault: str | None = Field(default=None, description="how a canonical file differs from its content digest")

    def to_json(self, tensors: bool = False) -> str:
        """``tensors``: with each tensor's shape and data type, not only how many there are."""
        data = self.model_dump(mode="json", exclude=None if tensors else {"tensors"})
        return json.dumps({**data, "tensor_count": len(self.tensors)}, indent=2)
