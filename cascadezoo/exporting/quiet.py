"""Work that other packages talk through: one at a time, and without their words."""

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator

_one = threading.RLock()  # what is silenced is the whole process, so that two at once would leave it so


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without logs up to WARNING and without warnings; another thread waits until it is its turn."""
    with _one:
        before = logging.root.manager.disable
        logging.disable(max(before, logging.WARNING))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            logging.disable(before)
