"""Detecting on many images: batches of equal padded size, images decoded ahead of the device, and fewer images at a
time where memory runs out.

The computation on a batch is a callable: ``Detector.predict``, the evaluation of a training run and the verification
of published figures share this module.
"""

import logging
import multiprocessing
import os
import pickle
import re
import signal
import threading
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from types import FrameType
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from cascadezoo.errors import CascadezooError, OutOfMemory, WorkerLost
from cascadezoo.images import lacks_memory, opencv_on_one_thread
from cascadezoo.modeling.compiling import around_compiled, uncompiled
from cascadezoo.modeling.preprocess import ResizedImage, image_scale, padded_size
from cascadezoo.spec.model import ModelSpec, PreprocessSpec

T = TypeVar("T")
P = TypeVar("P")  # an item, prepared
R = TypeVar("R")  # its result

_AHEAD = 2  # batches that each worker prepares in advance
_MOST_WORKERS = 8
_PATIENCE = 1  # seconds of waiting for an item, after which the waiting is looked at
_LATE, _LOST = "DataLoader timed out", "DataLoader worker (pid"  # PyTorch's words
_SIGCHLD: Any = getattr(signal, "SIGCHLD", None)  # Windows has none
_NO_ROOM = re.compile(  # of CUDA; of the CPU; of cuBLAS and cuDNN; of oneDNN, which says no more of it
    "out of memory|can't allocate memory|ALLOC_FAILED|could not (create|execute) a primitive$|create a memory object$"
)

_log = logging.getLogger("cascadezoo")


def batched(
    items: Iterable[T], key: Callable[[T], Hashable], batch_size: int, waiting: int | None = None
) -> Iterator[list[T]]:
    """Groups of at most ``batch_size`` items with equal key: each as soon as it is full, the others at the end.

    ``waiting``: how many items may wait for their groups to fill; with that many the largest group goes as it is.
    """
    groups: dict[Hashable, list[T]] = {}
    for item in items:
        mine = key(item)
        group = groups.setdefault(mine, [])
        group.append(item)
        if len(group) == batch_size:
            yield groups.pop(mine)
        elif sum(map(len, groups.values())) == waiting:
            yield groups.pop(max(groups, key=lambda each: len(groups[each])))
    yield from groups.values()


def plan(sizes: Sequence[tuple[int, int]], spec: ModelSpec, batch_size: int) -> list[list[int]]:
    """Indices of images of these annotated sizes (height, width), in batches of at most ``batch_size`` whose padded
    sizes are equal, in the order in which they fill up.

    Which images share a batch follows from the annotated sizes alone: it depends neither on how many processes share
    the work nor on what an interrupted run had already done, and so no figure does.
    """

    def padded(index: int) -> tuple[int, int]:
        height, width = sizes[index]
        scale = image_scale(height, width, spec.preprocess, spec.conventions.resize)
        return padded_size((int(height * scale + 0.5), int(width * scale + 0.5)), spec.preprocess)

    return list(batched(range(len(sizes)), padded, batch_size))


def equal_neighbours(images: Iterable[ResizedImage], spec: PreprocessSpec) -> Iterator[list[ResizedImage]]:
    """The images in their order, in runs of equal padded size."""
    for _, run in groupby(images, lambda image: padded_size(image.size, spec)):
        yield list(run)


def prepared(
    batches: Sequence[Sequence[T]],
    prepare: Callable[[T], P],
    workers: int,
    waiting: Callable[[], None] = lambda: None,
) -> Generator[list[P], None, None]:
    """The items of each batch in turn, prepared ahead by ``workers`` processes; 0 prepares them here.

    Nothing of it goes through shared memory, of which containers have little: where it runs out, the sender's error
    is lost and the receiver waits for ever.

    ``waiting`` is called about once a second while the next batch is not there; what it raises ends the wait.  Close
    the generator to end the processes early.

    Raises the CascadezooError that ``prepare`` raised, in its batch's turn, and WorkerLost.
    """
    workers = min(workers, len(batches))
    loader = DataLoader(
        _Prepared(batches, prepare),
        batch_size=None,
        collate_fn=pickle.dumps if workers else _as_it_is,  # by default, arrays would become tensors
        num_workers=workers,
        prefetch_factor=_AHEAD if workers else None,
        timeout=_PATIENCE if workers else 0,
        multiprocessing_context="fork" if workers and "fork" in multiprocessing.get_all_start_methods() else None,
        worker_init_fn=start_worker,
    )
    try:
        if workers:
            multiprocessing.Lock()  # where there is no room for this one, PyTorch would stop half-way
        with opencv_on_one_thread():
            items = iter(loader)
    except OSError as error:
        raise WorkerLost(
            f"no worker processes can be started ({error.strerror or error}): free /dev/shm or make it larger, allow "
            "more processes, or prepare images without workers (--workers 0)"
        ) from error
    with _deaths_told_while_waiting() as deaths:
        try:
            for _ in batches:
                item = _next(items, deaths, waiting)
                item = pickle.loads(item) if workers else item  # from its own child
                if isinstance(item, CascadezooError):
                    raise item
                yield item
        finally:
            _end(items, at_once=deaths.told_here)


def _next(items: Iterator[Any], deaths: "_Deaths", waiting: Callable[[], None]) -> Any:
    while True:
        try:
            with deaths.told():
                return next(items)
        except RuntimeError as error:
            if _LOST in str(error):
                raise WorkerLost(
                    f"a process that prepares images ended by itself ({error}): mostly the machine has too little "
                    "memory for so many, so take fewer (--workers), or prepare images without (--workers 0)"
                ) from error
            if _LATE not in str(error):
                raise
        waiting()


def _end(items: Any, at_once: bool) -> None:
    """End the workers of a DataLoader's iterator, which would do so itself when it is freed: the traceback of an error
    may keep it.  ``at_once``: with the image they are at, in which one may be stuck."""
    if isinstance(items, _MultiProcessingDataLoaderIter):
        for process in items._workers if at_once else ():
            process.kill()
        items._shutdown_workers()


class _Deaths:
    """In place of PyTorch's own answer to SIGCHLD, which raises wherever the main thread is, even between the tensors
    of an optimizer's step: it raises while the next item is waited for, or when that wait begins."""

    def __init__(self, answer: Any, told_here: bool = True) -> None:
        self.answer, self.told_here, self.waited_for = answer, told_here, False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.waited_for and callable(self.answer):
            self.answer(number, frame)

    @contextmanager
    def told(self) -> Iterator[None]:
        self.waited_for = True
        try:
            self(_SIGCHLD, None)  # those that died since the last wait
            yield
        finally:
            self.waited_for = False


@contextmanager
def _deaths_told_while_waiting() -> Iterator[_Deaths]:
    """Outside the main thread, where Python answers no signals, a death is noticed within seconds."""
    if _SIGCHLD is None or threading.current_thread() is not threading.main_thread():
        yield _Deaths(None, told_here=False)
        return
    before: Any = signal.getsignal(_SIGCHLD)
    deaths = _Deaths(before)
    signal.signal(_SIGCHLD, deaths)
    try:
        yield deaths
    finally:
        if signal.getsignal(_SIGCHLD) is deaths:
            signal.signal(_SIGCHLD, before)


def default_workers() -> int:
    """Processes that prepare images: one per core less the one that feeds the device, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MOST_WORKERS, max(1, cores - 1))


class Fitting(Generic[P, R]):
    """``detect`` on as many images at a time as the device has memory for.

    ``detect`` takes images and returns one result per image.  Where memory runs out the batch is halved, for good; the
    first time is logged.

    Attributes:
        batch_size: images at a time.
        notes: one sentence per halving.
    """

    def __init__(self, detect: Callable[[Sequence[P]], list[R]], batch_size: int, device: torch.device) -> None:
        self.batch_size = batch_size
        self.notes: list[str] = []
        self._detect, self._device = detect, device

    @around_compiled
    def __call__(self, images: Sequence[P]) -> list[R]:
        """One result per image, in order; raises OutOfMemory where there is no room even for one image."""
        results: list[R] = []
        while len(results) < len(images):
            chunk = images[len(results) : len(results) + self.batch_size]
            if (of_chunk := self._attempt(chunk)) is None:
                self._halve(len(chunk))
            else:
                results += of_chunk
        return results

    @around_compiled
    def _attempt(self, images: Sequence[P]) -> list[R] | None:
        """None where memory ran out; on return nothing holds the tensors of the attempt."""
        try:
            return self._detect(images)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return None

    @uncompiled
    def _halve(self, tried: int) -> None:
        if tried == 1:
            raise OutOfMemory(f"{self._device} has too little memory for one image at a time: take another device")
        self.batch_size = (tried + 1) // 2
        note = f"out of memory with {tried} images at a time on {self._device}: went on with {self.batch_size}"
        if not self.notes:
            _log.warning("%s", note)
        self.notes.append(note)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


@uncompiled
def is_out_of_memory(error: Exception) -> bool:
    """Whether the device, or the host, had no room for something."""
    said = isinstance(error, RuntimeError) and _NO_ROOM.search(str(error)) is not None
    return said or isinstance(error, torch.OutOfMemoryError) or lacks_memory(error)


class _Prepared(Dataset[Any]):
    """What runs in the workers.  An error is an item like others: raised there, it would come as a traceback."""

    def __init__(self, batches: Sequence[Sequence[T]], prepare: Callable[[T], Any]) -> None:
        self.batches, self.prepare = batches, prepare

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> list[Any] | CascadezooError:
        if index >= len(self.batches):
            raise IndexError(index)
        try:
            return [self.prepare(item) for item in self.batches[index]]
        except CascadezooError as error:
            return error


def _as_it_is(item: Any) -> Any:
    return item


def start_worker(_: int) -> None:
    """Begin as a worker process of a DataLoader: signals are left to the parent."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to all processes: the parent ends its workers itself
        signal.signal(number, signal.SIG_IGN)
