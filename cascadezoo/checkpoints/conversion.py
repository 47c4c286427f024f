"""From a checkpoint to canonical weights: read, identify, pair, check, write.

Conversion is exact: tensors are renamed, some are laid out otherwise, narrower floating point is widened to float32,
and float64 is accepted only where float32 holds its values.  Tensors are taken from the file one at a time.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from torch import Tensor

from cascadezoo import registry
from cascadezoo.checkpoints.identification import Identified, examine, given
from cascadezoo.checkpoints.preconditions import require_canonical_output
from cascadezoo.converters import CONVERTERS
from cascadezoo.converters.canonical import as_float32, content_digest, is_finite, write_canonical
from cascadezoo.converters.identify import is_published
from cascadezoo.converters.keymap import KeyMap, abbreviate
from cascadezoo.converters.report import ConversionReport
from cascadezoo.errors import CorruptCheckpoint, NonFiniteWeights, TensorMismatch, UsageError
from cascadezoo.files import protect
from cascadezoo.paths import expanded
from cascadezoo.version import __version__

_log = logging.getLogger("cascadezoo")


def convert(
    path: str | Path,
    source: str | None = None,
    entry: str | None = None,
    output: str | Path | None = None,
    *,
    force: bool = False,
    allow_nan: bool = False,
    insist: bool = False,
) -> ConversionReport:
    """Convert a checkpoint, a publisher's or a state dict of ours, to a canonical safetensors file.

    Args:
        path: the file.
        source: its publisher; default: as the file tells.
        entry: the entry it is; only needed where neither its metadata nor its name nor its tensors decide.
        output: the file to write, ``.safetensors``; default: beside the input, ``<entry>.safetensors``, or
            ``<architecture>.<publisher>.safetensors`` while several schedules remain possible.
        force: replace ``output`` if it exists.  The input is never replaced.
        allow_nan: keep tensors that hold NaN or infinity.
        insist: take it as ``entry`` even where its own metadata or name point to another network.

    Raises:
        UsageError: no such publisher or entry, AmbiguousEntry, OutputExists.
        FileError: the file is corrupt, unsafe, of another publisher or entry, or its tensors do not fit; or the output
            cannot be written, in which case nothing is left there.
    """
    path = expanded(path)
    if output is not None:
        require_canonical_output(expanded(output), path, force=force)
    found = identified(path, source, entry, insist=insist)
    if "content_digest" in found.examination.metadata:
        raise CorruptCheckpoint(f"{path} is canonical already: cascadezoo.load(name, weights=...) takes it as it is")
    tensors = _Tensors(found)
    _log.info("checking %d tensors", len(tensors))
    report = _checked(found, tensors, allow_nan)
    target = path.with_name(f"{report.name}.safetensors") if output is None else expanded(output)
    protect(target, path, force)
    _log.info("writing %s", target.name)
    sha256 = write_canonical(target, tensors, _metadata(found, report))
    return report.model_copy(update={"output": target, "output_sha256": sha256})


def convert_in_memory(
    path: str | Path,
    source: str | None = None,
    entry: str | None = None,
    *,
    allow_nan: bool = False,
    insist: bool = False,
) -> tuple[dict[str, Tensor], ConversionReport]:
    """As ``convert``, without a file: float32 tensors by canonical name.

    They may be views of the checkpoint's file: copy what is to be changed or to outlive it.
    """
    return converted(identified(expanded(path), source, entry, insist=insist), allow_nan=allow_nan)


def identified(path: Path, source: str | None = None, entry: str | None = None, *, insist: bool = False) -> Identified:
    """The file at ``path`` and the entries it may be; see ``convert``."""
    if source is not None and source not in CONVERTERS:
        raise UsageError(f"no checkpoints of {source!r} can be converted: choose one of {', '.join(CONVERTERS)}")
    if entry is not None:
        given(entry, source)  # before the file is read
    return examine(path).identify(source, entry, insist)


def converted(found: Identified, *, allow_nan: bool = False) -> tuple[dict[str, Tensor], ConversionReport]:
    """The canonical tensors of an identified file, as ``convert_in_memory`` gives them."""
    tensors = _Tensors(found)
    report = _checked(found, tensors, allow_nan)
    return dict(tensors), report


def to_publisher(tensors: Mapping[str, Tensor], entry: str) -> dict[str, Tensor]:
    """Canonical tensors as the state dict of the entry's publisher; what conversion drops is zero, see ``zeroed``."""
    return _key_map(entry).invert(tensors)


def zeroed(names: Iterable[str], entry: str) -> dict[str, str]:
    """What ``to_publisher`` fills with zeros for these canonical names: publisher's key -> which part, and why."""
    return _key_map(entry).zeros(names)


class _Named(Mapping[str, Tensor]):
    """The publisher's tensors by name without their wrapper's prefix, each made when it is asked for."""

    def __init__(self, keys: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
        self._keys = {name: key for name, key in keys.items() if key in tensors}
        self._tensors = tensors

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[self._keys[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


class _Tensors(Mapping[str, Tensor]):
    """Canonical name -> float32 tensor in canonical layout, made from the checkpoint's each time it is asked for."""

    def __init__(self, found: Identified) -> None:
        self._tensors = found.examination.checkpoint.tensors
        self._key_map = found.key_map
        self._keys = {name: key for key, name in found.pairs.items()}

    def __getitem__(self, name: str) -> Tensor:
        key = self._keys[name]
        return self._key_map.apply(name, as_float32(key, self._tensors[key]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def _key_map(entry: str) -> KeyMap:
    record = registry.info(entry)
    if record.publisher not in CONVERTERS:
        raise UsageError(f"{record.name} has no publisher's format")
    return CONVERTERS[record.publisher].key_map(record.architecture)


def _checked(found: Identified, tensors: Mapping[str, Tensor], allow_nan: bool) -> ConversionReport:
    """The report of the conversion, after a check that every tensor is finite and exact in float32, and those that are
    left out because others determine them are what their formulas say."""
    examined, identity, key_map = found.examination, found.identity, found.key_map
    checkpoint, pairs = examined.checkpoint, found.pairs
    departures = key_map.departures(_Named(examined.names.keys, checkpoint.tensors))
    if departures:
        raise TensorMismatch(
            f"{examined.path}: {len(departures)} tensors that others determine differ from their formula, so that its "
            f"network computes otherwise: {abbreviate(departures)}"
        )
    non_finite = [key for key, name in pairs.items() if not is_finite(tensors[name])]
    if non_finite and not allow_nan:
        raise NonFiniteWeights(
            f"{examined.path}: {len(non_finite)} tensors hold NaN or infinity ({abbreviate(non_finite)}): "
            "take another file, or pass --allow-nan to keep them"
        )
    dtypes = {key: checkpoint.records[key].dtype for key in pairs}
    ignored = {key: why for name, key in examined.names.keys.items() if (why := key_map.ignored_because(name))}
    return ConversionReport(
        path=examined.path,
        source_sha256=examined.sha256,
        source_is_published=any(is_published(entry, examined.sha256) for entry in identity.entries),
        container=checkpoint.container,
        wrapper=checkpoint.wrapper or "",
        prefix=examined.names.prefix,
        publisher=found.publisher,
        architecture=identity.architecture,
        entries=tuple(entry.name for entry in identity.entries),
        found_by=identity.found_by,
        num_classes=found.spec.num_classes,
        classes=tuple(found.categories or ()),
        mapped=pairs,
        ignored=ignored | dict.fromkeys(examined.names.counters, "a number that a wrapper of the model keeps"),
        partly_ignored={key: why for key, name in pairs.items() if (why := key_map.partly_ignored_because(name))},
        ignored_entries=tuple(checkpoint.ignored),
        refused=checkpoint.refused,
        casts={key: dtype for key, dtype in dtypes.items() if dtype != "float32"},
        non_finite=tuple(non_finite),
        content_digest=content_digest(tensors),
    )


def _metadata(found: Identified, report: ConversionReport) -> dict[str, str]:
    """Provenance: nothing that depends on the time, the path or the machine.

    A file with classes of its own was trained by somebody else: it is not the file at the publisher's address.
    """
    entries = found.identity.entries
    urls = [entry.download_url for entry in entries if entry.download_url] if not found.categories else []

    def shared(values: list[str]) -> str:
        return "; ".join(dict.fromkeys(values))

    return {
        "architecture": report.architecture,
        "publisher": report.publisher,
        "entries": ",".join(report.entries),
        "source_url": ",".join(urls),
        "source_sha256": report.source_sha256,
        "source_is_published": "yes" if report.source_is_published else "no",
        "converter": f"cascadezoo {__version__}",
        "key_map": found.key_map.digest,
        "code_license": shared([entry.code_license for entry in entries]),
        "weights_license": shared([entry.weights_license for entry in entries]),
        "attribution": shared([entry.attribution for entry in entries]),
        "content_digest": report.content_digest,
        **({"categories": found.categories.to_json()} if found.categories else {}),
    }
