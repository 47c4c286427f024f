"""What a run says before its first step: how long it is, at which rate, and what of the network learns."""

from collections.abc import Iterator
from typing import NamedTuple

from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.detector import Detector
from cascadezoo.distributed import World
from cascadezoo.spec.recipe import Solver
from cascadezoo.training.loader import TrainingSet
from cascadezoo.training.schedule import Plan

_SHOWN = 100  # classes in a line


class Rate(NamedTuple):
    """The learning rate of a run.

    Attributes:
        value: for the whole of a step's images.
        words: where it comes from.
    """

    value: float
    words: str


def rate_of(solver: Solver, batch: int, given: float | None) -> Rate:
    """The rate ``given``, else the recipe's in proportion to the ``batch`` images of a step, but never above it: a rate
    that was tried for the recipe's images may be too much for any data when it is multiplied."""
    if given is not None:
        return Rate(given, f"learning rate {given:g}, as given")
    value = solver.lr * min(batch, solver.batch) / solver.batch
    words = f"learning rate {value:g}: {solver.lr:g} for {solver.batch} images per step, here {batch}"
    if batch > solver.batch:
        words += f"; it is not scaled up: --lr {solver.lr * batch / solver.batch:g} would be in proportion"
    return Rate(value, words)


def introduction(
    model: Detector,
    plan: Plan,
    rate: Rate,
    world: World,
    data: CocoDataset,
    done: int,
    batch: int,
    samples: TrainingSet,
) -> Iterator[str]:
    """The lines, each a sentence; ``done`` steps of ``batch`` images of ``samples``."""
    images = len(samples)
    yield (
        f"{done} of {plan.total} steps done" if done else f"{plan.total} steps of {batch} images"
    ) + f", {plan.steps_per_epoch} per epoch, on {world.device}, {world.size} process(es)"
    if batch > images:
        yield (
            f"a step takes {batch} images, and there are {images} to learn from: each comes more than once in a step, "
            f"so take smaller steps (--batch-size, --accumulate) for there to be more of them"
        )
    yield from _objects(data)
    if samples.factors is not None:
        often = int((samples.factors > 1).sum())
        yield (
            f"{often} of {images} images hold rare classes and come more than once in an epoch, "
            f"{samples.factors.max():.3g} times at the most: an epoch has {samples.drawn} images"
        )
    yield rate.words
    if plan.warmup < plan.schedule.warmup_steps:
        yield f"warm-up of {plan.warmup} steps, not {plan.schedule.warmup_steps}: the run is short"
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    if frozen:
        parts = sorted({".".join(name.split(".")[:2]) for name in frozen})
        yield f"{len(frozen)} tensors are frozen: in {', '.join(parts)}"
    else:
        yield "all tensors are trained"


def _objects(data: CocoDataset) -> Iterator[str]:
    counted = sorted(zip(data.class_counts.tolist(), data.categories, strict=True), key=lambda pair: -pair[0])
    there = [f"{name} {number}" for number, name in counted if number]
    more = f" and {len(there) - _SHOWN} more classes" if len(there) > _SHOWN else ""
    yield f"{int(data.class_counts.sum())} objects of {len(there)} classes: {', '.join(there[:_SHOWN])}{more}"
    missing = [name for number, name in counted if not number]
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        yield f"no objects to learn from: {', '.join(missing[:_SHOWN])}{more}; --classes can leave classes out"
