"""The processes that share one verification: one, or those that torchrun has started on one node or several."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")

_PATIENCE = timedelta(days=1)  # the first process evaluates and times while the others wait


@dataclass(frozen=True)
class Ranks:
    """This process and its peers; ``rank`` 0 decides and reports."""

    rank: int = 0
    world: int = 1
    local: int = 0  # on this node: which device is ours

    @property
    def is_first(self) -> bool:
        """Whether this process decides and reports."""
        return self.rank == 0

    def gather(self, value: T) -> list[T] | None:
        """Everybody's value, by rank, at the first process; None at the others.  All must call it."""
        if self.world == 1:
            return [value]
        everything: list[Any] | None = [None] * self.world if self.is_first else None
        dist.gather_object(value, everything, dst=0)
        return everything

    def broadcast(self, value: T | None) -> T:
        """The first process's value, everywhere.  All must call it."""
        box: list[Any] = [value]
        if self.world > 1:
            dist.broadcast_object_list(box, src=0)
        result: T = box[0]
        return result


@contextmanager
def joined() -> Iterator[Ranks]:
    """The group that the environment of torchrun describes, over gloo; a process of its own without one."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Ranks()
        return
    dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield Ranks(dist.get_rank(), world, int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        dist.destroy_process_group()
