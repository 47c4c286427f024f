"""The evaluations of a run: when they are due, what they find, and which weights are the best so far."""

import math
import time
from collections.abc import Callable

from cascadezoo.distributed import World
from cascadezoo.training.evaluation import evaluate
from cascadezoo.training.interrupt import Interrupt
from cascadezoo.training.journal import Journal
from cascadezoo.training.setup import Setup


class Validation:
    """What is known of earlier evaluations is what the first process's journal says: a resumed run goes on from it."""

    def __init__(self, setup: Setup, world: World, interrupt: Interrupt, journal: Journal | None) -> None:
        self.setup, self.world, self.interrupt, self.journal = setup, world, interrupt, journal

    def is_due(self, step: int) -> bool:
        """Whether the weights after ``step`` are to be evaluated."""
        plan = self.setup.plan
        epoch, rest = divmod(step, plan.steps_per_epoch)
        regular = rest == 0 and epoch > 0 and epoch % self.setup.config.eval_every == 0
        return self.setup.val is not None and (regular or step == plan.total)

    def is_done(self, step: int) -> bool:
        """Whether they were, before the run was stopped.  All processes must call it."""
        done = {record["step"] for record in self.journal.evaluations()} if self.journal else set()
        return self.world.broadcast(step in done)

    def run(self, step: int, keep_best: Callable[[], None]) -> None:
        """Evaluate the model as it is after ``step``; ``keep_best`` writes its weights where they are the best so far.

        All processes must call it.  Raises KeyboardInterrupt where the run is to stop.
        """
        setup = self.setup
        assert setup.val is not None  # or it were not due
        began = time.perf_counter()
        figures = evaluate(
            setup.model,
            setup.val,
            self.world,
            self._seen,
            batch_size=setup.config.batch_size,
            workers=setup.config.workers,
        )
        if self.journal:
            best = max((_score(record["figures"]) for record in self.journal.evaluations()), default=-1.0)
            if _score(figures) > best:
                keep_best()
            epoch = step / setup.plan.steps_per_epoch
            self.journal.evaluation(step, epoch, figures, time.perf_counter() - began)

    def _seen(self, done: int) -> None:
        """Called after images of an evaluation and in waits for them.  The state was saved before: it may stop here."""
        if self.interrupt.asked:
            raise KeyboardInterrupt
        if self.journal and self.setup.val:
            self.journal.evaluating(min(done * self.world.size, len(self.setup.val)), len(self.setup.val))


def _score(figures: dict[str, dict[str, float | None]]) -> float:
    score = figures["bbox"]["AP"]
    return -1.0 if score is None or math.isnan(score) else score
