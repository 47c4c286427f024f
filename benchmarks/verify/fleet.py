"""Pieces of work on a cluster of Ray, each in a process of its own, so that no crash can harm the next piece.

An entry is two pieces: detecting holds a device, judging a CPU alone, behind the next entry's detecting.  What is run
is given by the caller; torch is not imported here.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from cascadezoo.benchmarks.verify.schedule import Left, Retries, Schedule
from cascadezoo.errors import MissingResource, UsageError

EngineName = Literal["ray"]
Reference: TypeAlias = Any  # to a result of Ray's, once it is there

_TICK = 1.0  # seconds between looks at the cluster
_OBJECTS = 2**27  # bytes of shared memory for results of a local cluster: they are small, detections lie on disk

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # Ray's own 15 lets any other program keep a device waiting
}

_log = logging.getLogger("cascadezoo")


class Ended(NamedTuple):
    """One entry at its end.

    Attributes:
        name: the entry's.
        result: what judging gave; None where the work was lost again and again.
        told: how often and why it was lost, as a phrase; empty where it never was.
    """

    name: str
    result: Any
    told: str


def require_ray() -> None:
    """Raise MissingResource where Ray is not installed; it is not imported."""
    if find_spec("ray") is None:
        raise MissingResource('--engine ray needs Ray: pip install "ray[data]"')


def require_engine(engine: str | None, address: str | None, run_dir: object) -> None:
    """Raise UsageError or MissingResource where there is no such engine, or none for this call; quick."""
    if engine not in (None, *get_args(EngineName)):
        raise UsageError(f"no engine is called {engine!r}: give ray, or none")
    if address is not None and engine != "ray":
        raise UsageError("an address is of Ray's cluster: give --engine ray with it")
    if engine == "ray":
        require_ray()
        if address is not None and run_dir is None:
            raise UsageError("the machines of a cluster meet in a run folder: give --run-dir DIR, where all can write")
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UsageError("torchrun and --engine ray both share out the work: use one of them")


@dataclass(frozen=True)
class Cluster:
    """A connection to Ray.

    Attributes:
        device: what detecting computes on, "cuda" or "cpu".
        threads: that one piece computes with on a CPU.
        share: pieces that detect at a time on one machine.
        is_local: the cluster is this machine alone and ends with this process.
    """

    device: str
    threads: int
    share: int
    is_local: bool

    def slots(self) -> int:
        """Pieces that can detect at a time now."""
        resources = _ray().cluster_resources()
        return int(resources.get("GPU", 0) if self.device == "cuda" else resources.get("CPU", 0) // self.threads)

    def detect(self, work: Callable[..., Any], *arguments: Any) -> Reference:
        """Begin ``work`` in a new process that has a device for itself."""
        return self._begin(work, arguments, max_calls=1, **self._device(1))

    def judge(self, work: Callable[..., Any], *arguments: Any) -> Reference:
        """Begin ``work`` on one CPU."""
        return self._begin(work, arguments, num_cpus=1)

    def put(self, value: Any) -> Reference:
        """A value that many pieces are given, sent to each machine once."""
        return _ray().put(value)

    def everywhere(self, work: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """What ``work`` gives on each machine that has devices, by the machine's name."""
        ray = _ray()
        pinned = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        kind = "GPU" if self.device == "cuda" else "CPU"
        nodes = [node for node in _nodes(ray) if node["Resources"].get(kind)]
        share = 0.01  # of a device: enough to see it
        begun = {
            node["NodeManagerHostname"]: self._begin(
                work, arguments, 1, scheduling_strategy=pinned(node["NodeID"], soft=False), **self._device(share)
            )
            for node in nodes
        }
        return {host: ray.get(reference) for host, reference in begun.items()}

    def _device(self, share: float) -> dict[str, Any]:
        if self.device == "cuda":
            return {"num_cpus": 0, "num_gpus": share}
        return {"num_cpus": self.threads if share == 1 else share}

    def _begin(
        self, work: Callable[..., Any], arguments: tuple[Any, ...], max_calls: int = 0, **options: Any
    ) -> Reference:
        """``max_calls``: pieces until the process ends; 0: it goes on with the next one."""
        return _remote(work, max_calls).options(**options).remote(*arguments)


@contextmanager
def cluster(address: str | None, device: str | None, threads: int, **told: int) -> Iterator[Cluster]:
    """The cluster at an address, or one of this machine that ends with the context; a connection that is there is used.

    Args:
        address: as Ray takes it, such as auto or HOST:6379; None: this machine.
        device: "cuda", "cpu", or None for GPUs where the cluster has any.
        threads: that one piece computes with on a CPU.
        told: what this machine's cluster is to believe in, such as num_gpus; default: what is there.

    Raises:
        UsageError: another device.
        MissingResource: Ray is not installed, nothing answers at the address, or the cluster has no such device.
    """
    require_ray()
    if device not in (None, "cuda", "cpu"):
        raise UsageError(f"--engine ray gives each entry a GPU of its own: give the device cuda or cpu, not {device}")
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    ray = import_module("ray")
    is_ours = not ray.is_initialized()
    if is_ours:
        _connect(ray, address, told)
    try:
        resources = ray.cluster_resources()
        if device == "cuda" and not resources.get("GPU"):
            raise MissingResource("Ray's cluster has no GPU: give the device cpu, or start Ray with --num-gpus N")
        chosen = device or ("cuda" if resources.get("GPU") else "cpu")
        if chosen == "cpu" and resources.get("CPU", 0) < threads:
            raise MissingResource(
                f"Ray's cluster has {resources.get('CPU', 0):.0f} CPUs, and one entry computes with {threads} threads: "
                "set OMP_NUM_THREADS to fewer"
            )
        gpus, cpus = (max(int(node["Resources"].get(kind, 0)) for node in _nodes(ray)) for kind in ("GPU", "CPU"))
        if chosen == "cuda":
            threads = max(1, cpus // gpus)
        yield Cluster(chosen, threads, gpus if chosen == "cuda" else cpus // threads, is_ours and address is None)
    finally:
        if is_ours:
            ray.shutdown()


def _connect(ray: Any, address: str | None, told: Mapping[str, int]) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None:
            ray.init("local", include_dashboard=False, object_store_memory=_OBJECTS, **told, **quiet)
        else:
            ray.init(address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        where = f"no Ray cluster answers at {address}" if address else "Ray cannot start on this machine"
        raise MissingResource(f"{where}: {_first_line(error)}") from error
    # what Ray says of a process that died would go to stdout, among the results; it is told in our own words
    printing: Any = import_module("ray._private.worker")
    printing._worker_logs_enabled = False


def run(
    pieces: Cluster,
    schedule: Schedule,
    detect: Callable[[str], Reference],
    judge: Callable[[str, Any], Reference],
    *,
    may_pass: Callable[[Any], str] = lambda detected: "",
    retries: Retries | None = None,
    left: Left = lambda seconds: None,
) -> Iterator[Ended]:
    """Every entry of the schedule, as it ends: the longest first, as many at a time as there are devices.

    Args:
        detect: begins the first piece of an entry.
        judge: begins the second, with what the first gave.
        may_pass: why what the first piece gave may be better another time, such as a server's fault; empty: it is good.
        retries: how often a lost piece is tried again.
        left: called about once a second with the seconds that are left.
    """
    ray, retries = _ray(), retries or Retries()
    begun: dict[Reference, tuple[str, Any]] = {}  # what was detected where it is being judged, else None
    try:
        while begun or not schedule.is_done:
            slots = pieces.slots()
            ahead = slots if pieces.device == "cuda" else 0  # whose processes start while devices are busy
            while (name := schedule.take(time.monotonic(), slots, ahead)) is not None:
                begun[detect(name)] = name, None
            if not begun:
                time.sleep(_TICK)  # no machine is there now
            for reference in ray.wait(list(begun), timeout=_TICK)[0] if begun else ():
                name, detected = begun.pop(reference)
                value, reason, again = _outcome(ray, reference)
                if detected is None and not reason:
                    reason = may_pass(value)
                    again = bool(reason)
                again = retries.again(name, reason) and again if reason else False
                if again:
                    _log.warning("%s: %s; it is tried again (%d of %d)", name, reason, *retries.count(name))
                if detected is None:
                    if again:
                        schedule.give_back(name, time.monotonic())
                        continue
                    schedule.finish(name, time.monotonic(), measured=not reason)
                if value is None and not again:
                    yield Ended(name, None, retries.told(name))
                elif detected is None:
                    begun[judge(name, value)] = name, value
                elif again:
                    begun[judge(name, detected)] = name, detected
                else:
                    yield Ended(name, value, retries.told(name))
            left(schedule.left(time.monotonic(), slots))
    finally:
        for reference in begun:
            ray.cancel(reference, force=True)


def _outcome(ray: Any, reference: Reference) -> tuple[Any, str, bool]:
    """A piece's result, or None, why it was lost, and whether another time may be better."""
    try:
        return ray.get(reference), "", False
    except ray.exceptions.RayTaskError as error:  # Python's own: it would be the same again
        return None, f"{type(error.cause).__name__}: {error.cause}", False
    except ray.exceptions.OutOfMemoryError:
        return None, "its process was ended since the machine ran out of memory", True
    except ray.exceptions.WorkerCrashedError:
        return None, "its process died (killed, or a crash in native code)", True
    except ray.exceptions.RayError as error:  # its machine, or the way to it
        return None, f"Ray lost it ({type(error).__name__}: {_first_line(error)})", True


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


@cache
def _remote(work: Callable[..., Any], max_calls: int) -> Any:
    """Made once: Ray keeps the order of what is begun, and starts processes ahead, for one such function at a time."""
    return _ray().remote(max_calls=max_calls, max_retries=0)(work)


def _nodes(ray: Any) -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _ray() -> Any:
    return import_module("ray")
