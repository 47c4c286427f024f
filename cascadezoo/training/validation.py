"""The evaluations of a run: when they are due, what they find, which weights are the best so far, and whether they have
become no better for long enough to stop."""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from cascadezoo.distributed import World
from cascadezoo.training.charts import write_charts
from cascadezoo.training.criterion import Criterion
from cascadezoo.training.evaluation import evaluate
from cascadezoo.training.interrupt import Interrupt
from cascadezoo.training.journal import Journal
from cascadezoo.training.setup import Setup
from cascadezoo.training.validation_loss import validation_losses


class Validation:
    """What is known of earlier evaluations is what the first process's journal says: a resumed run goes on from it."""

    def __init__(self, setup: Setup, world: World, interrupt: Interrupt, journal: Journal | None) -> None:
        self.setup, self.world, self.interrupt, self.journal = setup, world, interrupt, journal
        self.criterion = Criterion.parse(setup.config.best_by)

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
        seen = partial(self._seen, "evaluating", len(setup.val))
        batch_size, workers = setup.config.batch_size, setup.config.workers
        found = evaluate(setup.model, setup.val, self.world, seen, batch_size=batch_size, workers=workers)
        fields: dict[str, Any] = found._asdict()
        if setup.val_set is not None:
            seen = partial(self._seen, "validation loss", len(setup.val_set))
            losses = validation_losses(setup.model, setup.val_set, self.world, seen, workers=workers)
            fields |= {"loss": _finite(sum(losses.values())), "losses": {k: _finite(v) for k, v in losses.items()}}
        if self.journal:
            if self.criterion.standing([*self.journal.evaluations(), fields]).best is fields:
                keep_best()
            epoch = step / setup.plan.steps_per_epoch
            self.journal.evaluation(step, epoch, seconds=time.perf_counter() - began, **fields)
            evaluations = self.journal.evaluations()
            write_charts(setup.config.run_dir, self.criterion.standing(evaluations).best, evaluations[-1])

    def is_over(self, step: int) -> bool:
        """Whether the run's patience has come to an end, which the journal then says.  All processes must call it."""
        patience = self.setup.config.patience
        if not patience:
            return False
        is_over = False
        if self.journal:
            best, since = self.criterion.standing(self.journal.evaluations())
            is_over = since >= patience
            if is_over:
                against = f" than {self.criterion.value(best):.4g} of step {best['step']}" if best else ""
                text = f"stopped early after step {step}: {since} evaluations in a row had no better {self.criterion}"
                self.journal.note(step, text + against)
        return self.world.broadcast(is_over)

    def _seen(self, what: str, images: int, done: int) -> None:
        """Called after images of an evaluation and in waits for them.  The state was saved before: it may stop here."""
        if self.interrupt.asked:
            raise KeyboardInterrupt
        if self.journal:
            self.journal.evaluating(what, min(done * self.world.size, images), images)


def _finite(value: float) -> float | None:
    """JSON has no other numbers."""
    return value if math.isfinite(value) else None
