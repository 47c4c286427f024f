"""What a person decides about one training run; kept in its folder as ``config.json``."""

from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from cascadezoo.errors import CorruptCheckpoint, MissingResource, UsageError
from cascadezoo.files import whole_file
from cascadezoo.manifest import ZooEntry
from cascadezoo.providers.recipes import RECIPES
from cascadezoo.spec.model import PreprocessSpec
from cascadezoo.spec.recipe import Augmentation, EmaRule, Recipe
from cascadezoo.spec.record import Record

_FILE = "config.json"


class Precision(StrEnum):
    """What the network computes in; weights and losses stay in float32."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"


class TrainingConfig(Record):
    """One run, of an entry of the zoo or, without ``entry``, of a model of the caller's own.

    ``batch_size``: images a process and pass; a step takes ``accumulate`` passes of every process.  ``schedule``: one
    of the publisher's, or a number of epochs; default: the entry's own.  ``lr``: for the whole batch of a step;
    default: the recipe's, scaled to it.  ``num_classes``: default, and else it must be, that of the data.
    ``min_size``, ``max_size``: sides of the images, as at test time; the augmentation's sizes follow in proportion.
    ``keep_empty``: images without objects teach too; the publishers leave them out.
    ``clip_grad`` 0 and ``ema`` False turn off what the recipe has.  ``eval_every`` epochs; ``save_every`` and
    ``log_every`` steps.  Of the checkpoints the last ``keep`` are kept.
    """

    entry: str | None = None
    pretrained: bool = False
    weights: Path | None = None
    train_json: Path
    train_images: Path
    val_json: Path | None = None
    val_images: Path | None = None
    num_classes: int | None = Field(default=None, gt=0)
    schedule: str | None = None
    batch_size: int = Field(default=2, gt=0)
    accumulate: int = Field(default=1, gt=0)
    lr: float | None = Field(default=None, gt=0)
    precision: Precision = Precision.FP32
    ema: bool | None = None
    clip_grad: float | None = Field(default=None, ge=0)
    min_size: int | None = Field(default=None, gt=0)
    max_size: int | None = Field(default=None, gt=0)
    keep_empty: bool = False
    seed: int = Field(default=0, ge=0)
    run_dir: Path
    workers: int = Field(default=2, ge=0)
    device: str | None = None
    eval_every: int = Field(default=1, gt=0)
    save_every: int = Field(default=1000, gt=0)
    log_every: int = Field(default=10, gt=0)
    keep: int = Field(default=2, gt=0)

    @model_validator(mode="after")
    def _options_agree(self) -> Self:
        if self.pretrained and self.weights is not None:
            raise ValueError("give either pretrained or weights, not both")
        if self.val_images is not None and self.val_json is None:
            raise ValueError("val_images without val_json: give the annotation file too")
        return self

    @classmethod
    def of(cls, **options: Any) -> Self:
        """From options of which None means the default; raises UsageError."""
        try:
            return cls(**{name: value for name, value in options.items() if value is not None})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            message = first["msg"].removeprefix("Value error, ")
            raise UsageError(f"{where}: {message}" if where else message) from error

    @classmethod
    def read(cls, run_dir: Path) -> Self:
        """The options of an earlier run; raises MissingResource or CorruptCheckpoint."""
        path = run_dir / _FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise MissingResource(f"{run_dir} holds no run to resume: {path} is not there") from error
        except ValueError as error:
            raise CorruptCheckpoint(f"{path} is no record of a run: delete the folder and begin again") from error

    def write(self) -> None:
        """Put the options into the run's folder."""
        with whole_file(self.run_dir / _FILE) as file:
            file.write(self.model_dump_json(indent=2).encode() + b"\n")

    def require_agreement(self, *, model: bool, recipe: bool) -> None:
        """Raise one UsageError that names every option which a model, or a recipe, given beside them leaves no use."""
        sides = {
            "model": ("pretrained", "weights", "num_classes", "min_size", "max_size") if model else (),
            "recipe": ("schedule", "ema", "clip_grad") if recipe else (),
            "model and a recipe": ("entry",) if model and recipe else (),
        }
        problems = []
        for side, names in sides.items():
            given = [name for name in names if getattr(self, name) != type(self).model_fields[name].default]
            if given:
                problems.append(f"{', '.join(given)} beside a {side}")
        if problems:
            raise UsageError(
                f"options that contradict what is given with them: {'; '.join(problems)}. Leave them out, and give the "
                "model or the recipe as it should be"
            )

    def adjust(self, recipe: Recipe, published: PreprocessSpec, own: PreprocessSpec) -> Recipe:
        """The recipe with what these options change.

        Its sizes are those for networks that are tested at the scale ``published``; they follow in proportion to
        ``own``, the scale of the network that is trained.
        """
        changes: dict[str, Any] = {}
        if self.clip_grad is not None:
            changes["clip"] = self.clip_grad or None
        if self.ema is not None:
            changes["ema"] = (recipe.ema or EmaRule()) if self.ema else None
        changes["augmentation"] = _scaled(
            recipe.augmentation,
            own.min_size / published.min_size,
            own.max_size / published.max_size,
        )
        return recipe.model_copy(update=changes)


def _scaled(augmentation: Augmentation, short: float, long: float) -> Augmentation:
    """With its shorter sides multiplied by one factor, the longer ones by the other."""
    changes: dict[str, Any] = {}
    if augmentation.max_size is not None:
        changes["min_sizes"] = [round(size * short) for size in augmentation.min_sizes]
        changes["max_size"] = max(round(augmentation.max_size * long), *changes["min_sizes"])
    if augmentation.crop is not None:
        changes["crop"] = {
            "min_sizes": [round(size * short) for size in augmentation.crop.min_sizes],
            "max_size": round(augmentation.crop.max_size * long),
            "smallest": round(augmentation.crop.smallest * short),
            "largest": round(augmentation.crop.largest * short),
            "probability": augmentation.crop.probability,
        }
    return Augmentation.model_validate({**augmentation.model_dump(), **changes})


def recipe_of(entry: ZooEntry, schedule: str | None = None) -> Recipe:
    """How an entry's publisher trains it; ``schedule``: another of the publisher's, or a number of epochs, for which
    the entry's own is stretched.

    Raises UsageError for a schedule that the publisher does not have.
    """
    table = RECIPES[entry.publisher]
    wanted = schedule or entry.schedule
    try:
        epochs = float(wanted)
    except ValueError:
        pass
    else:
        if not 0 < epochs < float("inf"):
            raise UsageError(f"schedule {wanted}: give a positive number of epochs")
        own = recipe_of(entry)
        return own.model_copy(update={"schedule": own.schedule.lasting(epochs)})
    stem = entry.bare_name.removesuffix(f"_{entry.schedule}")
    recipe = table.get(f"{stem}_{wanted}") or table.get(wanted)
    if recipe is None:
        known = ", ".join(name for name in table if "_" not in name)
        raise UsageError(
            f"{entry.publisher} has no schedule {wanted!r}: choose one of {known}, or give a number of epochs"
        )
    return recipe
