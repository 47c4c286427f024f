"""The options of one training run, kept in its folder as ``config.json``, and the recipe that follows from them."""

from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from cascadezoo.errors import CorruptCheckpoint, MissingResource, UsageError
from cascadezoo.files import whole_file
from cascadezoo.manifest import ZooEntry
from cascadezoo.paths import expanded
from cascadezoo.providers.recipes import RECIPES
from cascadezoo.spec.model import PreprocessSpec
from cascadezoo.spec.recipe import Augmentation, EmaRule, Recipe
from cascadezoo.spec.record import Record
from cascadezoo.training.criterion import DEFAULT, LOSS, Criterion

AUTO = 0  # as the batch size of a run that has not begun: to be found
_FILE = "config.json"
# what the numbers of a run follow from, and would be without effect, or break the run in two, when it is resumed
_LASTING = (
    "num_classes", "schedule", "batch_size", "accumulate", "lr", "precision", "ema", "clip_grad", "min_size",
    "max_size", "classes", "freeze", "keep_empty", "repeat_factor", "best_by", "seed", "augment",
)  # fmt: skip


class Precision(StrEnum):
    """What the network computes in; weights and losses stay in float32."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"


class Part(StrEnum):
    """A part of a network that can be left as it is."""

    BACKBONE = "backbone"
    NECK = "neck"
    RPN = "rpn"


class TrainingConfig(Record):
    """The options of one training run: of an entry of the zoo or, without ``entry``, of a model given to ``train``.

    Paths are kept as absolute ones, so that a run can be resumed from any folder.
    """

    entry: str | None = Field(default=None, description="The entry that names the network and its publisher's recipe.")
    pretrained: bool = Field(default=False, description="Start from the entry's published weights.")
    weights: Path | None = Field(
        default=None, description="Start from this file, canonical or in the publisher's own format."
    )
    train_json: Path = Field(description="COCO annotations to train on.")
    train_images: Path = Field(description="The folder of their images.")
    val_json: Path | None = Field(default=None, description="COCO annotations to evaluate on.")
    val_images: Path | None = Field(
        default=None, description="The folder of their images; by default that of the training images."
    )
    num_classes: int | None = Field(
        default=None, gt=0, description="Classes without background; checked against the data, which decide."
    )
    schedule: str | None = Field(
        default=None, description="One of the publisher's, or a number of epochs; by default the entry's own."
    )
    batch_size: int = Field(
        default=2, description="Images per process and pass; auto for as many as the device has memory for."
    )
    accumulate: int = Field(default=1, gt=0, description="Passes per step, whose gradients are averaged.")
    lr: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Learning rate for all images of a step; by default the recipe's, scaled to their number.",
    )
    precision: Precision = Field(
        default=Precision.FP32, description="What the network computes in; weights and losses stay in float32."
    )
    ema: bool | None = Field(
        default=None, description="Whether to average the weights over the steps; by default as in the recipe."
    )
    clip_grad: float | None = Field(
        default=None, ge=0, description="Largest norm of the gradients, 0 for no limit; by default the recipe's."
    )
    min_size: int | None = Field(
        default=None,
        gt=0,
        description="Shorter side of the images at test time, in pixels, which the recipe's sizes follow; by default "
        "the entry's own.",
    )
    max_size: int | None = Field(
        default=None,
        gt=0,
        description="Longer side of the images at test time, in pixels, which the recipe's sizes follow; by default "
        "the entry's own.",
    )
    classes: tuple[str, ...] = Field(
        default=(),
        description="A class to learn, by its name, or one to leave out, as -NAME; several with commas or with more of "
        "these options; by default all of the data set's.",
    )
    freeze: tuple[Part, ...] = Field(
        default=(),
        description="A part of the network that stays as it is, its norms' statistics included, besides what the "
        "entry freezes; more than one with more of these options.",
    )
    keep_empty: bool = Field(default=False, description="Also train on images without objects.")
    repeat_factor: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Show images of classes that a smaller part of the images holds than this more than once in an "
        "epoch (LVIS: 0.001); by default each comes once.",
    )
    augment: str | None = Field(
        default=None,
        description="How the augmentation calls itself that was given in Python: set by train(config, augment=...).",
    )
    seed: int = Field(default=0, ge=0, description="The seed of all randomness.")
    run_dir: Path = Field(description="The folder of the run.")
    workers: int = Field(default=2, ge=0, description="Processes that prepare images.")
    device: str | None = Field(
        default=None, description="A device such as cpu or cuda:1; by default cuda where there is one."
    )
    eval_every: int = Field(default=1, gt=0, description="Epochs between evaluations.")
    best_by: str = Field(
        default=DEFAULT,
        description="What the best weights are chosen by: bbox or segm, a slash and one of COCO's figures, such as "
        "segm/AP50; AP of one class, such as bbox/AP:NAME; or loss, the validation loss.",
    )
    patience: int = Field(
        default=0, ge=0, description="Stop after so many evaluations in a row without better weights; 0 for never."
    )
    val_loss: bool = Field(default=False, description="Also compute the losses on the validation data.")
    tensorboard: bool = Field(default=False, description="Also write the curves for TensorBoard.")
    wandb: str | None = Field(
        default=None, min_length=1, description="Also send the curves to this project of Weights & Biases."
    )
    save_every: int = Field(default=1000, gt=0, description="Steps between checkpoints, besides those of evaluations.")
    log_every: int = Field(default=10, gt=0, description="Steps between lines of the log.")
    keep: int = Field(default=2, gt=0, description="How many of the last checkpoints are kept.")

    @field_validator("weights", "train_json", "train_images", "val_json", "val_images", "run_dir")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return None if path is None else expanded(path).absolute()

    @field_validator("best_by")
    @classmethod
    def _is_criterion(cls, text: str) -> str:
        Criterion.parse(text)
        return text

    @field_validator("batch_size", mode="before")
    @classmethod
    def _number_or_auto(cls, value: Any) -> int:
        if value == "auto":
            return AUTO
        try:
            number = int(value)
            is_whole = number == float(value)
        except (TypeError, ValueError, OverflowError):
            number, is_whole = AUTO, False
        if number < 1 or not is_whole:
            raise ValueError(f"a number of images, 1 or more, or auto is wanted, not {str(value)[:40]}")
        return number

    @model_validator(mode="after")
    def _options_agree(self) -> Self:
        if self.pretrained and self.weights is not None:
            raise ValueError("give either pretrained or weights, not both")
        if self.val_images is not None and self.val_json is None:
            raise ValueError("val_images without val_json: give the annotation file too")
        for name in ("best_by", "patience", "val_loss"):
            if self.val_json is None and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} without val_json: give annotations to evaluate on")
        return self

    @property
    def measures_loss(self) -> bool:
        """Whether evaluations compute losses."""
        return self.val_loss or self.best_by == LOSS

    @classmethod
    def of(cls, **options: Any) -> Self:
        """From options, where None stands for the default.  Raises UsageError."""
        try:
            return cls(**{name: value for name, value in options.items() if value is not None})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            message = first["msg"].removeprefix("Value error, ")
            raise UsageError(f"{where}: {message}" if where else message) from error

    @classmethod
    def read(cls, run_dir: Path) -> Self:
        """The options of an earlier run, from its folder.  Raises MissingResource or CorruptCheckpoint."""
        path = run_dir / _FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise MissingResource(f"{run_dir} holds no run to resume: {path} is not there") from error
        except ValueError as error:
            raise CorruptCheckpoint(f"{path} is no record of a run: delete the folder and begin again") from error

    def write(self) -> None:
        """Write the options into the run's folder.  Raises UnwritableOutput."""
        with whole_file(self.run_dir / _FILE) as file:
            file.write(self.model_dump_json(indent=2).encode() + b"\n")

    def with_augment(self, name: str | None) -> Self:
        """These options with the name of the augmentation that is given beside them.

        Raises UsageError where they are those of a run with one, and none is given.
        """
        if name is None and self.augment is not None:
            raise UsageError(
                f"{self.run_dir} was begun with an augmentation of its own, {self.augment}: go on with it in Python, "
                "train(config, augment=..., resume=True)"
            )
        return self.model_copy(update={"augment": name})

    def with_begun_batch_size(self) -> Self:
        """These options with the batch size of the run in their folder, if there is one and they leave it to be found.

        Raises CorruptCheckpoint.
        """
        if self.batch_size != AUTO:
            return self
        try:
            begun = type(self).read(self.run_dir)
        except MissingResource:  # stopped before it had begun
            return self
        return self.model_copy(update={"batch_size": begun.batch_size})

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

    def require_continues(self, begun: "TrainingConfig", *, extend: bool) -> None:
        """Raise UsageError, which names the options, where a run ``begun`` with others would go on with these.

        ``extend``: it may go on under another schedule.
        """
        for name in _LASTING:
            then, now = getattr(begun, name), getattr(self, name)
            if then == now or (extend and name == "schedule") or (name == "batch_size" and now == AUTO):
                continue
            way = "a run goes on only as it began, so leave the option out"
            if name == "schedule" and now is not None:
                way += f", or go on under the other schedule with --resume --extend {now} (in Python extend=True)"
            raise UsageError(f"{self.run_dir} was begun with {_flag(name, then)}, now it has {_flag(name, now)}: {way}")

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


def _flag(name: str, value: object) -> str:
    """An option as it is typed."""
    option = f"--{name.replace('_', '-')}"
    if value is None or value is False or value == ():
        return f"no {option}"
    if isinstance(value, tuple):
        return " ".join(f"{option} {each}" for each in value)
    return option if value is True else f"{option} {value}"


def _scaled(augmentation: Augmentation, short: float, long: float) -> Augmentation:
    """The augmentation with all shorter sides times ``short`` and all longer sides times ``long``."""
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
    if augmentation.jitter is not None:
        changes["jitter"] = {**augmentation.jitter.model_dump(), "size": round(augmentation.jitter.size * short)}
    return Augmentation.model_validate({**augmentation.model_dump(), **changes})


def recipe_of(entry: ZooEntry, schedule: str | None = None) -> Recipe:
    """The recipe with which an entry's publisher trained it.

    ``schedule``: the name of another of the publisher's schedules, or a number of epochs, to which the entry's own
    schedule is stretched.

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
    stem = entry.bare_name.removesuffix(f"_{entry.schedule}") + "_"
    own_schedules = {name.removeprefix(stem): recipe for name, recipe in table.items() if name.startswith(stem)}
    if entry.schedule in own_schedules:  # the publisher's others are for networks that are trained in another way
        table = own_schedules
    recipe = table.get(stem + wanted) or table.get(wanted)
    if recipe is None:
        known = ", ".join(name for name in table if "_" not in name)
        raise UsageError(
            f"{entry.publisher} has no schedule {wanted!r}: choose one of {known}, or give a number of epochs"
        )
    return recipe
