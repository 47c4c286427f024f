"""The training loop: data, steps, checkpoints, evaluations, and in the end a file that ``load`` reads.

What a run computes depends on its options, its data and the number of processes alone: stopped anywhere and resumed, it
goes on as if nothing had happened.
"""

import hashlib
import logging
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from pathlib import Path

import torch

from cascadezoo import registry
from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.detecting import is_out_of_memory
from cascadezoo.detector import Detector
from cascadezoo.distributed import World, join
from cascadezoo.environment import environment
from cascadezoo.errors import CascadezooError, FileError, MissingResource, OutOfMemory, TrainingDiverged, UsageError
from cascadezoo.files import remove_abandoned
from cascadezoo.manifest import ZooEntry
from cascadezoo.spec.origin import Origin
from cascadezoo.spec.recipe import Recipe
from cascadezoo.training import checkpoint
from cascadezoo.training.batch_size import with_fitting
from cascadezoo.training.classes import ChosenClasses
from cascadezoo.training.config import TrainingConfig, recipe_of
from cascadezoo.training.ema import Ema
from cascadezoo.training.evaluation import evaluate
from cascadezoo.training.hook import Augment, name_of, require_portable
from cascadezoo.training.interrupt import Interrupt, Stop
from cascadezoo.training.introduction import introduction, rate_of
from cascadezoo.training.journal import Journal
from cascadezoo.training.loader import Sample, TrainingSet, training_loader
from cascadezoo.training.lock import locked
from cascadezoo.training.network import entry_network, freeze, set_drop_path, set_training
from cascadezoo.training.preconditions import require_free
from cascadezoo.training.result import write_result
from cascadezoo.training.schedule import Plan
from cascadezoo.training.step import Stepper

_BEST, _FINAL = "best.safetensors", "final.safetensors"


def train(
    config: TrainingConfig,
    *,
    model: Detector | None = None,
    recipe: Recipe | None = None,
    augment: Augment | None = None,
    resume: bool = False,
    extend: bool = False,
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
        augment: changes each training image and its objects before the recipe does: a callable, albumentations'
            ``Compose`` or a transform of ``torchvision.transforms.v2``, as ``cascadezoo.training.hook.Augment`` says.
        resume: go on from the last checkpoint, with the options that the run began with.
        extend: go on, under another schedule than the run began with, of as many epochs as it has done or more.

    Returns:
        The final weights, which ``load(entry, weights=...)`` reads.

    Raises:
        TrainingDiverged: a loss or a gradient was not finite; the last checkpoint is as it was.
        RunInUse: another process trains in the folder.
        OutputExists: the folder holds a run already, and ``resume`` was not asked for.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, with a checkpoint of the step reached.
        UsageError, MissingResource, FileError: options, data or weights that do not fit.
    """
    config.require_agreement(model=model is not None, recipe=recipe is not None)
    config = config.with_begun_batch_size() if resume or extend else config
    config = config.with_augment(None if augment is None else name_of(augment))
    if augment is not None:
        require_portable(augment, config.workers)
    with join(config.device) as world:
        if not world.is_first:
            logging.getLogger("cascadezoo").setLevel(logging.ERROR)  # the first process logs for all
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
        with Interrupt() as interrupt:
            return _Run(config, model, recipe, data, world, interrupt, augment).go(resume or extend, extend)


def _required(entry: ZooEntry | None) -> ZooEntry:
    if entry is None:
        raise UsageError("name an entry, or give a model and a recipe of your own")
    return entry


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
        augment: Augment | None,
    ) -> None:
        self.recipe, self.data, self.world, self.interrupt = recipe, data, world, interrupt
        self.val = _validation(config, data, masks=model.spec.mask is not None)
        model.categories = data.categories
        if recipe.drop_path is not None:
            set_drop_path(model, recipe.drop_path)
        freeze(model, config.freeze)
        self.model = model.to(world.device)
        set_training(self.model)
        self.origin = model.origin
        self.set = TrainingSet(
            data, model.spec, recipe.augmentation, config.seed, keep_empty=config.keep_empty,
            repeat=config.repeat_factor, own=augment,
        )  # fmt: skip
        self.config, self.found = with_fitting(config, self.model, recipe, self.set, world)
        config = self.config
        self.batch = config.batch_size * config.accumulate * world.size
        self.rate = rate_of(recipe.solver, self.batch, config.lr)
        passes = math.ceil(self.set.drawn / (config.batch_size * world.size))
        if passes < config.accumulate:
            raise UsageError(
                f"accumulate {config.accumulate}: an epoch of {self.set.drawn} images has fewer passes, {passes}"
            )
        self.plan = Plan(recipe.schedule, passes // config.accumulate)
        self.stepper = Stepper(self.model, recipe, self.rate.value, config.precision, config.seed, world)
        self.ema = Ema(self.model, recipe.ema) if recipe.ema else None
        self.step = 0
        self.journal: Journal | None = None

    def go(self, resume: bool, extend: bool) -> Path:
        """Train from the current step to the end; returns the final weights."""
        folder = self.config.run_dir
        with ExitStack() as held:
            if self.world.is_first:
                require_free(folder, resume=resume)
                folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(folder))
                remove_abandoned(folder)
                self.journal = Journal(folder, self.plan.total, self.batch, self.config.log_every)
            self.world.wait()
            if resume:
                self._resume(extend)
            if self.world.is_first:
                self.config.write()
            held.enter_context(self.journal or nullcontext())
            self._announce()
            self._evaluate_if_due()
            while self.step < self.plan.total:
                self._epoch(self.step // self.plan.steps_per_epoch)
                self._evaluate_if_due()
            self.stepper.require_learned(self.plan.total)
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
            waiting=self._stop_if_asked,
        )
        with closing(loader):  # its worker processes end, whatever happens here
            while self.step < last:
                with self._kept():
                    passes, waited = self._fetch(loader)
                    self._step(epoch, passes, waited)
                if self.step == self.plan.total or self.step % self.config.save_every == 0 or self._is_evaluated():
                    self._save()

    def _fetch(self, loader: Iterator[list[Sample]]) -> tuple[list[list[Sample]], float]:
        """The images of the next step, and the seconds it took to have them.

        Where a process cannot have them or was asked to stop, all of them stop, before any begins the step.
        """
        began = time.perf_counter()
        passes: list[list[Sample]] = []
        problem: Exception | None = None
        try:
            self._stop_if_asked()
            passes = [next(loader) for _ in range(self.config.accumulate)]
            self._stop_if_asked()
        except Exception as error:
            problem = error
        waited = time.perf_counter() - began
        stopped = torch.tensor(float(problem is not None), device=self.world.device)
        if self.world.mean(stopped) > 0:
            told = problem if isinstance(problem, CascadezooError | Stop) else None
            theirs = [each for each in self.world.all_gather(told) if each is not None]
            raise problem or next(iter(theirs), Stop())
        return passes, waited

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """A step, after an error in which the state before it is saved; but for a run that diverged, whose earlier
        states may be worth more."""
        try:
            yield
        except TrainingDiverged:
            raise
        except Exception as error:
            if not self.stepper.torn and self.step:
                self._save()
            if isinstance(error, Stop):
                raise KeyboardInterrupt from error
            if self.journal:
                kept = "nothing is" if self.stepper.torn else "what it learned is"
                self.journal.note(self.step, f"stopped after step {self.step} of {self.plan.total}; {kept} kept")
            if isinstance(error, RuntimeError) and is_out_of_memory(error):
                raise OutOfMemory(
                    f"{self.world.device} has too little memory for {self.config.batch_size} images a pass: take a "
                    "smaller --batch-size with more passes (--accumulate), or another device"
                ) from error
            raise

    def _step(self, epoch: int, passes: list[list[Sample]], waited: float) -> None:
        lr = self.rate.value * self.plan.factor(self.step)
        report = self.stepper(self.step, epoch, lr, passes)
        if self.ema:
            self.ema.update(self.model, self.step)
        self.step += 1
        if self.journal:
            seconds = {"data": waited, **report.seconds}
            self.journal.step(self.step, self._epochs, lr, report.losses, report.grad_norm, seconds)

    def _stop_if_asked(self) -> None:
        if self.interrupt.asked:
            raise Stop

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
        """Called after images of an evaluation and in waits for them.  The state was saved before: it may stop here."""
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

    def _resume(self, extend: bool) -> None:
        folder = self.config.run_dir
        with suppress(MissingResource):  # stopped before it had begun
            self.config.require_continues(TrainingConfig.read(folder), extend=extend)
        state = checkpoint.latest(folder, self._identity(), extend=extend)
        if state is not None:
            if state.step > self.plan.total:
                raise UsageError(
                    f"{folder} has done {state.step / self.plan.steps_per_epoch:g} epochs, more than the "
                    f"{self.recipe.schedule.epochs:g} that it is to go on to: give more"
                )
            self.origin = Origin.model_validate(state.origin)
            self.model.load_state_dict(state.model)
            self.stepper.optimizer.load_state_dict(dict(state.optimizer))
            self.stepper.scaler.load_state_dict(dict(state.scaler))
            if self.ema and state.ema is not None:
                self.ema.load(state.ema)
            self.step = state.step
            if extend:
                self._save()  # what it goes on under from here
        if self.journal:
            self.journal.resume(self.step)

    def _identity(self) -> dict[str, str]:
        config, schedule = self.config, self.recipe.schedule
        return {
            "network": _digest(self.model.spec.model_dump_json()),
            "recipe": _digest(self.recipe.model_dump_json(exclude={"schedule"})),
            checkpoint.SCHEDULE: f"{schedule.epochs:g} epochs ({_digest(schedule.model_dump_json())})",
            "data": f"{self.data.digest[:12]}, {self.set.drawn} images",
            "learning rate": f"{self.rate.value:g}",
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
        lines = introduction(self.model, self.plan, self.rate, self.world, self.data, self.step, self.batch, self.set)
        for line in (*self.found, *lines):
            self.journal.note(self.step, line)

    def _write_weights(self, path: Path) -> None:
        if self.world.is_first:
            tensors = self.ema.average if self.ema else self.model.state_dict()
            write_result(path, tensors, self.model.spec, self.origin, self.config, self.recipe, self.data, self.step)


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


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _score(figures: dict[str, dict[str, float | None]]) -> float:
    score = figures["bbox"]["AP"]
    return -1.0 if score is None or math.isnan(score) else score
