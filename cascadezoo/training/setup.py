"""What a training run is made of, as it follows from the options: data, network, recipe, learning rate, plan."""

import difflib
import math
from dataclasses import dataclass

import torch

from cascadezoo import registry
from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.detector import Detector
from cascadezoo.distributed import World
from cascadezoo.errors import FileError, UsageError
from cascadezoo.manifest import ZooEntry
from cascadezoo.optimizing.precision import has_bfloat16
from cascadezoo.spec.recipe import Recipe
from cascadezoo.training.batch_size import with_fitting
from cascadezoo.training.classes import ChosenClasses
from cascadezoo.training.config import Precision, TrainingConfig, recipe_of
from cascadezoo.training.criterion import Criterion
from cascadezoo.training.hook import Augment, name_of, require_portable
from cascadezoo.training.introduction import Rate, rate_of
from cascadezoo.training.loader import TrainingSet
from cascadezoo.training.network import entry_network, freeze, set_drop_path, set_training
from cascadezoo.training.schedule import Plan
from cascadezoo.training.validation_loss import validation_set


@dataclass(frozen=True)
class Setup:
    """The parts of a run before its first step.

    Attributes:
        config: its options, with a number for a batch size that was to be found.
        model: the network on its device, in training mode, with what is frozen.
        recipe: with what the options change.
        data: what it learns from.
        val: what it is evaluated on, if anything.
        set: the samples of ``data``.
        val_set: those of ``val`` that losses are computed on, where the options ask for it.
        batch: images of a step, of all passes and processes.
        found: what was found out about the options, in sentences.
        rate: the learning rate.
        plan: the schedule in steps.
    """

    config: TrainingConfig
    model: Detector
    recipe: Recipe
    data: CocoDataset
    val: CocoDataset | None
    set: TrainingSet
    val_set: TrainingSet | None
    batch: int
    found: tuple[str, ...]
    rate: Rate
    plan: Plan


def set_up(
    config: TrainingConfig,
    world: World,
    model: Detector | None = None,
    recipe: Recipe | None = None,
    augment: Augment | None = None,
) -> Setup:
    """The parts of a run with these options; ``model``, ``recipe`` and ``augment`` as of ``train``.

    Sets the seed.  Raises UsageError, MissingResource, FileError: options, data or weights that do not fit.
    """
    config = config.with_augment(None if augment is None else name_of(augment))
    if augment is not None:
        require_portable(augment, config.workers)
    if config.precision is Precision.BF16 and world.device.type == "cpu" and not has_bfloat16():
        raise UsageError(
            "--precision bf16: this processor has neither avx512_bf16 nor AMX, so that it would be slower than fp32: "
            "give fp32"
        )
    torch.manual_seed(config.seed)
    if config.classes:
        data: CocoDataset = ChosenClasses(config.train_json, config.train_images, config.classes)
    else:
        data = CocoDataset(config.train_json, config.train_images)
    entry = None if config.entry is None else registry.info(config.entry)
    if model is None:
        model = entry_network(config, _required(entry), data)
    if recipe is None:
        published = registry.spec_of(_required(entry)).preprocess
        recipe = config.adjust(recipe_of(_required(entry), config.schedule), published, model.spec.preprocess)
    val = _validation(config, data, masks=model.spec.mask is not None)
    model.categories = data.categories
    if recipe.drop_path is not None:
        set_drop_path(model, recipe.drop_path)
    freeze(model, config.freeze)
    model = model.to(world.device)
    set_training(model)
    val_set = None
    if val is not None:
        _require_measured(Criterion.parse(config.best_by), val, masks=model.spec.mask is not None)
        if config.measures_loss:
            val_set = validation_set(val, model, config.seed, keep_empty=config.keep_empty)
    samples = TrainingSet(
        data, model.spec, recipe.augmentation, config.seed, keep_empty=config.keep_empty,
        repeat=config.repeat_factor, own=augment,
    )  # fmt: skip
    config, found = with_fitting(config, model, recipe, samples, world)
    batch = config.batch_size * config.accumulate * world.size
    passes = math.ceil(samples.drawn / (config.batch_size * world.size))
    if passes < config.accumulate:
        raise UsageError(
            f"accumulate {config.accumulate}: an epoch of {samples.drawn} images has fewer passes, {passes}"
        )
    return Setup(
        config=config,
        model=model,
        recipe=recipe,
        data=data,
        val=val,
        set=samples,
        val_set=val_set,
        batch=batch,
        found=tuple(found),
        rate=rate_of(recipe.solver, batch, config.lr),
        plan=Plan(recipe.schedule, passes // config.accumulate),
    )


def _required(entry: ZooEntry | None) -> ZooEntry:
    if entry is None:
        raise UsageError("name an entry, or give a model and a recipe of your own")
    return entry


def _validation(config: TrainingConfig, data: CocoDataset, *, masks: bool) -> CocoDataset | None:
    if config.val_json is None:
        return None
    images = config.val_images or config.train_images
    if config.classes:
        val: CocoDataset = ChosenClasses(config.val_json, images, data.categories, partly=True)
    else:
        val = CocoDataset(config.val_json, images)
    if strangers := val.categories.not_in(data.categories):
        raise FileError(
            f"{val.annotations} has other categories than {data.annotations}, such as {strangers[0]!r}: give two parts "
            "of one data set, whose categories have the same ids"
        )
    if masks:
        val.require_mask_truth()
    return val


def _require_measured(criterion: Criterion, val: CocoDataset, *, masks: bool) -> None:
    """Raise UsageError where evaluations on ``val`` do not have the figure that the best weights are chosen by."""
    if criterion.kind == "segm" and not masks:
        raise UsageError(f"--best-by {criterion}: this network finds no masks, so choose a figure of boxes")
    name = criterion.class_name
    if name in val.categories and not val.class_counts[val.categories.index(name)]:
        raise UsageError(f"--best-by {criterion}: {val.annotations} has no objects of class {name!r}")
    if name is not None and name not in val.categories:
        close = difflib.get_close_matches(name, val.categories, n=3)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"it has {', '.join(val.categories)}"
        raise UsageError(f"--best-by {criterion}: {val.annotations} has no class {name!r}; {hint}")
