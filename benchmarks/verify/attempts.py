"""Work that may fail, in one process or in several at once: its error becomes the verdict on what was not measured."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from cascadezoo.benchmarks.reports.verdict import Verdict
from cascadezoo.errors import CascadezooError, DownloadFailed

if TYPE_CHECKING:
    from cascadezoo.distributed import World

T = TypeVar("T")
Errors = tuple[type[Exception], ...]

_log = logging.getLogger("cascadezoo")


class Failure(NamedTuple):
    """Why something was not measured; ``may_pass``: the same call may succeed later, as after a server's fault."""

    verdict: Verdict
    reason: str
    may_pass: bool = False


class Stopped(Exception):
    """The work could not be done, here or in another process of this run."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


def alone(work: Callable[[], T]) -> T:
    """The result of ``work``; raises Stopped where it fails."""
    outcome = _attempt(work, ())
    if isinstance(outcome, Failure):
        raise Stopped(outcome)
    return outcome


def of_every_process(world: "World", work: Callable[[], T]) -> list[T] | None:
    """Every process's result, at the first process, which raises Stopped where any failed; None elsewhere."""
    outcomes = world.gather(_attempt(work, ()))
    if outcomes is None:
        return None
    done = [outcome for outcome in outcomes if not isinstance(outcome, Failure)]
    if len(done) < len(outcomes):
        raise Stopped(next(outcome for outcome in outcomes if isinstance(outcome, Failure)))
    return done


def in_every_process(world: "World", work: Callable[[], T], skip: Errors = ()) -> T:
    """This process's own result; raises Stopped in every process where any failed.

    ``skip``: errors that make the verdict SKIPPED instead of ERROR.
    """
    outcome = _attempt(work, skip)
    outcomes = world.all_gather(outcome if isinstance(outcome, Failure) else None)
    failures = [one for one in outcomes if one]
    if isinstance(outcome, Failure) or failures:
        raise Stopped(failures[0])
    return outcome


def _attempt(work: Callable[[], T], skip: Errors) -> T | Failure:
    try:
        return work()
    except skip as reason:
        return Failure(Verdict.SKIPPED, str(reason), isinstance(reason, DownloadFailed))
    except CascadezooError as error:
        return Failure(Verdict.ERROR, str(error), isinstance(error, DownloadFailed))
    except Exception as error:  # one entry's crash must not stop the others
        _log.debug("crash", exc_info=True)
        return Failure(Verdict.ERROR, f"{type(error).__name__}: {error}")
