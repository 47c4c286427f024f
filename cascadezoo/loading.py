"""Name to model: the entry's spec, the overrides, the weights.

(Not ``load.py``: the module would hide the function ``cascadezoo.load`` of the same name.)
"""

import logging
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from cascadezoo import registry
from cascadezoo.checkpoints.conversion import convert_in_memory
from cascadezoo.checkpoints.weights import obtain, set_aside_damaged
from cascadezoo.coco.categories import Categories
from cascadezoo.converters.canonical import read_network
from cascadezoo.detector import Detector
from cascadezoo.devices import usable
from cascadezoo.errors import CorruptCheckpoint, TensorMismatch, UsageError, WeightsNotFound
from cascadezoo.hub import huggingface, memo
from cascadezoo.hub.huggingface import Source
from cascadezoo.hub.progress import bars
from cascadezoo.manifest import ZooEntry
from cascadezoo.modeling import build as _build
from cascadezoo.spec.model import ModelSpec

_log = logging.getLogger("cascadezoo")


def build(spec: ModelSpec) -> Detector:
    """The network of a spec on the CPU, in eval mode, randomly initialised: for models that no entry names."""
    return Detector(_build.build(spec))


def load(
    name: str,
    pretrained: bool = False,
    weights: str | Path | None = None,
    *,
    device: torch.device | str = "cpu",
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
) -> Detector:
    """A model of the zoo, in eval mode.

    Args:
        name: an entry's full name (``cascade_r50_fpn_1x.mmdet``), its bare name, or a publisher's config or file stem;
            or a repository with weights of its own, ``hf-hub:org/repo[@revision]`` or ``local-dir:path``.
        pretrained: use the entry's published weights: from the cache, from the organisation ``CASCADEZOO_HUB``, or from
            the publisher, whose file is verified and converted.
        weights: a file instead: canonical ``.safetensors`` or the publisher's own, converted on the fly.  With
            neither, the model is randomly initialised, for training.
        num_classes: classes without background.  Where it differs from the weights', the layers that depend on it
            are newly initialised, in every stage, and named in a log message.
        min_size, max_size: the image's shorter and longer side, in pixels; default: the entry's own test scale.
        box_score_thresh, box_nms_thresh, box_detections_per_img: torchvision's names; default: the entry's own.
        rpn_batch_size_per_image, rpn_positive_fraction, box_batch_size_per_image, box_positive_fraction: how many
            anchors and boxes an image learns from, and at most which share of positive ones; torchvision's names.

    Raises:
        UsageError: no such entry (UnknownName) or no such device.
        MissingResource: the weights were never published, are not to be had (the network is off, a server fails), or
            ``weights`` is no file (WeightsNotFound).
        FileError: the file cannot be read, cannot be trusted, or does not fit the entry.
    """
    target = usable(device)
    source = huggingface.parse(name)
    if source is not None:
        if weights is not None:
            raise UsageError(f"{name} brings its own weights: leave weights=FILE out")
        published, tensors, categories = _from_repo(source)
    else:
        published, tensors, categories = _from_zoo(registry.info(name), pretrained, weights)
    held = published.num_classes if categories is None else len(categories)
    spec = _override(
        published,
        num_classes=held if num_classes is None else num_classes,
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
    elif spec.num_classes == held:
        model = _assign(Detector(_build.build(spec, device="meta")), tensors)
    else:
        model = _replace_classes(spec, _override(spec, num_classes=held), tensors)
    if categories is not None and len(categories) == spec.num_classes:
        model.categories = categories
    return model if target.type == "cpu" else model.to(target)


_Found = tuple[ModelSpec, dict[str, Tensor] | None, Categories | None]  # as published, before the caller's changes


def _from_zoo(entry: ZooEntry, pretrained: bool, weights: str | Path | None) -> _Found:
    """An entry's network, with its published weights, those of a file, or none."""
    if pretrained and weights is not None:
        raise UsageError("give either pretrained=True or weights=FILE, not both")
    tensors, categories = None, None
    if weights is not None:
        tensors, categories = _read(Path(weights), entry)
    elif pretrained:
        tensors, categories = _published(entry)
    return registry.spec_of(entry), tensors, categories


def _from_repo(source: Source) -> _Found:
    """Network, weights and categories as a repository has them."""
    with bars() as shown, shown.of(str(source)) as report:
        repo = huggingface.fetch_repo(source, report)
    config = repo.config
    tensors, _ = read_network(repo.weights, config.publisher, config.architecture, verify=memo.require_digest)
    return config.spec, tensors, config.names


def _published(entry: ZooEntry) -> tuple[dict[str, Tensor], Categories | None]:
    """An entry's published weights; a file of the cache that no longer holds what was written is made anew, once."""
    path = obtain(entry)
    try:
        return _read(path, entry)
    except CorruptCheckpoint as error:
        set_aside_damaged(entry, error)
    return _read(obtain(entry), entry)


def _read(path: Path, entry: ZooEntry) -> tuple[dict[str, Tensor], Categories | None]:
    """Canonical tensors of a file, whichever kind it is, and the categories it names for itself."""
    if not path.is_file():
        raise WeightsNotFound(f"{path} is not a file: give the path of a .safetensors or of the publisher's checkpoint")
    if path.suffix != ".safetensors":
        converted, _ = convert_in_memory(path, source=entry.publisher, entry=entry.name)
        # copies: the converted tensors may be views of the file, which a model must outlive
        return {name: tensor.clone() for name, tensor in converted.items()}, None
    tensors, metadata = read_network(path, entry.publisher, entry.architecture, verify=memo.require_digest)
    made_from = metadata.get("entries", entry.name).split(",")
    if entry.name not in made_from:
        _log.warning("%s holds the weights of %s, loaded as %s", path, " or ".join(made_from), entry.name)
    categories = metadata.get("categories")
    return tensors, None if categories is None else Categories.from_json(categories)


def _override(spec: ModelSpec, **changes: Any) -> ModelSpec:
    """The spec with the values given at any depth; None leaves the entry's own."""

    def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
        given = {k: merged(old[k], v) if isinstance(v, dict) else v for k, v in new.items() if v is not None}
        return {**old, **given}

    try:
        return ModelSpec.model_validate(merged(spec.model_dump(), changes))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from error


def _assign(model: Detector, tensors: dict[str, Tensor]) -> Detector:
    expected = model.state_dict()
    wrong = sorted(expected.keys() ^ tensors.keys()) or [
        name for name, value in expected.items() if tensors[name].shape != value.shape
    ]
    if wrong:
        raise TensorMismatch(
            f"the weights do not fit this model: {len(wrong)} tensors are missing, unexpected or of another shape, "
            f"the first is {wrong[0]}"
        )
    # as load_state_dict(assign=True) does, whose hooks take longer than reading the file
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        for name, parameter in module.named_parameters(recurse=False):
            module._parameters[name] = nn.Parameter(tensors[prefix + name], parameter.requires_grad)
        for name in module._buffers.keys() - module._non_persistent_buffers_set:
            module._buffers[name] = tensors[prefix + name]
    return model


def _replace_classes(spec: ModelSpec, held: ModelSpec, tensors: dict[str, Tensor]) -> Detector:
    """The model of ``spec`` with the weights of ``held``, but for the layers whose shape depends on the classes."""
    before, after = _build.canonical_shapes(held), _build.canonical_shapes(spec)
    fresh = {name for name, shape in after.items() if before[name] != shape}
    random = build(spec).state_dict()
    model = _assign(Detector(_build.build(spec, device="meta")), {**tensors, **{name: random[name] for name in fresh}})
    names = ", ".join(sorted(fresh))
    _log.warning("num_classes=%d instead of %d: newly initialised %s", spec.num_classes, held.num_classes, names)
    return model
