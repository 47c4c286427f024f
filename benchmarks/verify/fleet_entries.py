"""Entries verified on a cluster of Ray: what ``runner`` does, cut into pieces that run in processes of their own.

Detections lie in the run folder, where every machine of the cluster has to see them.
"""

import hashlib
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from cascadezoo.benchmarks.reports.digest import code_digest
from cascadezoo.benchmarks.reports.schema import EntryReport, Machine, describe_machine
from cascadezoo.benchmarks.reports.verdict import Verdict
from cascadezoo.benchmarks.verify.attempts import Failure
from cascadezoo.benchmarks.verify.estimates import Costs
from cascadezoo.benchmarks.verify.fleet import Cluster, Ended, Reference, run
from cascadezoo.benchmarks.verify.job import Job, finished_parts, kept, settled
from cascadezoo.benchmarks.verify.run_folder import Part
from cascadezoo.benchmarks.verify.runner import Detected, detect_entry, failed, judge_entry, unavailable
from cascadezoo.benchmarks.verify.schedule import Left, Schedule
from cascadezoo.errors import UsageError
from cascadezoo.files import file_sha256
from cascadezoo.manifest import ZooEntry

_PATIENCE = 120  # seconds


class _Seen(NamedTuple):
    """What one machine of the cluster is and sees."""

    machine: Machine
    code: str
    differing: Path | None  # the first file that is not there as it should be


def machine_of(cluster: Cluster, evaluator: str, folder: Path, shared: Sequence[Path]) -> Machine:
    """The machine that all of a cluster's are alike.

    ``folder``: a run's; ``shared``: further files that every machine has to see as this one does.  Raises UsageError
    where one does not, is of another kind, or has other code of cascadezoo.
    """
    token = folder / f".{secrets.token_hex(8)}.seen"
    token.write_bytes(secrets.token_bytes(16))
    try:
        wanted = {path: file_sha256(path) for path in (token, *shared)}
        seen: dict[str, _Seen] = cluster.everywhere(_look, evaluator, cluster.device, cluster.threads, wanted)
    finally:
        with suppress(OSError):
            token.unlink()
    (first, one), *others = seen.items()
    for host, other in seen.items():
        if other.differing:
            what = folder if other.differing == token else other.differing
            raise UsageError(
                f"{host} does not see {what} as this machine does: put the run folder, data and weights where all "
                "machines of the cluster have them under one path, and give --run-dir"
            )
        if other.code != code_digest():
            raise UsageError(f"{host} has other code of cascadezoo than this machine: install the same on both")
    for host, other in others:
        if _kind(other.machine) != _kind(one.machine):
            raise UsageError(
                f"{host} is not of {first}'s kind ({_kind(other.machine)} and {_kind(one.machine)}): one run is of one "
                "kind of machine, so give each kind its own --shard"
            )
    return one.machine


def _kind(machine: Machine) -> str:
    return ", ".join((machine.device, machine.decoder, machine.evaluator, *map(" ".join, machine.packages.items())))


def _look(evaluator: str, device: str, threads: int, wanted: Mapping[Path, str]) -> _Seen:
    _compute_with(threads)
    differing = next((path for path, digest in wanted.items() if not _is(path, digest)), None)
    return _Seen(describe_machine(device, evaluator), code_digest(), differing)


def _is(path: Path, digest: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == digest
    except OSError:
        return False


class Pieces(NamedTuple):
    """What is run of an entry in a process of its own: with a device, and then without."""

    detect: Callable[[Job, ZooEntry, Collection[Part], int, int], Detected]
    judge: Callable[[Job, ZooEntry, Detected], EntryReport]


def reports(
    entries: Sequence[ZooEntry], job: Job, cluster: Cluster, costs: Costs, left: Left, pieces: Pieces | None = None
) -> Iterator[EntryReport]:
    """The report of each entry as it is done: first of those that need no process.

    Args:
        left: called about once a second with the seconds that are left.
        pieces: default: those that measure.
    """
    pieces = pieces or Pieces(_detect, _judge)
    finished = {entry.name: finished_parts(entry, job) for entry in entries}
    todo: dict[str, ZooEntry] = {}
    for entry in entries:
        report = settled(finished[entry.name], job) or unavailable(entry, job)
        if report is None:
            todo[entry.name] = entry
        else:
            yield report
    shared = cluster.put(job)

    def detect(name: str) -> Reference:
        return cluster.detect(pieces.detect, shared, todo[name], finished[name].parts, cluster.threads, cluster.share)

    def judge(name: str, detected: Detected) -> Reference:
        return cluster.judge(pieces.judge, shared, todo[name], detected)

    schedule = Schedule({name: costs.of[name] for name in todo}, costs.pace)
    for ended in run(cluster, schedule, detect, judge, may_pass=_may_pass, left=left):
        entry = todo[ended.name]
        yield kept(entry, job, finished[entry.name], _report(entry, job, ended, cluster.share))


def _report(entry: ZooEntry, job: Job, ended: Ended, share: int) -> EntryReport:
    """The entry's report, with notes of what was not as in a process alone."""
    report: EntryReport | None = ended.result
    if report is None:
        return failed(entry, job, Failure(Verdict.ERROR, ended.told))
    if ended.told:
        accuracy = tuple(
            part.model_copy(update={"timing": part.timing.noted(ended.told)}) if part.timing else part
            for part in report.accuracy
        )
        report = report.model_copy(update={"accuracy": accuracy})
    if share > 1 and report.speed and report.speed.timing:
        timing = report.speed.timing.noted(f"timed while up to {share - 1} other entries ran on the machine")
        report = report.model_copy(update={"speed": report.speed.model_copy(update={"timing": timing})})
    return report


def _may_pass(detected: Detected) -> str:
    return detected.failure.reason if detected.failure and detected.failure.may_pass else ""


def _detect(job: Job, entry: ZooEntry, done: Collection[Part], threads: int, share: int) -> Detected:
    from cascadezoo.detecting import default_workers

    _compute_with(threads)
    workers = max(1, default_workers() // share) if job.workers is None else job.workers
    with _alone_with(job.run_dir.path / entry.name):
        return detect_entry(entry, replace(job, workers=workers), done)


def _judge(job: Job, entry: ZooEntry, detected: Detected) -> EntryReport:
    return judge_entry(entry, job, detected)


@contextmanager
def _alone_with(folder: Path) -> Iterator[None]:
    """The only process that writes an entry's detections: one of a run that was killed may take a moment to end."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "detecting.lock").acquire(timeout=_PATIENCE):
            yield
    except Timeout as error:
        raise UsageError(f"another process still writes to {folder}: end it, and run the same command again") from error


def _compute_with(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
