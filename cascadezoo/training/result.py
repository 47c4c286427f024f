"""A run's weights as a canonical file that says how they were trained."""

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.environment import environment
from cascadezoo.spec.model import ModelSpec
from cascadezoo.spec.origin import Origin
from cascadezoo.spec.recipe import Recipe
from cascadezoo.training.config import TrainingConfig
from cascadezoo.version import __version__
from cascadezoo.writing import write_weights


def write_result(
    path: Path,
    tensors: Mapping[str, Tensor],
    spec: ModelSpec,
    origin: Origin,
    config: TrainingConfig,
    recipe: Recipe,
    data: CocoDataset,
    step: int,
) -> None:
    """Write what ``load(name, weights=path)`` reads; the bytes depend on the run alone, not on when or where it was.

    ``origin``: of the weights that the run started from.  Raises UnwritableOutput.
    """
    commit = environment()["commit"]
    write_weights(
        path,
        tensors,
        spec,
        data.categories,
        origin,
        recipe=recipe.model_dump_json(),
        batch=f"{config.batch_size} images per process and pass, {config.accumulate} passes per step",
        steps=str(step),
        seed=str(config.seed),
        data=json.dumps({"file": data.annotations.name, "sha256": data.digest, "images": len(data)}),
        trained_by=f"cascadezoo {__version__}" + (f", commit {commit}" if commit else ""),
    )
