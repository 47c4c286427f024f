"""So many at a time, and no more."""

from collections.abc import Iterator
from contextlib import contextmanager


class Full(Exception):
    """All places are taken."""


class Places:
    """Places for requests: whoever finds none is sent away at once, so that what waits has a bound.

    Attributes:
        most: how many there are.
        taken: how many of them are in use.
    """

    def __init__(self, most: int) -> None:
        self.most, self.taken = most, 0

    @property
    def are_free(self) -> bool:
        """Whether there is one left."""
        return self.taken < self.most

    @contextmanager
    def one(self) -> Iterator[None]:
        """A place, for the time inside; raises Full."""
        if not self.are_free:
            raise Full
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
