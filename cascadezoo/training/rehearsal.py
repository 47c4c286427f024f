"""What a training run would be, said before it begins: nothing is trained, and nothing is written."""

import math
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import timedelta
from importlib import import_module
from time import perf_counter

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.detecting import is_out_of_memory
from cascadezoo.detector import Detector
from cascadezoo.distributed import World, join
from cascadezoo.modeling.preprocess import image_scale
from cascadezoo.spec.recipe import Augmentation, Curve, Recipe
from cascadezoo.training.config import TrainingConfig
from cascadezoo.training.hook import Augment
from cascadezoo.training.introduction import introduction
from cascadezoo.training.loader import training_loader
from cascadezoo.training.preconditions import require_writers
from cascadezoo.training.setup import Setup, set_up
from cascadezoo.training.step import Stepper, too_little_memory

_SHOWN = 10  # classes in a line
_TRIES = 2  # steps: the first one also waits for what is set up once
_CELLS = 2  # of the finest feature map, a side below which an object is hardly seen


def check_training(
    config: TrainingConfig,
    *,
    model: Detector | None = None,
    recipe: Recipe | None = None,
    augment: Augment | None = None,
) -> Iterator[str]:
    """Open data and network, and try a step: what a run with these options would be, a sentence at a time.

    ``model``, ``recipe`` and ``augment`` as of ``train``; the step changes the weights of the one that is given.  Under
    ``torchrun``, every process calls this.

    Raises:
        TrainingDiverged: a loss or gradient of the step is not finite.
        OutOfMemory: the device has too little memory for it.
        UsageError, MissingResource, FileError: options, data or weights that do not fit.
    """
    config.require_agreement(model=model is not None, recipe=recipe is not None)
    require_writers(config)
    with join(config.device) as world:
        setup = set_up(config, world, model, recipe, augment)
        yield from _network(setup)
        yield from setup.found
        yield from introduction(setup.model, setup.plan, setup.rate, world, setup.data, 0, setup.batch, setup.set)
        yield from _recipe(setup)
        yield from _small_objects(setup)
        if setup.val is not None:
            yield from _classes(setup.data, setup.val)
        stepper = Stepper(setup.model, setup.recipe, setup.rate.value, config.precision, config.seed, world)
        yield from _tried(setup, stepper, world)
        yield _disk(setup, stepper)


def _network(setup: Setup) -> Iterator[str]:
    parameters = list(setup.model.parameters())
    learning = sum(p.numel() for p in parameters if p.requires_grad)
    name = setup.config.entry or "the network given"
    yield f"{name}: {sum(p.numel() for p in parameters):,} parameters, of which {learning:,} learn"


def _recipe(setup: Setup) -> Iterator[str]:
    solver, schedule, preprocess = setup.recipe.solver, setup.recipe.schedule, setup.model.spec.preprocess
    after = ", ".join(f"{epoch:g}" for epoch in schedule.milestones)
    curve = f"times {schedule.gamma:g} after epochs {after}" if after else "constant"
    if schedule.curve is Curve.COSINE:
        curve = f"along a cosine to {schedule.gamma:g} of it"
    yield f"{solver.method}, {schedule.epochs:g} epochs, the learning rate {curve}, {setup.config.precision}"
    sizes, longest = _sizes(setup.recipe.augmentation, setup.model)
    shown = f"{min(sizes)}" if len(sizes) == 1 else f"{min(sizes)} to {max(sizes)}"
    test = f"{preprocess.min_size}, at most {preprocess.max_size}"
    if jitter := setup.recipe.augmentation.jitter:
        yield f"longer side of the images {shown} pixels, cut to {jitter.size}; in evaluations shorter side {test}"
        return
    yield f"shorter side of the images {shown} pixels, longer at most {longest}; in evaluations {test}"


def _sizes(augmentation: Augmentation, model: Detector) -> tuple[tuple[int, ...], int]:
    if jitter := augmentation.jitter:
        longest = round(jitter.size * jitter.largest)
        return (round(jitter.size * jitter.smallest), longest), longest
    if augmentation.max_size is not None:
        return augmentation.min_sizes, augmentation.max_size
    return (model.spec.preprocess.min_size,), model.spec.preprocess.max_size


def _small_objects(setup: Setup) -> Iterator[str]:
    """Objects that are small even at the largest scale of the recipe; their side is the root of their box's area."""
    anchors = setup.model.rpn.anchors
    smallest, tiny = min(map(min, anchors.sizes)), _CELLS * anchors.strides[0]
    sides, labels = _sides(setup)
    below = sides < smallest
    if not below.any():
        return
    names = setup.data.categories
    counts = np.bincount(labels[below], minlength=len(names))
    most = [f"{names[label]} {counts[label]}" for label in np.argsort(-counts, kind="stable")[:_SHOWN] if counts[label]]
    yield (
        f"{below.sum()} of {len(sides)} objects are smaller than the smallest anchor, {smallest:g} pixels, at the "
        f"largest training scale ({', '.join(most)}), and {(sides < tiny).sum()} are below {tiny:g} pixels: larger "
        "sizes (--min-size, --max-size), or images cut into parts, would show more of them"
    )


def _sides(setup: Setup) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """(T,) sides in network pixels, and labels, of all objects that are no crowds."""
    sizes, longest = _sizes(setup.recipe.augmentation, setup.model)
    largest = setup.model.spec.preprocess.model_copy(update={"min_size": max(sizes), "max_size": longest})
    rule = setup.model.spec.conventions.resize
    sides, labels = [np.zeros(0)], [np.zeros(0, np.int64)]
    for index in np.flatnonzero(setup.data.objects):
        record = setup.data.record(int(index))
        boxes = record.boxes[~record.crowd].astype(np.float64)
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        sides.append(np.sqrt(areas) * image_scale(record.height, record.width, largest, rule))
        labels.append(record.labels[~record.crowd])
    return np.concatenate(sides), np.concatenate(labels)


def _classes(data: CocoDataset, val: CocoDataset) -> Iterator[str]:
    """Classes that only one of the data sets has objects of."""
    learned = dict(zip(data.categories, data.class_counts.tolist(), strict=True))
    scored = dict(zip(val.categories, val.class_counts.tolist(), strict=True))
    yield f"evaluated on {len(val)} images, {sum(scored.values())} objects"
    if unlearned := [f"{name} {number}" for name, number in scored.items() if number and not learned[name]]:
        yield f"in the validation data alone, so that nothing learns to find them: {_listed(unlearned)}"
    if unscored := [name for name, number in learned.items() if number and not scored.get(name)]:
        yield f"in the training data alone, so that no evaluation counts them: {_listed(unscored)}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _tried(setup: Setup, stepper: Stepper, world: World) -> Iterator[str]:
    """The first step of the run, twice on the same images."""
    config, plan = setup.config, setup.plan
    began = perf_counter()
    loader = training_loader(setup.set, config.batch_size, epoch=0, rank=world.rank, world=world.size)
    with closing(loader):
        passes = [next(loader) for _ in range(config.accumulate)]
    reading = perf_counter() - began
    try:
        for step in range(_TRIES):
            report = stepper(step, 0, setup.rate.value * plan.factor(step), passes)
    except Exception as error:
        if is_out_of_memory(error):
            raise too_little_memory(world.device, config.batch_size) from error
        raise
    computing = sum(report.seconds.values())
    # workers read while the device computes
    seconds = max(computing, reading / config.workers) if config.workers else computing + reading
    yield f"a step was tried: loss {sum(report.losses.values()):.4f}, norm of the gradients {report.grad_norm:.4g}"
    if peak := _peak(world.device):
        yield peak
    whole = timedelta(seconds=math.ceil(seconds * plan.total))
    yield (
        f"{setup.batch / seconds:.2f} images a second (a step: {computing:.2f} s of computing, {reading:.2f} s of "
        f"reading by one process): {plan.total} steps take about {whole}, evaluations not counted"
    )


def _peak(device: torch.device) -> str | None:
    """The most memory that was in use, where the system tells."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return f"the step took {_size(torch.cuda.max_memory_allocated(device))} of {device}'s {_size(total)} at most"
    if device.type != "cpu" or sys.platform == "win32":
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    resource = import_module("resource")
    return f"this process took {_size(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)} of memory at most"


def _disk(setup: Setup, stepper: Stepper) -> str:
    """What the run's folder will hold in the end, and one checkpoint more while the oldest is still there."""
    config, weights = setup.config, _bytes(setup.model.state_dict().values())
    moments = [value for state in stepper.optimizer.state.values() for value in state.values()]  # since it was tried
    state = weights * (2 if setup.recipe.ema else 1) + _bytes(value for value in moments if isinstance(value, Tensor))
    needed = state * (config.keep + 1) + weights * (1 if setup.val is None else 2)
    there = next(folder for folder in (config.run_dir, *config.run_dir.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    enough = "" if free > needed else ": too little"
    return (
        f"the run's folder needs {_size(needed)} ({config.keep} checkpoints of {_size(state)}, one more while it is "
        f"written, and the weights); {_size(free)} are free{enough}"
    )


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _size(number: float) -> str:
    """Bytes in a unit of which there are not many."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            break
        number /= 1024
    return f"{number:.1f} {unit}" if unit != "bytes" else f"{number:.0f} bytes"
