"""From canonical weights back to a file of their publisher, whose own code then reads it.

(Not ``export.py``: the module would hide the function ``cascadezoo.export`` of the same name.)
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cascadezoo import registry
from cascadezoo.checkpoints.identification import examine
from cascadezoo.coco.categories import Categories, categories_of
from cascadezoo.errors import UsageError, WeightsNotFound, WrongPublisher
from cascadezoo.files import protect, whole_file, written_sha256
from cascadezoo.manifest import ZooEntry
from cascadezoo.paths import canonical_path, expanded
from cascadezoo.providers import FORMATS, SPECS
from cascadezoo.spec.model import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor

    from cascadezoo.converters.report import ExportReport


def export(
    name: str,
    format: str,
    weights: str | Path | None = None,
    output: str | Path | None = None,
    *,
    force: bool = False,
) -> "ExportReport":
    """Write an entry's canonical weights as a file of its publisher, equal in every tensor that inference uses.

    Args:
        name: an entry's full name, its bare name, or a publisher's config or file stem.
        format: the publisher whose format to write, which must be the entry's own.
        weights: a canonical ``.safetensors``; default: the entry's in the cache.
        output: the file to write; default: ``<entry>`` with the publisher's ending, beside ``weights`` or, for weights
            of the cache, in the current folder.
        force: replace ``output`` if it exists.  The input is never replaced.

    Raises:
        UsageError: no such entry or format, a format that cannot express the entry, OutputExists.
        WeightsNotFound: no such file, or none in the cache.
        FileError: the file is corrupt or holds something else; or the output cannot be written, in which case nothing
            is left there.
    """
    entry = registry.info(name)
    if format not in FORMATS:
        raise UsageError(f"no files of {format!r} can be written: choose one of {', '.join(FORMATS)}")
    spec = registry.spec_of(entry)
    if entry.publisher != format:
        raise UsageError(_cross_export(entry, spec, format))
    source = canonical_path(entry.name) if weights is None else expanded(weights)
    if not source.is_file():
        raise WeightsNotFound(
            f"{source}: no such file; give the canonical weights of {entry.name}, or run `cascadezoo download "
            f"{entry.name}` first"
        )
    if output is not None:
        protect(expanded(output), source, force)
    from cascadezoo.checkpoints.conversion import to_publisher, zeroed  # torch, now that there is something to export
    from cascadezoo.converters import CONVERTERS
    from cascadezoo.converters.converter import Model
    from cascadezoo.converters.report import ExportReport

    tensors, categories = _read(source, entry)
    converter = CONVERTERS[format]
    default = f"{entry.name}{converter.suffix}"
    target = expanded(output) if output is not None else Path(default) if weights is None else source.with_name(default)
    protect(target, source, force)
    state = to_publisher(tensors, entry.name)
    with whole_file(target) as file:
        converter.write(file, state, Model(entry=entry, spec=spec, classes=tuple(categories)))
        sha256 = written_sha256(file)  # not of the target, which may be a device
    return ExportReport(
        entry=entry.name,
        format=format,
        weights=source,
        tensors=len(state),
        zeroed=zeroed(tensors, entry.name),
        output=target,
        output_sha256=sha256,
    )


def _read(path: Path, entry: ZooEntry) -> tuple[dict[str, "Tensor"], Categories]:
    """The tensors of a canonical file, checked against the entry's network, and its categories."""
    from cascadezoo.converters.canonical import read_network

    found = examine(path).identify(entry=entry.name)
    if not found.is_ours:
        raise WrongPublisher(f"{path} is a file of {found.layout.publisher}: give canonical weights, as convert writes")
    tensors, metadata = read_network(path, entry.publisher, entry.architecture)
    if "categories" in metadata:
        return tensors, Categories.from_json(metadata["categories"])
    return tensors, found.categories or categories_of(entry.data, found.spec.num_classes)


def _cross_export(entry: ZooEntry, spec: ModelSpec, format: str) -> str:
    """Why an entry has no place in another publisher's format: the parts of its spec that no network there has."""
    theirs = [dict(_parts(other)) for other in SPECS[format].values()]
    foreign = [part for part, value in _parts(spec) if all(value != other[part] for other in theirs)]
    reason = f"no network there has its {', '.join(foreign)}" if foreign else "no network there is like it as a whole"
    own = f"choose its own format, {entry.publisher}" if entry.publisher in FORMATS else "it has no format but ours"
    return f"{entry.name} cannot be a file of {format}, whose code would run it by its own rules: {reason}; {own}"


def _parts(spec: ModelSpec) -> Iterator[tuple[str, object]]:
    """The parts of a spec by dotted name, one level of records deep, except for what depends on data and schedule."""
    for name in ("backbone", "neck", "box_head", "stages", "mask", "preprocess"):
        yield name, getattr(spec, name)
    for name in type(spec.conventions).model_fields:
        yield f"conventions.{name}", getattr(spec.conventions, name)
