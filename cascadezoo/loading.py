"""Name to model: the entry's spec, the overrides, the weights.

(Not ``load.py``: the module would hide the function ``cascadezoo.load`` of the same name.)
"""

import logging
import numbers
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from cascadezoo import registry
from cascadezoo.checkpoints.conversion import converted
from cascadezoo.checkpoints.identification import Identified, examine
from cascadezoo.checkpoints.shapes import shapes_of
from cascadezoo.checkpoints.weights import obtain, set_aside_damaged
from cascadezoo.coco.categories import OF_DATA, Categories
from cascadezoo.converters.canonical import read_canonical, read_network
from cascadezoo.converters.keymap import abbreviate
from cascadezoo.detector import Detector
from cascadezoo.devices import usable
from cascadezoo.errors import CorruptCheckpoint, TensorMismatch, UsageError, WeightsNotFound, WrongType
from cascadezoo.hub import huggingface, integrity, memo
from cascadezoo.hub.progress import bars
from cascadezoo.hub.sources import HubSource, Source, parse
from cascadezoo.manifest import ZooEntry
from cascadezoo.modeling import build as _build
from cascadezoo.paths import expanded
from cascadezoo.spec.model import ModelSpec
from cascadezoo.spec.origin import Origin

_log = logging.getLogger("cascadezoo")


@torch.inference_mode(False)  # parameters made inside it could never be trained
def build(spec: ModelSpec) -> Detector:
    """The network of a spec, for models that no entry names.

    Args:
        spec: every number of the network; ``cascadezoo.registry.spec_of(cascadezoo.info(name))`` is an entry's.

    Returns:
        The model on the CPU, in eval mode, in float32, with random weights: it warns when it first detects.
    """
    return Detector(_build.build(spec))


@torch.inference_mode(False)
def load(
    name: str,
    *misplaced: object,
    pretrained: bool = False,
    weights: str | os.PathLike[str] | None = None,
    device: torch.device | str | int | None = "cpu",
    num_classes: int | None = None,
    min_size: int | None = None,
    max_size: int | None = None,
    box_score_thresh: float | None = None,
    box_nms_thresh: float | None = None,
    box_detections_per_img: int | None = None,
    rpn_batch_size_per_image: int | None = None,
    rpn_positive_fraction: float | None = None,
    box_batch_size_per_image: int | None = None,
    box_positive_fraction: float | None = None,
    sha256: str | None = None,
    insist: bool = False,
) -> Detector:
    """A model of the zoo, in eval mode.  Everything after the name is given by name.

    Args:
        name: an entry's full name (``cascade_r50_fpn_1x.mmdet``), its bare name, or a publisher's config or file stem;
            or a repository with weights of its own, ``hf-hub:org/repo[@revision]`` or ``local-dir:path``.
        pretrained: use the entry's published weights: from the cache, from the organisation ``CASCADEZOO_HUB``, or from
            the publisher, whose file is verified and converted.
        weights: a file instead: one that ``save`` or ``train`` wrote, a state dict of a model of ours, or the
            publisher's own, converted on the fly; it brings its own number of classes, and their names where it has
            them.  With neither, the model is randomly initialised, for training.
        device: where the model computes: "cpu", "cuda", "cuda:1", "mps", a GPU's number, or a ``torch.device``; None: a
            GPU where there is one, else the CPU.
        num_classes: classes without background, at least 1.  Where it differs from the weights', the layers that depend
            on it are newly initialised, in every stage, and named in a log message.
        min_size, max_size: the image's shorter and longer side, in pixels; default: the entry's own test scale.
        box_score_thresh: a detection's score is strictly above this, 0 to less than 1; default: the entry's own, as
            for the following, which have torchvision's names.
        box_nms_thresh: a box that overlaps a better one of its class by a higher IoU (Detectron's entries: or an equal
            one) is suppressed, 0 to 1.
        box_detections_per_img: the most detections of an image, at least 1.
        rpn_batch_size_per_image, rpn_positive_fraction, box_batch_size_per_image, box_positive_fraction: how many
            anchors and boxes an image learns from, at least 1, and at most which share of them, 0 to 1, is positive.
        sha256: the whole SHA-256, in hexadecimal, that the weights' file must have: the file ``weights``, a
            repository's model.safetensors, or with ``pretrained`` the publisher's own file (those are listed by
            `cascadezoo lock write`).
        insist: take ``weights`` as this entry's even where the file's own metadata or name point to another network.

    Raises:
        UsageError: no such entry (UnknownName), an argument of a wrong type or by position (WrongType), a name that is
            no device's.
        MissingResource: the device is not there; the weights were never published or are not to be had (the network is
            off, a server fails); or ``weights`` is no file (WeightsNotFound).
        FileError: the file cannot be read, cannot be trusted, or does not fit the entry.
    """
    _check_arguments(name, misplaced, pretrained, weights, insist)
    _check_numbers(
        whole=True,
        num_classes=num_classes,
        min_size=min_size,
        max_size=max_size,
        box_detections_per_img=box_detections_per_img,
        rpn_batch_size_per_image=rpn_batch_size_per_image,
        box_batch_size_per_image=box_batch_size_per_image,
    )
    _check_numbers(
        whole=False,
        box_score_thresh=box_score_thresh,
        box_nms_thresh=box_nms_thresh,
        rpn_positive_fraction=rpn_positive_fraction,
        box_positive_fraction=box_positive_fraction,
    )
    target = usable(device)
    source = parse(name)
    if source is not None:
        if weights is not None:
            raise UsageError(f"{name} brings its own weights: leave weights=FILE out")
        published = _from_repo(source, sha256)
    else:
        entry = registry.info(name)
        published = _from_zoo(entry, pretrained, weights, sha256, insist)
        published = published._replace(categories=published.categories or OF_DATA.get(entry.data))
    tensors, categories = published.tensors, published.categories
    own_classes = published.spec.num_classes
    spec = _override(
        published.spec,
        num_classes=own_classes if num_classes is None else num_classes,
        preprocess={"min_size": min_size, "max_size": max_size},
        conventions={
            "selection": {
                "score_thresh": box_score_thresh,
                "nms": {"iou": box_nms_thresh},
                "detections_per_img": box_detections_per_img,
            }
        },
        objective={
            "rpn": {"sampling": {"size": rpn_batch_size_per_image, "positive_fraction": rpn_positive_fraction}},
            "box": {"sampling": {"size": box_batch_size_per_image, "positive_fraction": box_positive_fraction}},
        },
    )
    if tensors is None:
        model = build(spec)
    elif spec.num_classes == own_classes:
        model = _assign(Detector(_build.build(spec, device="meta")), tensors)
    else:
        model = _replace_classes(spec, _override(spec, num_classes=own_classes), tensors)
    if categories is not None and len(categories) == spec.num_classes:
        model.categories = categories
    model.origin = published.origin
    return model if target.type == "cpu" else model.to(target)


def _check_arguments(
    name: object, misplaced: tuple[object, ...], pretrained: object, weights: object, insist: object
) -> None:
    if not isinstance(name, str):
        raise WrongType(f"name: give an entry's name as a text, not {name!r}")
    if misplaced:
        raise WrongType(
            f"load takes only the name by position, not {misplaced[0]!r}: say what it is, as in pretrained=True or "
            "weights=FILE"
        )
    if not isinstance(pretrained, bool):
        raise WrongType(f"pretrained: give True or False, not {pretrained!r}; a file is given as weights=FILE")
    if not isinstance(weights, str | os.PathLike | None):
        raise WrongType(f"weights: give the path of a file, not a {type(weights).__name__}")
    if isinstance(weights, str) and not weights.strip():
        raise UsageError("weights: give the path of a file, not an empty text; without one, leave weights out")
    if not isinstance(insist, bool):
        raise WrongType(f"insist: give True or False, not {insist!r}")


def _check_numbers(*, whole: bool, **given: object) -> None:
    kind = numbers.Integral if whole else numbers.Real
    for name, value in given.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
            raise WrongType(f"{name}: give a {'whole ' if whole else ''}number, not {value!r}")


class _Published(NamedTuple):
    """A network before the caller's changes, with the number of classes of its tensors; without tensors, it is to be
    newly initialised."""

    spec: ModelSpec
    origin: Origin
    tensors: dict[str, Tensor] | None = None
    categories: Categories | None = None


def _from_zoo(
    entry: ZooEntry, pretrained: bool, weights: str | os.PathLike[str] | None, sha256: str | None, insist: bool
) -> _Published:
    """An entry's network, with its published weights, those of a file, or none."""
    if pretrained and weights is not None:
        raise UsageError("give either pretrained=True or weights=FILE, not both")
    if weights is not None:
        return _from_file(expanded(weights), entry, sha256, insist)
    if pretrained:
        return _as_published(entry, sha256)
    if sha256 is not None:
        raise UsageError("sha256 is of a file: give pretrained=True or weights=FILE with it")
    return _Published(registry.spec_of(entry), Origin.random(**_network(entry)))


def _network(entry: ZooEntry) -> dict[str, Any]:
    return {"entry": entry.name, "architecture": entry.architecture, "publisher": entry.publisher}


def _terms(entry: ZooEntry) -> dict[str, Any]:
    return {
        "code_license": entry.code_license,
        "weights_license": entry.weights_license,
        "attribution": entry.attribution,
    }


def _from_repo(source: Source, sha256: str | None) -> _Published:
    """Network, weights and categories as a repository has them."""
    with bars() as shown, shown.of(str(source)) as report:
        repo = huggingface.fetch_repo(source, report)
    config = repo.config
    if sha256 is not None:
        integrity.require_given(sha256, repo.weights)
    tensors, metadata = read_canonical(repo.weights, verify=memo.require_digest)
    network = {"entry": config.entry, "architecture": config.architecture, "publisher": config.publisher}
    if isinstance(source, HubSource):
        words = f"hf-hub:{source.repo}@{repo.commit}"
    else:  # without the path, which says something about this machine and nothing about the weights
        words = f"folder {source.folder.resolve().name}, content digest {config.content_digest}"
    origin = Origin.of_file(words, metadata, **network)
    return _Published(config.spec, origin, tensors, config.names)


def _as_published(entry: ZooEntry, sha256: str | None) -> _Published:
    """An entry's published weights; a file of the cache that no longer holds what was written is made anew, once."""

    def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
        return read_network(path, entry.publisher, entry.architecture, verify=memo.require_digest)

    path = obtain(entry, sha256=sha256)
    try:
        tensors, metadata = read(path)
    except CorruptCheckpoint as error:
        set_aside_damaged(entry, error)
        tensors, metadata = read(obtain(entry, sha256=sha256))
    origin = Origin(
        started_from=f"{entry.name} as published",
        **_network(entry),
        **_terms(entry),
        source_url=entry.download_url,
        source_sha256=metadata.get("source_sha256"),
        published_digest=metadata.get("content_digest"),
    )
    return _Published(registry.spec_of(entry), origin, tensors, _categories(metadata))


def _from_file(path: Path, entry: ZooEntry, sha256: str | None, insist: bool) -> _Published:
    """The weights of a canonical file, of a state dict of ours in any container, or of the publisher's own file."""
    if not path.exists():
        raise WeightsNotFound(f"{path} is not there: give the path of a .safetensors or of the publisher's checkpoint")
    if sha256 is not None:
        integrity.require_given(sha256, path)
    found = examine(path).identify(entry=entry.name, insist=insist)
    described = found.examination.described
    if not found.names_fit:
        named, count = len(described.classes or ()), found.spec.num_classes
        _log.warning("%s names %d classes, and its tensors have %d: the names are left aside", path, named, count)
    elif described.unread_classes:
        _log.warning("%s has a list of classes that is none of distinct names: it is left aside", path)
    if found.is_ours:
        return _from_ours(path, entry, found)
    tensors, report = converted(found)
    origin = Origin(
        started_from=f"file {path.name}, sha256 {report.source_sha256}",
        **_network(entry),
        **_terms(entry),
        source_url=entry.download_url if report.source_is_published else None,
        source_sha256=report.source_sha256,
    )
    return _Published(found.spec, origin, _copied(tensors), found.categories)


def _from_ours(path: Path, entry: ZooEntry, found: Identified) -> _Published:
    """A file of canonical names, with the origin, the categories and the numbers that it brings."""
    metadata = found.examination.metadata
    if "content_digest" in metadata:  # verified, which is quicker than hashing the file
        tensors, _ = read_canonical(path, verify=memo.require_digest)
        words = f"content digest {metadata['content_digest']}"
    else:
        tensors, words = _copied(converted(found)[0]), f"sha256 {found.examination.sha256}"
    made_from = metadata.get("entries", entry.name).split(",")
    if entry.name not in made_from:
        _log.warning("%s holds the weights of %s, loaded as %s", path, " or ".join(made_from), entry.name)
    elif "architecture" not in metadata:
        _log.warning(
            "%s does not say which network it is of, and others have the same shapes: loaded as %s, as told; "
            "cascadezoo.save writes files that say it",
            path,
            entry.name,
        )
    categories = _categories(metadata)
    count = found.spec.num_classes
    if categories is not None and len(categories) != count:
        raise CorruptCheckpoint(f"{path} names {len(categories)} categories for {count} classes: save the model anew")
    origin = Origin.of_file(f"file {path.name}, {words}", metadata, **_network(entry))
    spec = _own_spec(path, metadata, found.spec)
    if shapes_of(spec) != found.examination.shapes:
        raise CorruptCheckpoint(f"{path}: the network that it describes has other tensors than it holds: save it anew")
    return _Published(spec, origin, tensors, categories or found.categories)


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The converted tensors may be views of the file, which a model must outlive."""
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _own_spec(path: Path, metadata: Mapping[str, str], spec: ModelSpec) -> ModelSpec:
    """The numbers that a file brings, where it does, instead of the entry's."""
    if "spec" not in metadata:
        return spec
    try:
        return ModelSpec.model_validate_json(metadata["spec"])
    except ValidationError as error:
        raise CorruptCheckpoint(
            f"{path}: the numbers of its network are not valid ({_first(error)}): save the model anew"
        ) from error


def _categories(metadata: Mapping[str, str]) -> Categories | None:
    return Categories.from_json(metadata["categories"]) if "categories" in metadata else None


def _override(spec: ModelSpec, **changes: Any) -> ModelSpec:
    """The spec with the values given at any depth; None leaves the entry's own."""

    def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
        given = {k: merged(old[k], v) if isinstance(v, dict) else v for k, v in new.items() if v is not None}
        return {**old, **given}

    try:
        return ModelSpec.model_validate(merged(spec.model_dump(), changes))
    except ValidationError as error:
        raise UsageError(_first(error)) from error


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg'].removeprefix('Value error, ')}"


def _assign(model: Detector, tensors: dict[str, Tensor]) -> Detector:
    expected = model.state_dict()
    missing, unexpected = expected.keys() - tensors.keys(), tensors.keys() - expected.keys()
    shapes = {
        f"{name} is {tuple(tensors[name].shape)}, expected {tuple(value.shape)}"
        for name, value in expected.items()
        if name in tensors and tensors[name].shape != value.shape
    }
    kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    if wrong := [f"{len(names)} {kind}: {abbreviate(names)}" for kind, names in kinds if names]:
        raise TensorMismatch(f"the weights do not fit this model: {'; '.join(wrong)}")
    # as load_state_dict(assign=True) does, whose hooks take longer than reading the file
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        for name, parameter in module.named_parameters(recurse=False):
            module._parameters[name] = nn.Parameter(tensors[prefix + name], parameter.requires_grad)
        for name in module._buffers.keys() - module._non_persistent_buffers_set:
            module._buffers[name] = tensors[prefix + name]
    return model


def _replace_classes(spec: ModelSpec, old: ModelSpec, tensors: dict[str, Tensor]) -> Detector:
    """The model of ``spec`` with the weights of ``old``, except in the layers whose shape depends on the classes."""
    before, after = shapes_of(old), shapes_of(spec)
    fresh = {name for name, shape in after.items() if before[name] != shape}
    random = build(spec).state_dict()
    model = _assign(Detector(_build.build(spec, device="meta")), {**tensors, **{name: random[name] for name in fresh}})
    model.mark_random()
    names = ", ".join(sorted(fresh))
    words = "num_classes=%d instead of %d: newly initialised %s; the names of the %d classes are left aside"
    _log.warning(words, spec.num_classes, old.num_classes, names, old.num_classes)
    return model
