"""A model's tensors as a canonical file with its network, categories and origin; alone, or in a folder with a config.

``load(name, weights=path)`` reads the file, ``load("local-dir:folder")`` the folder.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from cascadezoo.coco.categories import Categories
from cascadezoo.converters.canonical import content_digest, write_canonical
from cascadezoo.errors import UnwritableOutput
from cascadezoo.files import whole_file
from cascadezoo.repo_config import CategoryNames, RepoConfig
from cascadezoo.spec.model import ModelSpec
from cascadezoo.spec.origin import Origin

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def write_weights(
    path: Path, tensors: Mapping[str, Tensor], spec: ModelSpec, categories: Categories, origin: Origin, **more: str
) -> str:
    """Write a canonical file, in float32, whole or not at all; returns its SHA-256.

    The bytes depend on the arguments alone.  ``more``: further metadata, for instance how the weights were trained.
    Raises UnwritableOutput.
    """
    plain = _float32(tensors)
    return _write(path, plain, spec, categories, origin, content_digest(plain), more)


def write_folder(
    folder: Path, tensors: Mapping[str, Tensor], spec: ModelSpec, categories: Categories, origin: Origin
) -> None:
    """Write a folder laid out as a repository of the Hub, made where it is not there; each file whole or not at all.

    Raises UnwritableOutput.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableOutput(f"{folder} cannot be made: {error.strerror or error}") from error
    plain = _float32(tensors)
    digest = content_digest(plain)
    config = RepoConfig(
        entry=origin.entry,
        publisher=origin.publisher,
        architecture=origin.architecture,
        content_digest=digest,
        categories=CategoryNames(names=tuple(categories), ids=categories.ids),
        spec=spec,
    )
    _write(folder / WEIGHTS, plain, spec, categories, origin, digest, {})
    with whole_file(folder / CONFIG) as file:
        file.write(config.to_json().encode())


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """The content digest of a canonical file of these tensors."""
    return content_digest(_float32(tensors))


def _float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().float().cpu() for name, tensor in tensors.items()}


def _write(
    path: Path,
    plain: Mapping[str, Tensor],
    spec: ModelSpec,
    categories: Categories,
    origin: Origin,
    digest: str,
    more: Mapping[str, str],
) -> str:
    metadata = {
        **origin.metadata(),
        **more,
        "categories": categories.to_json(),
        "spec": spec.to_json(),
        "content_digest": digest,
    }
    return write_canonical(path, plain, metadata)
