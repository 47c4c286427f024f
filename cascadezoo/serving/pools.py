"""Threads that are all there before they are needed."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cascadezoo.errors import MissingResource


def started(threads: int, name: str, begin: Callable[..., object] | None = None, *given: Any) -> ThreadPoolExecutor:
    """A pool of so many running threads, each of which has called ``begin(*given)``: none is started later, when there
    may be no room for it and requests would wait for it for ever.

    Raises MissingResource where the machine does not start so many.
    """
    pool = ThreadPoolExecutor(threads, name, begin, given)
    all_here = threading.Barrier(threads + 1)
    try:
        for _ in range(threads):
            pool.submit(all_here.wait)
        all_here.wait()
    except (RuntimeError, MemoryError) as error:  # the former of Python, where the system gives no thread
        all_here.abort()
        pool.shutdown()
        raise MissingResource(
            f"the threads of the server cannot be started ({error}): allow more of them (ulimit -u), free memory, or "
            "take fewer --workers"
        ) from error
    return pool
