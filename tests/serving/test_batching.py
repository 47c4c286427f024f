"""The queue of batches, without HTTP and without a model: items are numbers, and their size is the key."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

import pytest

from cascadezoo.errors import MissingResource
from cascadezoo.serving.batching import Batcher, Closed
from cascadezoo.serving.pools import started


class Recorder:
    """A worker that keeps the batches it was given and doubles their items; ``gate`` holds it back."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self._gate = gate

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.threads.add(threading.get_ident())
        if self._gate is not None:
            assert self._gate.wait(10)
        return [2 * item for item in items]


async def submitted(batcher: Batcher, items: Sequence[int], key: Callable[[int], int] = lambda item: 0) -> list:
    return await asyncio.gather(*(batcher.submit(key(item), item) for item in items), return_exceptions=True)


def run(worker: Callable, items: Sequence[int], key=lambda item: 0, *, max_batch: int, max_wait: float = 0.05) -> list:
    async def main() -> list:
        async with Batcher([worker], max_batch=max_batch, max_wait=max_wait) as batcher:
            return await submitted(batcher, items, key)

    return asyncio.run(main())


def test_everybody_gets_their_own_result_and_only_equal_keys_share() -> None:
    worker = Recorder()
    items = list(range(100))
    assert run(worker, items, lambda item: item % 3, max_batch=4) == [2 * item for item in items]
    assert sorted(item for batch in worker.batches for item in batch) == items
    assert all(len({item % 3 for item in batch}) == 1 for batch in worker.batches)
    assert max(map(len, worker.batches)) == 4
    assert len(worker.threads) == 1


def test_with_batches_of_one_nothing_waits() -> None:
    worker = Recorder()
    start = time.perf_counter()
    assert run(worker, [1, 2, 3], max_batch=1, max_wait=60) == [2, 4, 6]
    assert worker.batches == [[1], [2], [3]]
    assert time.perf_counter() - start < 30


def test_a_full_batch_goes_at_once_and_the_rest_after_the_wait() -> None:
    async def main() -> None:
        worker = Recorder()
        async with Batcher([worker], max_batch=2, max_wait=0.2) as batcher:
            rest = asyncio.create_task(batcher.submit("other size", 9))
            await asyncio.sleep(0)
            start = asyncio.get_running_loop().time()
            assert await submitted(batcher, [1, 2]) == [2, 4]
            assert not rest.done()
            assert await rest == 18
            assert asyncio.get_running_loop().time() - start >= 0.15
        assert worker.batches == [[1, 2], [9]]
        assert (batcher.items, batcher.batches) == (3, 2)

    asyncio.run(main())


def test_what_came_first_goes_first_however_many_others_there_are() -> None:
    async def main() -> list[list[int]]:
        gate = threading.Event()
        worker = Recorder(gate)
        async with Batcher([worker], max_batch=2, max_wait=0.01) as batcher:
            tasks = [asyncio.create_task(batcher.submit("common", 0)), asyncio.create_task(batcher.submit("common", 1))]
            while not worker.batches:
                await asyncio.sleep(0.001)
            tasks.append(asyncio.create_task(batcher.submit("rare", 2)))
            await asyncio.sleep(0.02)  # its wait is over, the worker is not
            tasks += [asyncio.create_task(batcher.submit("common", item)) for item in range(3, 9)]
            await asyncio.sleep(0)
            gate.set()
            await asyncio.gather(*tasks)
        return worker.batches

    assert asyncio.run(main()) == [[0, 1], [2], [3, 4], [5, 6], [7, 8]]


def test_workers_compute_at_the_same_time_each_in_a_thread_of_its_own() -> None:
    both = threading.Barrier(2, timeout=10)
    threads = set()

    def work(items: Sequence[int]) -> list[int]:
        both.wait()  # broken, and so an error, unless the other one is here too
        threads.add(threading.get_ident())
        return list(items)

    async def main() -> list:
        async with Batcher([work, work], max_batch=1, max_wait=0) as batcher:
            return await submitted(batcher, [1, 2])

    assert asyncio.run(main()) == [1, 2]
    assert len(threads) == 2


def test_an_item_that_fails_fails_alone() -> None:
    def work(items: Sequence[int]) -> list[int]:
        if 2 in items:
            raise ValueError("two")
        return list(items)

    first, second, third = run(work, [1, 2, 3], max_batch=3)
    assert (first, third) == (1, 3)
    assert isinstance(second, ValueError)


def test_any_error_is_told_and_the_worker_goes_on() -> None:
    def work(items: Sequence[int]) -> list[int]:
        return [next(iter(items)) if items[0] else next(iter([]))]

    failed, done = run(work, [0, 1], max_batch=1)
    assert isinstance(failed, RuntimeError)
    assert done == 1


def test_a_worker_that_loses_an_item_is_an_error_for_each() -> None:
    """Never the neighbour's result."""
    results = run(lambda items: list(items)[1:], [1, 2], max_batch=2)
    assert [type(each) for each in results] == [RuntimeError, RuntimeError]


def test_who_leaves_is_dropped_and_the_others_are_answered() -> None:
    async def main() -> None:
        worker = Recorder()
        async with Batcher([worker], max_batch=3, max_wait=0.1) as batcher:
            leaving = asyncio.create_task(batcher.submit(0, 1))
            staying = asyncio.create_task(batcher.submit(0, 2))
            alone = asyncio.create_task(batcher.submit(1, 3))
            await asyncio.sleep(0)
            assert batcher.waiting == 3
            leaving.cancel()
            alone.cancel()
            await asyncio.wait((leaving, alone))
            assert batcher.waiting == 1
            assert await staying == 4
        assert worker.batches == [[2]]

    asyncio.run(main())


def test_who_leaves_while_the_batch_is_computed_disturbs_nobody() -> None:
    async def main() -> None:
        gate = threading.Event()
        worker = Recorder(gate)
        async with Batcher([worker], max_batch=2, max_wait=60) as batcher:
            leaving, staying = (asyncio.create_task(batcher.submit(0, item)) for item in (1, 2))
            while not worker.batches:
                await asyncio.sleep(0.001)
            leaving.cancel()
            await asyncio.wait((leaving,))
            gate.set()
            assert await staying == 4

    asyncio.run(main())


def test_leaving_answers_what_is_there_at_once_and_takes_no_more() -> None:
    async def main() -> None:
        worker = Recorder()
        async with Batcher([worker], max_batch=8, max_wait=60) as batcher:
            task = asyncio.create_task(batcher.submit(0, 1))
            await asyncio.sleep(0)
        assert await task == 2
        with pytest.raises(Closed):
            await batcher.submit(0, 2)

    start = time.perf_counter()
    asyncio.run(main())
    assert time.perf_counter() - start < 30


def test_the_mean_of_seconds_is_that_of_an_item() -> None:
    async def main() -> float:
        def work(items: Sequence[int]) -> list[int]:
            time.sleep(0.1)
            return list(items)

        async with Batcher([work], max_batch=4, max_wait=60) as batcher:
            assert batcher.seconds_per_item == 0
            await submitted(batcher, [1, 2, 3, 4])
        return batcher.seconds_per_item

    assert 0.025 <= asyncio.run(main()) < 0.1


def test_a_lost_worker_is_told_to_all_who_wait_and_to_all_who_come() -> None:
    gate = threading.Event()

    def stopped(items: Sequence[int]) -> list[int]:
        assert gate.wait(10)
        raise SystemExit

    async def main() -> None:
        async with Batcher([stopped], max_batch=1, max_wait=0) as batcher:
            assert batcher.live
            waiting = [asyncio.create_task(batcher.submit(item % 2, item)) for item in range(5)]
            await asyncio.sleep(0.05)
            gate.set()
            results = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
            assert [type(each) for each in results] == [Closed] * 5
            assert (batcher.live, batcher.waiting) == (False, 0)
            with pytest.raises(Closed):
                await batcher.submit(0, 1)

    asyncio.run(main())


def test_a_lost_worker_is_in_the_log_and_the_other_one_finishes_what_it_is_at(caplog) -> None:
    begun, gate = threading.Event(), threading.Event()

    def slow(items: Sequence[int]) -> list[int]:
        begun.set()
        assert gate.wait(10)
        return list(items)

    def work(items: Sequence[int]) -> list[int]:
        if items == [1]:
            return slow(items)
        raise SystemExit("a reason")

    async def main() -> None:
        async with Batcher([work, work], max_batch=1, max_wait=0) as batcher:
            staying = asyncio.create_task(batcher.submit(0, 1))
            await asyncio.to_thread(begun.wait, 10)
            with pytest.raises(Closed):
                await batcher.submit(0, 2)
            gate.set()
            assert await staying == 1

    asyncio.run(main())
    (record,) = caplog.records
    assert record.getMessage() == "a worker was lost, and the server computes no more: restart it"
    assert str(record.exc_info[1]) == "a reason"


@pytest.mark.parametrize("there", [0, 1, 3])
def test_threads_that_cannot_be_started_are_told_before_anyone_waits(monkeypatch, there: int) -> None:
    start, left = threading.Thread.start, [there]

    def limited(thread: threading.Thread) -> None:
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        start(thread)

    async def main() -> None:
        async with Batcher([Recorder()] * 4, max_batch=1, max_wait=0):
            pytest.fail("entered")

    before = threading.active_count()
    monkeypatch.setattr(threading.Thread, "start", limited)
    words = r"^the threads of the server cannot be started \(can't start new thread\): allow more of them \(ulimit -u\)"
    with pytest.raises(MissingResource, match=words):
        asyncio.run(main())
    with pytest.raises(MissingResource, match=words):
        started(2, "name")
    assert threading.active_count() == before


def test_a_pool_has_all_its_threads_from_the_start() -> None:
    before, seen = threading.active_count(), set()
    with started(3, "name", lambda given: seen.add((threading.get_ident(), given)), "given"):
        assert threading.active_count() == before + 3
        assert {given for _, given in seen} == {"given"}
        assert len(seen) == 3
