"""A run's weights as a canonical file that says where it comes from."""

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from cascadezoo.coco.categories import Categories
from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.converters.canonical import content_digest, write_canonical
from cascadezoo.environment import environment
from cascadezoo.files import file_sha256
from cascadezoo.manifest import ZooEntry
from cascadezoo.spec.recipe import Recipe
from cascadezoo.training.config import TrainingConfig
from cascadezoo.version import __version__


def network_of(entry: ZooEntry) -> dict[str, str]:
    """The metadata by which ``load`` knows whose network a file holds."""
    return {"architecture": entry.architecture, "publisher": entry.publisher, "entries": entry.name}


def origin(entry: ZooEntry | None, config: TrainingConfig) -> dict[str, str]:
    """Where the run's first weights come from, with the licence that goes with published ones."""
    if config.weights is not None:
        return {"started_from": f"file {config.weights.name}, sha256 {file_sha256(config.weights)}"}
    if entry is None or not config.pretrained:
        return {"started_from": "random"}
    return {
        "started_from": f"{entry.name} as published",
        "code_license": entry.code_license,
        "weights_license": entry.weights_license,
        "attribution": entry.attribution,
    }


def write_weights(
    path: Path,
    tensors: Mapping[str, Tensor],
    categories: Categories,
    origin: Mapping[str, str],
    config: TrainingConfig,
    recipe: Recipe,
    data: CocoDataset,
    step: int,
) -> None:
    """Write what ``load(name, weights=path)`` reads; the bytes depend on the run alone, not on when or where it was.

    Raises UnwritableOutput.
    """
    held = {name: tensor.detach().float().cpu() for name, tensor in tensors.items()}
    commit = environment()["commit"]
    metadata = {
        **origin,
        "categories": categories.to_json(),
        "recipe": recipe.model_dump_json(),
        "batch": f"{config.batch_size} images a process, {config.accumulate} passes a step",
        "steps": str(step),
        "seed": str(config.seed),
        "data": json.dumps({"file": data.annotations.name, "sha256": data.digest, "images": len(data)}),
        "trained_by": f"cascadezoo {__version__}" + (f", commit {commit}" if commit else ""),
        "content_digest": content_digest(held),
    }
    write_canonical(path, held, metadata)
