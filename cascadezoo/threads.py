"""Work on several items at once, each by a thread with its share of the cores; the results come in order.

A network's operators wait for each other, and decoding, drawing and writing use one core: two images on one core each
are done sooner than one after the other on two.  torch lets other threads run while it computes, and a number of
threads set by ``torch.set_num_threads`` is that of the thread which sets it.
"""

import ctypes
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, NamedTuple, TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

_MOST = 4  # images at once, unless asked for: each has its features in memory


class Share(NamedTuple):
    """How the cores are shared.

    Attributes:
        at_once: items worked on at once.
        threads: that torch computes with for each of them.
    """

    at_once: int
    threads: int


def share(device: torch.device, items: int, at_once: int | None = None) -> Share:
    """How the threads that torch may use now are shared among so many items.

    On a CPU as many items at once as there are threads, at most ``at_once`` (None: 4), or fewer where that leaves fewer
    threads without work; on other devices one.
    """
    threads = torch.get_num_threads()
    most = min(at_once or _MOST, threads, items) if device.type == "cpu" else 1
    if most < 2:
        return Share(1, threads)
    best = max(range(2, most + 1), key=lambda each: (each * (threads // each), each))
    return Share(best, threads // best)


def in_order(work: Callable[[T], R], items: Iterable[T], share: Share) -> Generator[R, None, None]:
    """``work(item)`` of each item, in the items' order, ``share.at_once`` of them worked on at once.

    The items are taken by the thread that iterates; at most as many again as are worked on wait, or are done and wait
    for an earlier one.  An error, of ``work`` or of
    ``items``, is raised in its turn, when what came before has been yielded.  Then, on Ctrl-C and when the generator
    is closed, work that has begun is ended as Ctrl-C ends it, and no thread is left.  The threads compute in the
    caller's modes (gradients, inference, autocast on the CPU).
    """
    if share.at_once == 1:
        yield from map(work, items)
        return
    before = torch.get_num_threads()
    stoppable = _Stoppable(work, _Modes.now())
    pending: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(share.at_once, "images", torch.set_num_threads, (share.threads,))
    source, failed = iter(items), None
    try:
        while failed is None:
            try:
                item = next(source)
            except StopIteration:
                break
            except Exception as error:
                failed = error
                break
            pending.append(pool.submit(stoppable, item))
            if len(pending) == 2 * share.at_once:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
        if failed is not None:
            raise failed
    finally:
        stoppable.stop()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # new threads begin with what was set last


class _Modes(NamedTuple):
    """torch's modes, which each thread has for itself."""

    gradients: bool
    inference: bool
    autocast: bool
    dtype: torch.dtype

    @classmethod
    def now(cls) -> "_Modes":
        return cls(
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch.get_autocast_dtype("cpu"),
        )

    @contextmanager
    def again(self) -> Iterator[None]:
        with (
            torch.inference_mode(self.inference),
            torch.set_grad_enabled(self.gradients),
            torch.autocast("cpu", self.dtype, enabled=self.autocast),
        ):
            yield


class _Ended(BaseException):
    """Raised inside work whose result nobody waits for any more."""


class _Stoppable(Generic[T, R]):
    """A callable for several threads that can be ended in all of them, between two lines of Python."""

    def __init__(self, work: Callable[[T], R], modes: _Modes) -> None:
        self._work, self._modes = work, modes
        self._lock = threading.Lock()
        self._inside: set[int] = set()
        self._stopped = False

    def __call__(self, item: T) -> R:
        thread = threading.get_ident()
        with self._lock:
            if self._stopped:
                raise _Ended
            self._inside.add(thread)
        try:
            with self._modes.again():
                return self._work(item)
        finally:
            with self._lock:
                self._inside.discard(thread)

    def stop(self) -> None:
        """End what is inside, as Ctrl-C ends the main thread: by an exception raised there."""
        with self._lock:
            self._stopped = True
            for thread in self._inside:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(_Ended))
