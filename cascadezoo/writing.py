"""A model's tensors as a canonical file, with its categories and its origin."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from cascadezoo.coco.categories import Categories
from cascadezoo.converters.canonical import content_digest, write_canonical
from cascadezoo.spec.origin import Origin


def write_weights(
    path: Path, tensors: Mapping[str, Tensor], categories: Categories, origin: Origin, **more: str
) -> str:
    """Write what ``load(name, weights=path)`` reads, in float32, whole or not at all; returns the file's SHA-256.

    The bytes depend on the arguments alone.  ``more``: further metadata, for instance how the weights were trained.
    Raises UnwritableOutput.
    """
    plain = {name: tensor.detach().float().cpu() for name, tensor in tensors.items()}
    metadata = {
        **origin.metadata(),
        **more,
        "categories": categories.to_json(),
        "content_digest": content_digest(plain),
    }
    return write_canonical(path, plain, metadata)
