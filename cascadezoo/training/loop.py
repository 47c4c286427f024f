"""The training loop: data, steps, checkpoints, evaluations, and in the end a file that ``load`` reads.

What a run computes depends on its options, its data and the number of processes alone: stopped anywhere and resumed, it
goes on as if nothing had happened.
"""

import hashlib
import logging
import math
import time
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path

import torch
from torchvision.ops import StochasticDepth

from cascadezoo import registry
from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.detector import Detector
from cascadezoo.distributed import World, join
from cascadezoo.environment import environment
from cascadezoo.errors import FileError, UsageError
from cascadezoo.loading import build, load
from cascadezoo.manifest import ZooEntry
from cascadezoo.spec.model import InternImageSpec, ModelSpec, Norm, NormLearning, ResNetSpec
from cascadezoo.spec.origin import Origin
from cascadezoo.spec.recipe import Recipe
from cascadezoo.training import checkpoint
from cascadezoo.training.config import TrainingConfig, recipe_of
from cascadezoo.training.ema import Ema
from cascadezoo.training.evaluation import evaluate
from cascadezoo.training.interrupt import Interrupt
from cascadezoo.training.journal import Journal
from cascadezoo.training.loader import Sample, TrainingSet, training_loader
from cascadezoo.training.preconditions import require_free
from cascadezoo.training.result import write_result
from cascadezoo.training.schedule import Plan
from cascadezoo.training.step import Stepper

_BEST, _FINAL = "best.safetensors", "final.safetensors"


def train(
    config: TrainingConfig, *, model: Detector | None = None, recipe: Recipe | None = None, resume: bool = False
) -> Path:
    """Train, from the first step or with ``resume`` from the last checkpoint in the run's folder.

    Writes there: ``config.json``, ``log.jsonl``, ``curves.png``, the last checkpoints, ``best.safetensors`` (highest
    box AP of all evaluations) and ``final.safetensors``.  Under ``torchrun``, every process calls this.

    Args:
        config: the options; ``entry`` names the network and its recipe.
        model: instead of the entry's network, for instance one of ``build`` or ``load``; the options that choose or
            change the network (``pretrained``, ``weights``, ``num_classes``, ``min_size``, ``max_size``) contradict it.
        recipe: instead of the entry's; the options that choose or change the recipe (``schedule``, ``ema``,
            ``clip_grad``) contradict it.  With both, so does ``entry``.

    Returns:
        The final weights, which ``load(entry, weights=...)`` reads.

    Raises:
        TrainingDiverged: a loss or a gradient was not finite; the last checkpoint is as it was.
        OutputExists: the folder holds a run already, and ``resume`` was not asked for.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, with a checkpoint of the step reached.
        UsageError, MissingResource, FileError: options, data or weights that do not fit.
    """
    config.require_agreement(model=model is not None, recipe=recipe is not None)
    with join(config.device) as world:
        if not world.is_first:
            logging.getLogger("cascadezoo").setLevel(logging.ERROR)  # the first process logs for all
        torch.manual_seed(config.seed)
        data = CocoDataset(config.train_json, config.train_images)
        entry = None if config.entry is None else registry.info(config.entry)
        if model is None:
            model = _model(config, entry, data)
        if recipe is None:
            published = registry.spec_of(_required(entry)).preprocess
            recipe = config.adjust(recipe_of(_required(entry), config.schedule), published, model.spec.preprocess)
        with Interrupt() as interrupt:
            return _Run(config, model, recipe, data, world, interrupt).go(resume)


def _required(entry: ZooEntry | None) -> ZooEntry:
    if entry is None:
        raise UsageError("name an entry, or give a model and a recipe of your own")
    return entry


def _model(config: TrainingConfig, entry: ZooEntry | None, data: CocoDataset) -> Detector:
    classes = len(data.categories)
    if config.num_classes not in (None, classes):
        raise UsageError(
            f"num_classes {config.num_classes}: {data.annotations} has {classes} categories, so leave it out"
        )
    model = load(
        _required(entry).name,
        pretrained=config.pretrained,
        weights=config.weights,
        num_classes=classes,
        min_size=config.min_size,
        max_size=config.max_size,
    )
    if config.pretrained or config.weights is not None:
        return model
    spec = _all_learning(model.spec)
    if spec == model.spec:
        return model
    free = build(spec)
    free.origin = model.origin
    return free


def _all_learning(spec: ModelSpec) -> ModelSpec:
    """The spec for training from scratch: nothing is frozen, and batch norms learn their statistics."""
    if not isinstance(spec.backbone, ResNetSpec):
        return spec
    learned = NormLearning.AFFINE if spec.backbone.norm is Norm.AFFINE else NormLearning.STATISTICS
    free = {"frozen_stages": -1, "norm_learning": learned}
    return spec.model_copy(update={"backbone": spec.backbone.model_copy(update=free)})


class _Run:
    """One run of one process."""

    def __init__(
        self,
        config: TrainingConfig,
        model: Detector,
        recipe: Recipe,
        data: CocoDataset,
        world: World,
        interrupt: Interrupt,
    ) -> None:
        self.config, self.recipe, self.data, self.world, self.interrupt = config, recipe, data, world, interrupt
        self.val = _validation(config, data, masks=model.spec.mask is not None)
        model.categories = data.categories
        if recipe.drop_path is not None:
            _set_drop_path(model, recipe.drop_path)
        self.model = model.to(world.device).train()
        self.origin = model.origin
        self.batch = config.batch_size * config.accumulate * world.size
        self.lr = config.lr or recipe.solver.lr * self.batch / recipe.solver.batch
        self.set = TrainingSet(data, model.spec, recipe.augmentation, config.seed, keep_empty=config.keep_empty)
        passes = math.ceil(len(self.set) / (config.batch_size * world.size))
        if passes < config.accumulate:
            raise UsageError(
                f"accumulate {config.accumulate}: an epoch of {len(self.set)} images has fewer passes, {passes}"
            )
        self.plan = Plan(recipe.schedule, passes // config.accumulate)
        self.stepper = Stepper(self.model, recipe, self.lr, config.precision, config.seed, world)
        self.ema = Ema(self.model, recipe.ema) if recipe.ema else None
        self.step = 0
        self.journal: Journal | None = None

    def go(self, resume: bool) -> Path:
        """Train from the current step to the end; returns the final weights."""
        folder = self.config.run_dir
        if self.world.is_first:
            require_free(folder, resume=resume)
            folder.mkdir(parents=True, exist_ok=True)
            self.journal = Journal(folder, self.plan.total, self.batch, self.config.log_every)
        self.world.wait()
        if resume:
            self._resume()
        if self.world.is_first:
            self.config.write()
        with self.journal or nullcontext():
            self._announce()
            self._evaluate_if_due()
            while self.step < self.plan.total:
                self._epoch(self.step // self.plan.steps_per_epoch)
                self._evaluate_if_due()
            final = folder / _FINAL
            self._write_weights(final)
            if self.journal:
                self.journal.end(self.step, final)
        self.world.wait()
        return final

    def _epoch(self, epoch: int) -> None:
        """Train from the current step to the last of the epoch, or of the run."""
        done = self.step - epoch * self.plan.steps_per_epoch
        last = min((epoch + 1) * self.plan.steps_per_epoch, self.plan.total)
        loader = training_loader(
            self.set,
            self.config.batch_size,
            epoch=epoch,
            rank=self.world.rank,
            world=self.world.size,
            skip=done * self.config.accumulate,
            workers=self.config.workers,
        )
        with closing(loader):  # its worker processes end, whatever happens here
            while self.step < last:
                self._step(epoch, loader)
                stop = self._stop()
                if (
                    stop
                    or self.step == self.plan.total
                    or self.step % self.config.save_every == 0
                    or self._is_evaluated()
                ):
                    self._save()
                if stop:
                    raise KeyboardInterrupt

    def _step(self, epoch: int, loader: Iterator[list[Sample]]) -> None:
        began = time.perf_counter()
        passes = [next(loader) for _ in range(self.config.accumulate)]
        waited = time.perf_counter() - began
        lr = self.lr * self.plan.factor(self.step)
        report = self.stepper(self.step, epoch, lr, passes)
        if self.ema:
            self.ema.update(self.model, self.step)
        self.step += 1
        if self.journal:
            seconds = {"data": waited, **report.seconds}
            self.journal.step(self.step, self._epochs, lr, report.losses, report.grad_norm, seconds)

    def _stop(self) -> bool:
        """Whether any process was asked to stop."""
        asked = torch.tensor(float(self.interrupt.asked), device=self.world.device)
        return bool(self.world.mean(asked) > 0)

    @property
    def _epochs(self) -> float:
        return self.step / self.plan.steps_per_epoch

    def _is_evaluated(self) -> bool:
        """Whether the weights of this step are to be evaluated."""
        epoch, rest = divmod(self.step, self.plan.steps_per_epoch)
        regular = rest == 0 and epoch > 0 and epoch % self.config.eval_every == 0
        return self.val is not None and (regular or self.step == self.plan.total)

    def _evaluate_if_due(self) -> None:
        """Evaluate, unless the first process's journal says that this was done before the run was stopped."""
        done = {record["step"] for record in self.journal.evaluations()} if self.journal else set()
        if self.val is None or not self._is_evaluated() or self.world.broadcast(self.step in done):
            return
        began = time.perf_counter()
        with self.ema.applied(self.model) if self.ema else nullcontext():
            figures = evaluate(
                self.model,
                self.val,
                self.world,
                self._seen,
                batch_size=self.config.batch_size,
                workers=self.config.workers,
            )
        if self.journal:
            best = max((_score(record["figures"]) for record in self.journal.evaluations()), default=-1.0)
            if _score(figures) > best:
                self._write_weights(self.config.run_dir / _BEST)
            self.journal.evaluation(self.step, self._epochs, figures, time.perf_counter() - began)

    def _seen(self, done: int) -> None:
        """Called after each image of an evaluation.  The state was saved before it, so that the run may stop here."""
        if self.interrupt.asked:
            raise KeyboardInterrupt
        if self.journal and self.val:
            self.journal.evaluating(min(done * self.world.size, len(self.val)), len(self.val))

    def _save(self) -> None:
        if not self.world.is_first:
            return
        state = checkpoint.State(
            step=self.step,
            identity=self._identity(),
            origin=self.origin.model_dump(),
            model=self.model.state_dict(),
            optimizer=self.stepper.optimizer.state_dict(),
            scaler=self.stepper.scaler.state_dict(),
            ema=self.ema.average if self.ema else None,
        )
        checkpoint.save(self.config.run_dir, state, self.config.keep)

    def _resume(self) -> None:
        state = checkpoint.latest(self.config.run_dir, self._identity())
        if state is not None:
            self.origin = Origin.model_validate(state.origin)
            self.model.load_state_dict(state.model)
            self.stepper.optimizer.load_state_dict(dict(state.optimizer))
            self.stepper.scaler.load_state_dict(dict(state.scaler))
            if self.ema and state.ema is not None:
                self.ema.load(state.ema)
            self.step = state.step
        if self.journal:
            self.journal.resume(self.step)

    def _identity(self) -> dict[str, str]:
        config = self.config
        return {
            "network": _digest(self.model.spec.model_dump_json()),
            "recipe": _digest(self.recipe.model_dump_json()),
            "data": f"{self.data.digest[:12]}, {len(self.set)} images",
            "learning rate": f"{self.lr:g}",
            "batch size": str(config.batch_size),
            "passes a step": str(config.accumulate),
            "processes": str(self.world.size),
            "precision": str(config.precision),
            "seed": str(config.seed),
        }

    def _announce(self) -> None:
        if self.journal is None:
            return
        self.journal.begin(
            self.step,
            environment=environment(),
            options=self.config.model_dump(mode="json"),
            recipe=self.recipe.model_dump(mode="json"),
            processes=self.world.size,
            device=str(self.world.device),
            steps=self.plan.total,
        )
        for line in self._introduction():
            self.journal.note(self.step, line)

    def _introduction(self) -> Iterator[str]:
        solver, plan = self.recipe.solver, self.plan
        yield (
            f"{self.step} of {plan.total} steps done" if self.step else f"{plan.total} steps of {self.batch} images"
        ) + f", {plan.steps_per_epoch} per epoch, on {self.world.device}, {self.world.size} process(es)"
        if self.config.lr is None:
            yield f"learning rate {self.lr:g}: {solver.lr:g} for {solver.batch} images per step, here {self.batch}"
        else:
            yield f"learning rate {self.lr:g}, as given"
        if plan.warmup < plan.schedule.warmup_steps:
            yield f"warm-up of {plan.warmup} steps, not {plan.schedule.warmup_steps}: the run is short"
        frozen = [name for name, p in self.model.named_parameters() if not p.requires_grad]
        if frozen:
            parts = sorted({".".join(name.split(".")[:2]) for name in frozen})
            yield f"{len(frozen)} tensors are frozen: in {', '.join(parts)}"
        else:
            yield "all tensors are trained"

    def _write_weights(self, path: Path) -> None:
        if self.world.is_first:
            tensors = self.ema.average if self.ema else self.model.state_dict()
            write_result(path, tensors, self.model.spec, self.origin, self.config, self.recipe, self.data, self.step)


def _validation(config: TrainingConfig, data: CocoDataset, *, masks: bool) -> CocoDataset | None:
    if config.val_json is None:
        return None
    val = CocoDataset(config.val_json, config.val_images or config.train_images)
    if strangers := val.categories.not_in(data.categories):
        raise FileError(
            f"{val.annotations} has other categories than {data.annotations}, such as {strangers[0]!r}: give two parts "
            "of one data set, whose categories have the same ids"
        )
    if masks:
        val.require_mask_truth()
    return val


def _set_drop_path(model: Detector, rate: float) -> None:
    backbone = model.spec.backbone
    if isinstance(backbone, InternImageSpec) and backbone.drop_path:
        for module in model.modules():
            if isinstance(module, StochasticDepth):
                module.p *= rate / backbone.drop_path


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _score(figures: dict[str, dict[str, float | None]]) -> float:
    score = figures["bbox"]["AP"]
    return -1.0 if score is None or math.isnan(score) else score
