"""One step of training, losses, gradients and new weights, of the same network on the same images."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch

import cascadezoo
from cascadezoo.benchmarks.measure.peers import mmdetection
from cascadezoo.benchmarks.measure.peers.contender import CPU, Contender, Setting, made
from cascadezoo.benchmarks.measure.peers.ours import loaded
from cascadezoo.benchmarks.verify.timing import Clock, spread, timed
from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.distributed import World
from cascadezoo.spec.recipe import Augmentation, Recipe
from cascadezoo.training.config import Precision, recipe_of
from cascadezoo.training.loader import TrainingSet
from cascadezoo.training.step import Stepper

PARTS = ("forward", "backward", "optimizer")
LARGEST = 0.05  # relative difference of the first step's losses: each program draws its own samples
Step: TypeAlias = Callable[[], Clock]  # seconds of each part, and ``loss``, the sum of all losses


class Lesson(NamedTuple):
    """What is learned: the first ``batch_size`` images of a data set, neither mirrored nor cropped.

    Attributes:
        annotations: in COCO's format.
        images: the folder of the images.
        batch_size: images of a step.
    """

    annotations: Path
    images: Path
    batch_size: int


def contenders(lesson: Lesson) -> dict[str, Contender[Step]]:
    """Who learns it."""
    return {
        "plain": Contender(partial(ours, lesson)),
        "mmdetection": Contender(partial(mmdetections, lesson), mmdetection.MODULES, ("mmdet",)),
    }


def ours(lesson: Lesson, setting: Setting) -> Step:
    """Our own step, samples prepared."""
    model, recipe = loaded(setting).train(), _recipe(setting)
    data = CocoDataset(lesson.annotations, lesson.images)
    known = TrainingSet(data, model.spec, Augmentation(flip=0), seed=0)
    samples = [known.sample(0, index) for index in range(lesson.batch_size)]
    stepper = Stepper(model, recipe, _rate(recipe), Precision.FP32, 0, World(0, 1, CPU))

    def step() -> Clock:
        report = stepper(0, 0, _rate(recipe), [samples])
        return {**report.seconds, "loss": sum(report.losses.values())}

    return step


def mmdetections(lesson: Lesson, setting: Setting) -> Step:
    """mmdetection's step, images and objects read and resized by its own pipeline."""
    from mmdet.registry import DATASETS

    model, recipe = mmdetection.load(setting).train(), _recipe(setting)
    config = model.cfg.train_dataloader.dataset
    steps = [step for step in config.pipeline if step.type != "RandomFlip"]
    config.data_root, config.ann_file = "", str(lesson.annotations)
    config.data_prefix, config.pipeline = {"img": f"{lesson.images}/"}, steps
    data = DATASETS.build(config)
    packed = [data[index] for index in range(lesson.batch_size)]
    batch = {name: [each[name] for each in packed] for name in packed[0]}
    solver = recipe.solver
    optimizer = torch.optim.SGD(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=_rate(recipe), momentum=solver.momentum, weight_decay=solver.weight_decay,
    )  # fmt: skip

    def step() -> Clock:
        clock: Clock = {}
        optimizer.zero_grad()
        with timed(clock, "forward", CPU):
            losses = model(**model.data_preprocessor(batch, True), mode="loss")
            loss, _ = model.parse_losses(losses)
        with timed(clock, "backward", CPU):
            loss.backward()
        with timed(clock, "optimizer", CPU):
            optimizer.step()
        return {**clock, "loss": loss.item()}

    return step


def _recipe(setting: Setting) -> Recipe:
    return recipe_of(cascadezoo.info(setting.entry), None)


def _rate(recipe: Recipe) -> float:
    return recipe.solver.lr * 1e-3  # as in a warm-up: nothing diverges


def measure(learners: dict[str, Contender[Step]], setting: Setting, steps: int) -> dict[str, Any]:
    """Seconds of ``steps`` steps of each learner by part, all in turn, after one that warms up.

    A row also says the losses of its first step, and whether they are those of ``plain`` except for chance.
    """
    ready, versions, missing = made(learners, setting)
    clocks = [{name: step() for name, step in ready.items()} for _ in range(steps + 1)]
    first, counted = clocks[0], clocks[1:]
    seconds = {name: [sum(clock[name][part] for part in PARTS) for clock in counted] for name in ready}
    rows = [
        {
            "way": name,
            "versions": versions[name],
            "seconds": {part: spread([clock[name][part] for clock in counted], 4) for part in PARTS},
            "step_seconds": spread(taken, 4),
            "plain_is_times_faster": spread([b / a for a, b in zip(seconds["plain"], taken, strict=True)]),
            "loss": round(first[name]["loss"], 4),
            "agrees": abs(first[name]["loss"] / first["plain"]["loss"] - 1) <= LARGEST,
        }
        for name, taken in seconds.items()
    ]
    return {"steps": steps, "rows": rows, "missing": missing}
