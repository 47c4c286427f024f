"""A model in a few lines, for whoever prints it."""

from collections.abc import Iterator

from cascadezoo.coco.categories import Categories
from cascadezoo.modeling.network import Network
from cascadezoo.spec.origin import Origin
from cascadezoo.text import printable

_NAMES = 6
_LONGEST = 200  # characters of a line's text


def summary(model: Network, categories: Categories, origin: Origin, is_random: bool) -> str:
    """What a model is, what its weights are, and what it computes in, a line each.

    ``is_random``: its class layers are known to hold random numbers.
    """
    lines = [*_of_weights(categories, origin, is_random), *_of_network(model)]
    shown = [f"  {label:<10}  {_shortened(printable(text))}" for label, text in lines]
    of = printable(origin.entry or "a network that is no entry")
    return "\n".join([f"{type(model).__name__} of {of}", *shown])


def _of_weights(categories: Categories, origin: Origin, is_random: bool) -> Iterator[tuple[str, str]]:
    names = ", ".join(categories[:_NAMES]) + ", …" * (len(categories) > _NAMES)
    yield "classes", f"{len(categories)}: {names}"
    if origin.started_from == Origin.random().started_from:
        yield "weights", "random" if is_random else "random at first"
        return
    yield "weights", f"{origin.started_from}{'; random in the class layers' * is_random}"
    yield "terms", f"weights {origin.weights_license or 'not stated'}, code {origin.code_license or 'not stated'}"


def _of_network(model: Network) -> Iterator[tuple[str, str]]:
    spec = model.spec
    selection, sides = spec.conventions.selection, spec.preprocess
    blocks = "-".join(map(str, spec.backbone.blocks))
    masks = spec.mask.heads if spec.mask else "none"
    yield "network", f"{spec.backbone.kind} {blocks}, box stages: {len(spec.stages)}, mask heads: {masks}"
    yield "detects", f"at most {selection.detections_per_img} objects, of scores above {selection.score_thresh:g}"
    yield "images", f"shorter side {sides.min_size} pixels, longer at most {sides.max_size}"
    weights = list(model.parameters())
    count = sum(weight.numel() for weight in weights)
    size = sum(weight.numel() * weight.element_size() for weight in weights)
    yield "parameters", f"{count / 1e6:.1f} million, {size / 1e6:.0f} MB"
    yield "computes", f"on {weights[0].device}, weights in {str(weights[0].dtype).removeprefix('torch.')}"
    yield "mode", "training" if model.training else "evaluation"


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
