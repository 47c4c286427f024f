"""One process or many: ``torchrun`` says which by its environment; gloo carries CPU tensors, NCCL those of GPUs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from cascadezoo.devices import usable

T = TypeVar("T")

_PATIENCE = timedelta(days=1)  # the other processes wait while the first one evaluates and times


@dataclass(frozen=True)
class World:
    """This process, ``rank`` of ``size``, and the device it computes on.

    Objects go from process to process as pickles, between processes of one run.  Where a method says that all must
    call it, a process that does not call it lets the others wait.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """The mean over processes, equal on all of them, in place.  All must call it."""
        if self.size > 1:
            dist.all_reduce(values)
            values /= self.size
        return values

    def gather(self, value: T) -> list[T] | None:
        """One value per process, in the order of ranks, on the first process; None elsewhere.  All must call it."""
        if self.size == 1:
            return [value]
        values: list[Any] | None = [None] * self.size if self.is_first else None
        dist.gather_object(value, values, dst=0)
        return values

    def all_gather(self, value: T) -> list[T]:
        """One value per process, in the order of ranks, equal on all of them.  All must call it."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: T | None) -> T:
        """The first process's value, on all of them.  All must call it."""
        values: list[Any] = [value]
        if self.size > 1:
            dist.broadcast_object_list(values, src=0)
        first: T = values[0]
        return first

    def wait(self) -> None:
        """Until all processes have come here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def join(device: str | None = None, backend: str | None = None) -> Iterator[World]:
    """The world that ``torchrun`` started this process in, or a world of one.

    Args:
        device: such as cpu or cuda:1; default: the GPU of this process's own number where there are any.
        backend: what carries data between processes; default: NCCL between GPUs, else gloo.

    Raises:
        UsageError: no such device.
    """
    size, rank, local = (int(os.environ.get(key, default)) for key, default in _ENVIRONMENT)
    chosen = usable(device, local)
    with torch.cuda.device(chosen) if chosen.type == "cuda" else nullcontext():
        if size == 1:
            yield World(0, 1, chosen)
            return
        # Imported while there is a group, which torch._dynamo does, this module keeps it as a default of its functions,
        # and the threads outlive it: one that lets go of a tensor while the interpreter ends aborts the process
        import_module("torch.distributed.nn.functional")
        dist.init_process_group(backend or ("nccl" if chosen.type == "cuda" else "gloo"), timeout=_PATIENCE)
        try:
            yield World(rank, size, chosen)
            dist.barrier()  # none closes its connections while another still reads from them
        finally:
            dist.destroy_process_group()


_ENVIRONMENT = (("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0"))


_apart = False  # see ``apart``


@contextmanager
def apart() -> Iterator[None]:
    """Within the block this process computes for itself: what it sums up is its own, and it waits for no other."""
    global _apart
    before, _apart = _apart, True
    try:
        yield
    finally:
        _apart = before


def processes() -> int:
    """How many processes compute together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() and not _apart else 1


def sum_of_processes(x: Tensor) -> Tensor:
    """The sum of every process's ``x``, of one shape everywhere; gradients flow back to each."""
    if processes() == 1:
        return x
    total: Tensor = _Sum.apply(x)
    return total


class _Sum(torch.autograd.Function):
    """The sum over processes; its gradient is the sum of theirs (every process uses the same sum)."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total
