"""The learning rate at a step: a pure function of the step's number, so that a resumed run needs nothing else.

Formulas ported from (licences in NOTICE):

- open-mmlab/mmcv 1.5.0, Copyright (c) OpenMMLab, Apache-2.0: ``mmcv/runner/hooks/lr_updater.py``
- facebookresearch/Detectron e8942c8, Copyright (c) 2017-present, Facebook, Inc., Apache-2.0:
  ``detectron/utils/lr_policy.py``
"""

import math
from dataclasses import dataclass

from cascadezoo.spec.recipe import Curve, Schedule


@dataclass(frozen=True)
class Plan:
    """A schedule counted in optimizer steps.  Source: mmcv ``lr_updater.py``, Detectron ``lr_policy.py``."""

    schedule: Schedule
    steps_per_epoch: int

    @property
    def total(self) -> int:
        """Steps from the first to the last, at least one."""
        return max(1, round(self.schedule.epochs * self.steps_per_epoch))

    @property
    def warmup(self) -> int:
        """Steps of warm-up: the schedule's own, but no more than a third of all."""
        return min(self.schedule.warmup_steps, self.total // 3)

    @property
    def milestones(self) -> tuple[int, ...]:
        """The steps from which the learning rate is lower."""
        return tuple(round(m * self.steps_per_epoch) for m in self.schedule.milestones)

    def factor(self, step: int) -> float:
        """What the learning rate is multiplied with at ``step`` (0 the first)."""
        return self._warm(step) * self._curve(step)

    def _warm(self, step: int) -> float:
        if step >= self.warmup:
            return 1.0
        start = self.schedule.warmup_factor
        return start + (1 - start) * step / self.warmup

    def _curve(self, step: int) -> float:
        gamma = self.schedule.gamma
        if self.schedule.curve is Curve.STEPS:
            return gamma ** sum(step >= milestone for milestone in self.milestones)
        done = max(0, step - self.warmup) / (self.total - self.warmup)  # a third is warm-up at most
        return gamma + (1 - gamma) * (1 + math.cos(math.pi * done)) / 2
