"""Where entries are measured: in this process, or on a cluster of Ray.  Both give the same reports."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch

from cascadezoo.benchmarks.reports.schema import EntryReport, Machine, describe_machine
from cascadezoo.benchmarks.reports.verdict import Verdict
from cascadezoo.benchmarks.verify import fleet_entries
from cascadezoo.benchmarks.verify.estimates import Costs, recorded
from cascadezoo.benchmarks.verify.fleet import Cluster, cluster
from cascadezoo.benchmarks.verify.job import Job
from cascadezoo.benchmarks.verify.run_folder import RunFolder
from cascadezoo.benchmarks.verify.runner import verify_entry
from cascadezoo.benchmarks.verify.schedule import Left, Schedule
from cascadezoo.devices import random_state_kept
from cascadezoo.distributed import World, join
from cascadezoo.manifest import ZooEntry


class Engine(Protocol):
    """What measures entries.

    Attributes:
        device: the name of what it computes on.
        world: the processes that share each entry's images.
    """

    device: str
    world: World

    def machine(self, evaluator: str, folder: RunFolder) -> Machine:
        """What the figures come from."""

    def reports(self, entries: Sequence[ZooEntry], job: Job, costs: Costs, left: Left) -> Iterator[EntryReport]:
        """The report of each entry, as it is done; ``left`` is called with the seconds that are left for all."""


class _Here:
    def __init__(self, world: World) -> None:
        self.world, self.device = world, str(world.device)

    def machine(self, evaluator: str, folder: RunFolder) -> Machine:
        return describe_machine(self.device, evaluator)

    def reports(self, entries: Sequence[ZooEntry], job: Job, costs: Costs, left: Left) -> Iterator[EntryReport]:
        schedule = Schedule(costs.of, costs.pace)
        for entry in entries:
            left(schedule.left(time.monotonic()))
            begun = time.monotonic()
            schedule.start(entry.name, begun)
            with random_state_kept(self.world.device):
                report = verify_entry(entry, job)
            schedule.finish(entry.name, time.monotonic(), measured=_was_measured(report, time.monotonic() - begun))
            yield report


def _was_measured(report: EntryReport, seconds: float) -> bool:
    """Rather than taken from the run folder, or not to be had."""
    return report.verdict not in (Verdict.ERROR, Verdict.SKIPPED) and seconds > (recorded(report) or 0.0) / 2


class _OnRay:
    def __init__(self, pieces: Cluster, shared: Sequence[Path]) -> None:
        self.pieces, self.shared, self.device = pieces, shared, pieces.device
        self.world = World(0, 1, torch.device("cpu"))  # of this process, which only waits

    def machine(self, evaluator: str, folder: RunFolder) -> Machine:
        return fleet_entries.machine_of(self.pieces, evaluator, folder.path, self.shared)

    def reports(self, entries: Sequence[ZooEntry], job: Job, costs: Costs, left: Left) -> Iterator[EntryReport]:
        return fleet_entries.reports(entries, job, self.pieces, costs, left)


@contextmanager
def here(device: str | None) -> Iterator[Engine]:
    """This process, or those that ``torchrun`` started.  Raises UsageError, MissingResource."""
    with join(device, backend="gloo") as world:
        yield _Here(world)


@contextmanager
def on_ray(address: str | None, device: str | None, shared: Sequence[Path]) -> Iterator[Engine]:
    """A cluster of Ray, whose machines have to see the ``shared`` files as this one does.

    Raises UsageError, MissingResource.
    """
    with cluster(address, device, torch.get_num_threads()) as pieces:
        yield _OnRay(pieces, shared)
