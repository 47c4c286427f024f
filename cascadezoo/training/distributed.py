"""One process or many: ``torchrun`` says which by its environment; gloo carries CPU tensors, NCCL those of GPUs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from cascadezoo.devices import usable

T = TypeVar("T")

_PATIENCE = timedelta(hours=2)  # the other processes wait while the first one evaluates


@dataclass(frozen=True)
class World:
    """This process, ``rank`` of ``size``, and the device it computes on."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """The mean over processes, equal on all of them."""
        if self.size > 1:
            dist.all_reduce(values)
            values /= self.size
        return values

    def gather(self, value: T) -> list[T]:
        """One value a process, in the order of ranks, equal on all of them; values are pickled between processes of
        one run."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Until all processes have come here."""
        if self.size > 1:
            dist.barrier()


def is_first() -> bool:
    """Whether this process is the one that writes and speaks, in and outside a world."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def join(device: str | None = None) -> Iterator[World]:
    """The world that ``torchrun`` started this process in, or a world of one.

    ``device``: such as cpu or cuda:1; default: the GPU of this process's own number where there are any.
    Raises UsageError for no device.
    """
    size, rank, local = (int(os.environ.get(key, default)) for key, default in _ENVIRONMENT)
    chosen = usable(device, local)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if size == 1:
        yield World(0, 1, chosen)
        return
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield World(rank, size, chosen)
    finally:
        dist.destroy_process_group()


_ENVIRONMENT = (("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0"))
