"""The training loop: data, steps, checkpoints, evaluations, and in the end a file that ``load`` reads.

What a run computes depends on its options, its data and the number of processes alone: stopped anywhere and resumed, it
goes on as if nothing had happened.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from pathlib import Path

import torch

from cascadezoo.detecting import is_out_of_memory
from cascadezoo.detector import Detector
from cascadezoo.distributed import World, join
from cascadezoo.environment import environment
from cascadezoo.errors import CascadezooError, MissingResource, TrainingDiverged, UsageError
from cascadezoo.files import remove_abandoned
from cascadezoo.hub.progress import steps
from cascadezoo.spec.origin import Origin
from cascadezoo.spec.recipe import Recipe
from cascadezoo.training import checkpoint
from cascadezoo.training.config import TrainingConfig
from cascadezoo.training.ema import Ema
from cascadezoo.training.hook import Augment
from cascadezoo.training.interrupt import Interrupt, Stop
from cascadezoo.training.introduction import introduction
from cascadezoo.training.journal import Journal
from cascadezoo.training.loader import Sample, training_loader
from cascadezoo.training.lock import locked
from cascadezoo.training.preconditions import require_free, require_writers
from cascadezoo.training.result import write_result
from cascadezoo.training.setup import Setup, set_up
from cascadezoo.training.step import Stepper, too_little_memory
from cascadezoo.training.validation import Validation
from cascadezoo.training.writers import writers_of

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

    Writes there: ``config.json``, ``log.jsonl``, ``curves.png``, the last checkpoints, ``final.safetensors`` and, where
    it is evaluated, ``classes.png``, ``confusion.png`` and ``best.safetensors`` (the best of all evaluations by
    ``best_by``).  Under ``torchrun``, every process calls this.

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
    require_writers(config)
    config = config.with_begun_batch_size() if resume or extend else config
    with join(config.device) as world:
        if not world.is_first:
            logging.getLogger("cascadezoo").setLevel(logging.ERROR)  # the first process logs for all
        with steps("reading the data and loading the weights") if world.is_first else nullcontext():
            setup = set_up(config, world, model, recipe, augment)
        with Interrupt() as interrupt:
            return _Run(setup, world, interrupt).go(resume or extend, extend)


class _Run:
    """One run of one process."""

    def __init__(self, setup: Setup, world: World, interrupt: Interrupt) -> None:
        config, recipe = setup.config, setup.recipe
        self.setup, self.world, self.interrupt = setup, world, interrupt
        self.config, self.recipe, self.data, self.set = config, recipe, setup.data, setup.set
        self.model, self.plan, self.rate, self.batch = setup.model, setup.plan, setup.rate, setup.batch
        self.origin = self.model.origin
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
                self.journal = Journal(
                    folder, self.plan.total, self.batch, self.config.log_every, writers_of(self.config)
                )
            self.world.wait()
            if resume:
                self._resume(extend)
            if self.world.is_first:
                self.config.write()
            held.enter_context(self.journal or nullcontext())
            self._announce()
            validation = Validation(self.setup, self.world, self.interrupt, self.journal)
            self._evaluate_if_due(validation)
            while self.step < self.plan.total and not validation.is_over(self.step):
                self._epoch(self.step // self.plan.steps_per_epoch, validation.is_due)
                self._evaluate_if_due(validation)
            self.stepper.require_learned(self.step)
            final = folder / _FINAL
            self._write_weights(final)
            if self.journal:
                self.journal.end(self.step, final)
        self.world.wait()
        return final

    def _epoch(self, epoch: int, is_evaluated: Callable[[int], bool]) -> None:
        """Train from the current step to the last of the epoch, or of the run; the state is saved after those that
        are evaluated, among others."""
        before = self.step - epoch * self.plan.steps_per_epoch
        last = min((epoch + 1) * self.plan.steps_per_epoch, self.plan.total)
        loader = training_loader(
            self.set,
            self.config.batch_size,
            epoch=epoch,
            rank=self.world.rank,
            world=self.world.size,
            skip=before * self.config.accumulate,
            workers=self.config.workers,
            waiting=self._stop_if_asked,
        )
        with closing(loader):  # its worker processes end, whatever happens here
            while self.step < last:
                with self._kept():
                    passes, waited = self._fetch(loader)
                    self._step(epoch, passes, waited)
                done = self.step == self.plan.total
                if done or self.step % self.config.save_every == 0 or is_evaluated(self.step):
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
        """A step, after an error in which the state before it is saved; except for a run that diverged, whose earlier
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
            if is_out_of_memory(error):
                raise too_little_memory(self.world.device, self.config.batch_size) from error
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

    def _evaluate_if_due(self, validation: Validation) -> None:
        """Evaluate, unless this was done before the run was stopped."""
        if not validation.is_due(self.step) or validation.is_done(self.step):
            return
        with self.ema.applied(self.model) if self.ema else nullcontext():
            validation.run(self.step, lambda: self._write_weights(self.config.run_dir / _BEST))

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
        for line in (*self.setup.found, *lines):
            self.journal.note(self.step, line)

    def _write_weights(self, path: Path) -> None:
        if self.world.is_first:
            tensors = self.ema.average if self.ema else self.model.state_dict()
            write_result(path, tensors, self.model.spec, self.origin, self.config, self.recipe, self.data, self.step)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
