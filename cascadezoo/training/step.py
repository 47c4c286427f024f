"""One optimizer step: losses, gradients, weights, on one process or many."""

import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cascadezoo.detector import Detector
from cascadezoo.distributed import World
from cascadezoo.errors import OutOfMemory, TrainingDiverged
from cascadezoo.losses import objective
from cascadezoo.losses.targets import Targets
from cascadezoo.modeling.preprocess import Batch
from cascadezoo.modeling.resnet import BatchNorm
from cascadezoo.spec.recipe import Recipe
from cascadezoo.training.config import Precision
from cascadezoo.training.loader import Sample
from cascadezoo.training.optim import build_optimizer, set_lr
from cascadezoo.training.seeds import mix

_SCALE = 2.0**16  # of fp16's losses in the beginning, halved with every step that is left out
_AUTOCAST = {Precision.FP16: torch.float16, Precision.BF16: torch.bfloat16}


class Report(NamedTuple):
    """The figures of one step."""

    losses: dict[str, float]  # by name, the mean over passes and processes
    grad_norm: float  # of all gradients before clipping; not finite where fp16 overflowed and the step was left out
    seconds: dict[str, float]  # by part


class Stepper:
    """A model with its optimizer and gradient scaler; each call is one step.

    The result of a step depends on the state before, the samples, the step's number and the seed alone.

    Attributes:
        torn: whether an update is half done; otherwise an error in a step leaves the state as it was before.
    """

    def __init__(
        self, model: Detector, recipe: Recipe, lr: float, precision: Precision, seed: int, world: World
    ) -> None:
        self.model, self.world, self.seed, self.clip = model, world, seed, recipe.clip or math.inf
        self.optimizer = build_optimizer(model, recipe.solver, lr)
        self.dtype = _AUTOCAST.get(precision)
        self.scaler = torch.amp.GradScaler(world.device.type, _SCALE, enabled=precision is Precision.FP16)
        self.torn = False
        network = _Losses(model)
        self.network = network if world.size == 1 else DistributedDataParallel(network)

    def __call__(self, step: int, epoch: int, lr: float, passes: Sequence[list[Sample]]) -> Report:
        """Step number ``step`` at learning rate ``lr``; each of ``passes`` goes through the network by itself, and the
        gradients are those of their mean.

        Raises TrainingDiverged, on every process and with the weights as they were, when a loss or gradient is not
        finite; with fp16, when smaller and smaller scales of the loss have not made the gradients finite.
        """
        statistics = [(buffer, buffer.clone()) for buffer in self._statistics()]
        try:
            return self._step(step, epoch, lr, passes)
        except Exception:
            if not self.torn:
                for buffer, before in statistics:
                    buffer.copy_(before)
            raise

    def require_learned(self, steps: int) -> None:
        """Raise TrainingDiverged where fp16 has left out every one of a run's ``steps``."""
        if self.scaler.is_enabled() and self.scaler.get_scale() == math.ldexp(_SCALE, -steps):
            raise TrainingDiverged(
                f"none of the {steps} steps had finite gradients with fp16, so nothing was learned: train with bf16 or "
                "fp32, lower the learning rate, or look at the annotations"
            )

    def _statistics(self) -> list[Tensor]:
        """What a forward pass changes: the statistics of the norms that learn them."""
        norms = [module for module in self.model.modules() if isinstance(module, BatchNorm) and module.training]
        return [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var)]

    def _step(self, step: int, epoch: int, lr: float, passes: Sequence[list[Sample]]) -> Report:
        clock = _Clock(self.world.device)
        torch.manual_seed(mix(self.seed, step, self.world.rank))
        set_lr(self.optimizer, lr)
        self.optimizer.zero_grad(set_to_none=True)
        total: Tensor | None = None
        for number, samples in enumerate(passes, start=1):
            with self._unsynchronised(number < len(passes)):
                losses = self._losses(epoch, samples)
                values = self._checked(step, losses, samples) / len(passes)
                total = values if total is None else total + values
                clock.lap("forward")
                self.scaler.scale(sum(losses.values(), torch.zeros((), device=values.device)) / len(passes)).backward()
                clock.lap("backward")
        norm = self._update(step, passes)
        clock.lap("optimizer")
        assert total is not None
        return Report(dict(zip(losses, total.tolist(), strict=True)), norm, clock.seconds)

    def _losses(self, epoch: int, samples: list[Sample]) -> dict[str, Tensor]:
        device = self.world.device
        batch = self.model.prepare([sample.image for sample in samples])
        targets = [sample.targets.to(device) for sample in samples]
        generators = [torch.Generator().manual_seed(self._seed_of(epoch, sample)) for sample in samples]
        with torch.autocast(device.type, self.dtype, enabled=self.dtype is not None):
            losses: dict[str, Tensor] = self.network(batch, targets, generators)
        return losses

    def _seed_of(self, epoch: int, sample: Sample) -> int:
        return mix(self.seed, epoch, sample.image_id, *([sample.turn] if sample.turn else []))

    def _checked(self, step: int, losses: dict[str, Tensor], samples: list[Sample]) -> Tensor:
        """The losses' values, the mean over processes; all of them stop when any process has one that is not finite."""
        own = torch.stack([loss.detach().float() for loss in losses.values()])
        values = self.world.mean(own.clone())
        if not values.isfinite().all():
            broken = {name: value for name, value in zip(losses, own.tolist(), strict=True) if not math.isfinite(value)}
            self._diverge(step, [sample.image_id for sample in samples] if broken else [], broken)
        return values

    def _update(self, step: int, passes: Sequence[list[Sample]]) -> float:
        self.scaler.unscale_(self.optimizer)
        learning = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = float(nn.utils.clip_grad_norm_(learning, self.clip))
        if not math.isfinite(norm) and not (self.scaler.is_enabled() and self.scaler.get_scale() >= 1):
            self._diverge(step, [s.image_id for samples in passes for s in samples], {"the gradients' norm": norm})
        self.torn = True
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.torn = False
        return norm

    def _diverge(self, step: int, image_ids: list[int], broken: dict[str, float]) -> None:
        ids, losses = [], {}
        for their_ids, theirs in self.world.all_gather((image_ids, broken)):
            ids += their_ids
            losses.update(theirs)
        named = ", ".join(f"{name} is {value}" for name, value in losses.items())
        raise TrainingDiverged(
            f"step {step + 1}: {named}, on the images with id {', '.join(map(str, ids))}: look at their annotations, "
            "or lower the learning rate; the last checkpoint is as it was"
        )

    def _unsynchronised(self, more: bool) -> AbstractContextManager[None]:
        """Processes exchange gradients once a step, in its last pass."""
        if more and isinstance(self.network, DistributedDataParallel):
            return self.network.no_sync()
        return nullcontext()


def too_little_memory(device: torch.device, batch_size: int) -> OutOfMemory:
    """What to raise where a step on ``batch_size`` images a pass found no room."""
    return OutOfMemory(
        f"{device} has too little memory for {batch_size} images a pass: take a smaller --batch-size with more passes "
        "(--accumulate), or another device"
    )


class _Losses(nn.Module):
    """The objective as a module, whose call DistributedDataParallel can see."""

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, batch: Batch, targets: Sequence[Targets], generators: Sequence[torch.Generator]
    ) -> dict[str, Tensor]:
        return objective.losses(self.model, batch, targets, generators)


class _Clock:
    """Seconds by part; the device's queue is emptied at each lap, so that they say where the time goes."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds, self._last = device, dict.fromkeys(("forward", "backward", "optimizer"), 0.0), 0.0
        self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.seconds[part] += now - self._last
        self._last = now
