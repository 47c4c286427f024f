"""From a publisher's checkpoint to canonical weights: read, identify, pair, check, write.

Conversion is exact: tensors are renamed, some are laid out otherwise, narrower floating point is widened to float32,
and float64 is accepted only where float32 holds its values.  Tensors are taken from the file one at a time.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cascadezoo import registry
from cascadezoo.converters import CONVERTERS
from cascadezoo.converters.canonical import as_float32, content_digest, is_finite, write_canonical
from cascadezoo.converters.checkpoint import Checkpoint, read_checkpoint
from cascadezoo.converters.converter import Converter
from cascadezoo.converters.identify import Clue, Identity, clues, identify, is_published, refuse_wrong_link
from cascadezoo.converters.keymap import KeyMap, Shape, Shapes, abbreviate
from cascadezoo.converters.report import ConversionReport
from cascadezoo.errors import NonFiniteWeights, UnsafeCheckpoint, UsageError, WrongPublisher
from cascadezoo.files import file_sha256, protect
from cascadezoo.manifest import ZooEntry
from cascadezoo.modeling.build import canonical_shapes
from cascadezoo.paths import expanded
from cascadezoo.providers import SPECS
from cascadezoo.version import __version__

_WRAPPER = "module."  # torch's DataParallel and DistributedDataParallel put it before every key


def convert(
    path: str | Path,
    source: str = "mmdet",
    entry: str | None = None,
    output: str | Path | None = None,
    *,
    force: bool = False,
    allow_nan: bool = False,
) -> ConversionReport:
    """Convert a publisher's checkpoint to a canonical safetensors file.

    Args:
        path: the publisher's file.
        source: its publisher.
        entry: the entry it is; only needed where neither its metadata nor its name nor its tensors decide.
        output: the file to write, ``.safetensors``; default: beside the input, ``<entry>.safetensors``, or
            ``<architecture>.<publisher>.safetensors`` while several schedules remain possible.
        force: replace ``output`` if it exists.  The input is never replaced.
        allow_nan: keep tensors that hold NaN or infinity.

    Raises:
        UsageError: no such publisher or entry, AmbiguousEntry, OutputExists.
        FileError: the file is corrupt, unsafe, of another publisher, or its tensors do not fit; or the output cannot
            be written, in which case nothing is left there.
    """
    if output is not None and Path(output).suffix.lower() != ".safetensors":
        raise UsageError(f"{output}: canonical weights are safetensors, end the output's name so")
    plan = _plan(expanded(path), source, entry)
    report = _checked(plan, allow_nan)
    target = plan.path.with_name(f"{report.name}.safetensors") if output is None else expanded(output)
    protect(target, plan.path, force)
    sha256 = write_canonical(target, plan.tensors, _metadata(plan, report))
    return report.model_copy(update={"output": target, "output_sha256": sha256})


def convert_in_memory(
    path: str | Path, source: str = "mmdet", entry: str | None = None, *, allow_nan: bool = False
) -> tuple[dict[str, Tensor], ConversionReport]:
    """As ``convert``, without a file: float32 tensors by canonical name.

    They may be views of the checkpoint's file: copy what is to be changed or to outlive it.
    """
    plan = _plan(expanded(path), source, entry)
    report = _checked(plan, allow_nan)
    return dict(plan.tensors), report


def to_publisher(tensors: Mapping[str, Tensor], entry: str) -> dict[str, Tensor]:
    """Canonical tensors as the state dict of the entry's publisher; what conversion drops is zero, see ``zeroed``."""
    return _key_map(entry).invert(tensors)


def zeroed(names: Iterable[str], entry: str) -> dict[str, str]:
    """What ``to_publisher`` fills with zeros for these canonical names: publisher's key -> which part, and why."""
    return _key_map(entry).zeros(names)


def supported_entries(publisher: str) -> list[ZooEntry]:
    """The publisher's entries that this version has a network for."""
    return [e for e in registry.entries() if e.publisher == publisher and e.architecture in SPECS[publisher]]


def expected_shapes(publisher: str) -> dict[str, Shapes]:
    """Architecture -> canonical shapes, of every network of a publisher."""
    return {architecture: canonical_shapes(spec) for architecture, spec in SPECS[publisher].items()}


def unwrapped(checkpoint: Checkpoint) -> dict[str, str]:
    """The state dict's keys, without the prefix of a parallel wrapper where all have it -> the key in the file."""
    keys = [*checkpoint.tensors, *checkpoint.unsafe]
    wrapped = all(key.startswith(_WRAPPER) for key in keys)
    return {key.removeprefix(_WRAPPER) if wrapped else key: key for key in keys}


def shapes(checkpoint: Checkpoint, keys: Mapping[str, str]) -> dict[str, Shape]:
    """The shapes of a checkpoint's tensors by their ``unwrapped`` keys."""
    return {key: tuple(checkpoint.tensors[raw].shape) for key, raw in keys.items() if raw in checkpoint.tensors}


class _Tensors(Mapping[str, Tensor]):
    """Canonical name -> float32 tensor in canonical layout, made from the checkpoint's each time it is asked for."""

    def __init__(self, checkpoint: Checkpoint, key_map: KeyMap, raw_keys: Mapping[str, str]) -> None:
        self._tensors = checkpoint.tensors
        self._key_map = key_map
        self._raw_keys = raw_keys  # by canonical name

    def __getitem__(self, name: str) -> Tensor:
        raw = self._raw_keys[name]
        return self._key_map.apply(name, as_float32(raw, self._tensors[raw]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw_keys)

    def __len__(self) -> int:
        return len(self._raw_keys)


@dataclass(frozen=True)
class _Plan:
    """A checkpoint, what it is, and how its tensors are converted; nothing has been computed yet.

    Attributes:
        path: the publisher's file.
        sha256: of that file.
        checkpoint: what it holds.
        converter: its publisher's.
        key_map: of the architecture that was identified.
        identity: the entries that it may be.
        keys: publisher's key without a wrapper's prefix -> key in the file.
        tensors: canonical name -> converted tensor, made when it is asked for.
    """

    path: Path
    sha256: str
    checkpoint: Checkpoint
    converter: Converter
    key_map: KeyMap
    identity: Identity
    keys: Mapping[str, str]
    tensors: Mapping[str, Tensor]


def _plan(path: Path, source: str, entry: str | None) -> _Plan:
    converter = _converter(source)
    given = None if entry is None else _given(entry, source)
    checkpoint = read_checkpoint(path)
    keys = unwrapped(checkpoint)
    reason = converter.refusal(keys.keys(), checkpoint.meta)
    if reason is not None:
        raise WrongPublisher(f"{path} cannot be converted from {source}: {reason}")
    entries = supported_entries(source)
    _refuse_unsafe(path, checkpoint, keys, converter.key_map(entries[0].architecture))

    sha256 = file_sha256(path)
    found = shapes(checkpoint, keys)
    hints = clues(path, sha256, converter.describe(checkpoint.meta), entries, SPECS[source])
    if given is not None:
        refuse_wrong_link(path, given, hints, entries)
        hints = (Clue("the entry given", (given,)),)
    identity = identify(path, found, converter, entries, expected_shapes(source), hints)
    key_map = converter.key_map(identity.architecture)
    tensors = _Tensors(checkpoint, key_map, {name: keys[key] for key, name in identity.fit.pairs.items()})
    return _Plan(path, sha256, checkpoint, converter, key_map, identity, keys, tensors)


def _converter(source: str) -> Converter:
    if source not in CONVERTERS:
        raise UsageError(f"no checkpoints of {source!r} can be converted: choose one of {', '.join(CONVERTERS)}")
    return CONVERTERS[source]


def _key_map(entry: str) -> KeyMap:
    record = registry.info(entry)
    return _converter(record.publisher).key_map(record.architecture)


def _given(name: str, source: str) -> ZooEntry:
    entry = registry.info(name)
    if entry.publisher != source:
        raise UsageError(f"{entry.name} is an entry of {entry.publisher}, but the file is to be read as {source}'s")
    registry.spec_of(entry)  # raises for an entry without a network
    return entry


def _refuse_unsafe(path: Path, checkpoint: Checkpoint, keys: Mapping[str, str], key_map: KeyMap) -> None:
    """A needed tensor that only foreign code could build ends the conversion; names are alike in all architectures."""
    for key, raw in keys.items():
        if raw in checkpoint.unsafe and not key_map.ignored_because(key):
            raise UnsafeCheckpoint(
                f"{path}: {raw} could only be read by running {checkpoint.unsafe[raw]}, which is never done: "
                "ask for a file that holds plain tensors"
            )


def _checked(plan: _Plan, allow_nan: bool) -> ConversionReport:
    """The report of the conversion, after a check that every tensor is finite and exact in float32."""
    pairs = {plan.keys[key]: name for key, name in plan.identity.fit.pairs.items()}
    non_finite = [key for key, name in pairs.items() if not is_finite(plan.tensors[name])]
    if non_finite and not allow_nan:
        raise NonFiniteWeights(
            f"{plan.path}: {len(non_finite)} tensors hold NaN or infinity ({abbreviate(non_finite)}): "
            "take another file, or pass --allow-nan to keep them"
        )
    dtypes = {key: plan.checkpoint.tensors[key].dtype for key in pairs}
    ignored = {raw: why for key, raw in plan.keys.items() if (why := plan.key_map.ignored_because(key))}
    return ConversionReport(
        path=plan.path,
        source_sha256=plan.sha256,
        source_is_published=any(is_published(entry, plan.sha256) for entry in plan.identity.entries),
        container=plan.checkpoint.container,
        publisher=plan.converter.publisher,
        architecture=plan.identity.architecture,
        entries=tuple(entry.name for entry in plan.identity.entries),
        found_by=plan.identity.found_by,
        mapped=pairs,
        ignored=ignored,
        partly_ignored={raw: why for raw, name in pairs.items() if (why := plan.key_map.partly_ignored_because(name))},
        ignored_entries=tuple(plan.checkpoint.ignored),
        refused=plan.checkpoint.refused,
        casts={k: str(dtype).removeprefix("torch.") for k, dtype in dtypes.items() if dtype != torch.float32},
        non_finite=tuple(non_finite),
        content_digest=content_digest(plan.tensors),
    )


def _metadata(plan: _Plan, report: ConversionReport) -> dict[str, str]:
    """Provenance: nothing that depends on the time, the path or the machine."""
    entries = plan.identity.entries

    def shared(values: list[str]) -> str:
        return "; ".join(dict.fromkeys(values))

    return {
        "architecture": report.architecture,
        "publisher": report.publisher,
        "entries": ",".join(report.entries),
        "source_url": ",".join(entry.download_url for entry in entries if entry.download_url),
        "source_sha256": report.source_sha256,
        "source_is_published": "yes" if report.source_is_published else "no",
        "converter": f"cascadezoo {__version__}",
        "key_map": plan.key_map.digest,
        "code_license": shared([entry.code_license for entry in entries]),
        "weights_license": shared([entry.weights_license for entry in entries]),
        "attribution": shared([entry.attribution for entry in entries]),
        "content_digest": report.content_digest,
    }
