"""Items from many callers, computed on in batches of equal key: one thread for each worker, one loop of asyncio.

A batch goes to a free worker when it is full, or when its oldest item has waited for long enough; of several such the
one with the oldest item.  So no item waits for ever behind more frequent ones.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

from cascadezoo.serving.pools import started

T = TypeVar("T")
R = TypeVar("R")

Work = Callable[[Sequence[T]], Sequence[R]]

_WEIGHT = 0.2  # of the latest batch in the mean of seconds

_log = logging.getLogger("cascadezoo")


class Closed(Exception):
    """The batcher computes no more: it has been left, or has lost a worker."""


@dataclass(eq=False)
class _Job(Generic[T, R]):
    item: T
    since: float  # when it came, by the loop's clock
    result: asyncio.Future[R]


class Batcher(Generic[T, R]):
    """Workers that share the items of ``submit``; to be entered, and left when all callers are done.

    Leaving takes no more items, computes on those that are there, and ends the threads.

    Attributes:
        live: False once a worker was lost by an error that is none of its items'.
        items: how many have been computed on.
        batches: in how many calls of a worker.
        seconds_per_item: a moving mean of what a worker takes for an item; 0 before the first.
    """

    def __init__(self, workers: Sequence[Work[T, R]], *, max_batch: int, max_wait: float) -> None:
        """
        Args:
            workers: each is called in a thread of its own, with items of equal key; it gives a result for each, in
                their order.
            max_batch: items that a worker gets at a time, at most.
            max_wait: seconds that an item waits for others of its key.
        """
        self.live, self.items, self.batches, self.seconds_per_item = True, 0, 0, 0.0
        self._workers, self._max_batch, self._max_wait = workers, max_batch, max_wait
        self._groups: dict[Hashable, list[_Job[T, R]]] = {}  # in each the oldest first
        self._changed = asyncio.Event()
        self._closed = False
        self._tasks: list[asyncio.Task[None]] = []
        self._threads = ExitStack()

    async def __aenter__(self) -> Self:
        """Start the threads; raises MissingResource where that cannot be done."""
        with self._threads:
            pools = [self._threads.enter_context(started(1, "model")) for _ in self._workers]
            self._threads = self._threads.pop_all()
        served = zip(self._workers, pools, strict=True)
        self._tasks = [asyncio.create_task(self._serve(work, thread)) for work, thread in served]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        self._changed.set()
        with self._threads:
            await asyncio.gather(*self._tasks)

    @property
    def waiting(self) -> int:
        """How many items no worker has taken yet."""
        return sum(map(len, self._groups.values()))

    async def submit(self, key: Hashable, item: T) -> R:
        """The result for an item, computed on together with others of equal ``key``.

        Where the caller is cancelled, an item that no worker has yet is dropped.

        Raises Closed, or what the worker raised for this item: where a batch fails, each of it is tried alone.
        """
        if self._closed:
            raise Closed
        loop = asyncio.get_running_loop()
        job: _Job[T, R] = _Job(item, loop.time(), loop.create_future())
        self._groups.setdefault(key, []).append(job)
        self._changed.set()
        try:
            return await job.result
        except asyncio.CancelledError:
            self._drop(key, job)
            raise

    def _drop(self, key: Hashable, job: _Job[T, R]) -> None:
        group = self._groups.get(key, [])
        if job in group:
            group.remove(job)
            if not group:
                del self._groups[key]

    async def _serve(self, work: Work[T, R], thread: ThreadPoolExecutor) -> None:
        jobs: list[_Job[T, R]] = []
        try:
            while jobs := await self._next():
                await self._compute(work, thread, jobs)
        except BaseException as error:
            self._give_up(jobs)
            if isinstance(error, asyncio.CancelledError):
                raise
            _log.error("a worker was lost, and the server computes no more: restart it", exc_info=error)

    async def _compute(self, work: Work[T, R], thread: ThreadPoolExecutor, jobs: list[_Job[T, R]]) -> None:
        start = time.perf_counter()
        items = [job.item for job in jobs]
        outcomes = await asyncio.get_running_loop().run_in_executor(thread, _outcomes, work, items)
        self._note(len(jobs), time.perf_counter() - start)
        for job, outcome in zip(jobs, outcomes, strict=True):
            if job.result.done():  # whoever asked has gone
                continue
            if isinstance(outcome, Exception):
                job.result.set_exception(outcome)
            else:
                job.result.set_result(outcome)

    def _give_up(self, jobs: list[_Job[T, R]]) -> None:
        """Let nobody wait for what nobody will compute; other workers finish what they are at."""
        self.live, self._closed = False, True
        for job in (*jobs, *(job for group in self._groups.values() for job in group)):
            if not job.result.done():
                job.result.set_exception(Closed())
        self._groups.clear()
        self._changed.set()

    async def _next(self) -> list[_Job[T, R]]:
        """The next batch for a free worker; empty when there will be none."""
        while True:
            now = asyncio.get_running_loop().time()
            ready = [key for key, group in self._groups.items() if self._seconds_left(group, now) <= 0]
            if ready:
                return self._take(min(ready, key=lambda each: self._groups[each][0].since))
            if self._closed:
                return []
            self._changed.clear()
            left = min((self._seconds_left(group, now) for group in self._groups.values()), default=None)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)

    def _seconds_left(self, group: list[_Job[T, R]], now: float) -> float:
        """Until the group goes as it is."""
        if self._closed or len(group) >= self._max_batch:
            return 0
        return group[0].since + self._max_wait - now

    def _take(self, key: Hashable) -> list[_Job[T, R]]:
        group = self._groups.pop(key)
        if rest := group[self._max_batch :]:
            self._groups[key] = rest
            self._changed.set()  # for another worker
        return group[: self._max_batch]

    def _note(self, items: int, seconds: float) -> None:
        self.items, self.batches = self.items + items, self.batches + 1
        before = self.seconds_per_item or seconds / items
        self.seconds_per_item = before + _WEIGHT * (seconds / items - before)


def _outcomes(work: Work[T, R], items: Sequence[T]) -> Sequence[R | Exception]:
    """A result or an error for each item."""
    try:
        results = work(items)
        if len(results) != len(items):
            raise RuntimeError(f"{len(results)} results for {len(items)} items")
        return results
    except Exception as error:
        if len(items) > 1:
            return [each for item in items for each in _outcomes(work, [item])]
        return [RuntimeError(repr(error)) if isinstance(error, StopIteration) else error]  # which no future can hold
