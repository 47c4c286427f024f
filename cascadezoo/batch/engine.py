"""Parts of the images on Ray: fetched by tasks, detected on by ``Predictor`` actors, handed back as they are finished.

Ray Data streams: what is fetched waits in a machine's object store for a free actor, and fetching pauses where that is
full.
"""

import json
import logging
import logging.config
import os
import pickle
import re
import socket
import sys
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, NamedTuple

import numpy as np

from cascadezoo.batch.fetching import Columns, fetch, is_fetched, name_of, packed
from cascadezoo.batch.parts import Part
from cascadezoo.errors import CascadezooError, MissingResource, UsageError, WorkerLost
from cascadezoo.predictor import Predictor

_THREADS = 2  # of an actor on the CPU, where there are so many
_FETCHERS = 2  # tasks at once for each actor
_ATTEMPTS = 3  # at some images, by actors whose processes died of them
_PATIENCE = 10  # seconds for a cluster to answer
_HOST = re.compile(r"(?:ray://)?(?P<host>[^/]+):(?P<port>\d+)")
_STDERR = 2  # the descriptor
_OF_ROW = ("height", "width", "detections", "error", "error_type")


class _Share(NamedTuple):
    """How many actors there are, and what each is given."""

    actors: int
    cpus: int
    gpus: float


def detected(
    predictor: Predictor, parts: Sequence[Part], *, address: str | None = None, actors: int | None = None
) -> Generator[tuple[Part, list[str]], None, None]:
    """Each part as soon as it is finished, with one JSON line per image (``batch.parts``).

    Close the iterator to end Ray's processes early; until its end stdout is silenced, for Ray's sake.

    Args:
        predictor: its device is "cpu", "cuda", or None: GPUs where the cluster has some.
        parts: those to do.
        address: of a running cluster, as ``ray.init`` takes it; None: one of this process's own, which ends with it.
        actors: how many; None: one per GPU, or on the CPU one for every two cores.

    Raises:
        WorkerLost: actors' processes died again and again.
        MissingResource: no cluster at the address, no GPU in it, or what an actor needs is not there.
        UsageError: more actors than the cluster has CPUs.
        OutOfMemory: a device has no room even for one image.
    """
    with _silent():
        ray = _started(address)
        try:
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            yield from _stream(ray, predictor, parts, _share(nodes, predictor.device, actors))
        finally:
            ray.shutdown()


@contextmanager
def _silent() -> Iterator[None]:
    """Ray writes nothing to our streams inside: its threads print to stdout, and its C++ parts, which have log files of
    their own, to stderr at any level that they can be set to.  What Python writes to stderr is still shown."""
    stderr = sys.stderr
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        if _descriptor(stderr) != _STDERR:
            yield
            return
        stderr.flush()
        with os.fdopen(os.dup(_STDERR), "w", 1, stderr.encoding, "replace") as copy, redirect_stderr(copy):
            os.dup2(nowhere.fileno(), _STDERR)
            try:
                yield
            finally:
                os.dup2(copy.fileno(), _STDERR)


def _descriptor(stream: Any) -> int | None:
    try:
        return int(stream.fileno())
    except (AttributeError, OSError):
        return None


def _started(address: str | None) -> Any:
    """Ray, without words on our terminal, its dashboard, and reports to its makers."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    import ray.data

    own = {} if address else {"include_dashboard": False}
    try:
        if found := _HOST.fullmatch(address or ""):  # Ray would try for minutes
            socket.create_connection((found["host"], int(found["port"])), _PATIENCE).close()
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.CRITICAL, **own)
    except (OSError, ValueError, RuntimeError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MissingResource(f"no Ray cluster can be used at {address or 'this machine'}: {reason}") from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    quiet = {name: {"level": logging.CRITICAL} for name in ("ray", "ray.data")}
    logging.config.dictConfig({"version": 1, "incremental": True, "loggers": quiet})
    return ray


def _share(nodes: Sequence[dict[str, float]], device: object, actors: int | None) -> _Share:
    """``nodes``: what each machine of the cluster has, by Ray's names."""
    cpus, gpus = ([int(node.get(name, 0)) for node in nodes] for name in ("CPU", "GPU"))
    if device == "cuda" and not any(gpus):
        raise MissingResource("the Ray cluster has no GPU: give --device cpu, or a cluster that has some")
    if device != "cpu" and any(gpus):
        actors = actors or sum(gpus)
        return _Share(actors, 1, 1 / -(-actors // sum(gpus)))

    def places(threads: int) -> int:
        return sum(each // threads for each in cpus)

    actors = actors or places(_THREADS) or 1
    threads = next((each for each in range(max(cpus), 0, -1) if places(each) >= actors), 0)
    if not threads:
        raise UsageError(f"{actors} actors on {sum(cpus)} CPUs: give at most one for each (--actors)")
    return _Share(actors, threads, 0)


def _stream(ray: Any, predictor: Predictor, parts: Sequence[Part], share: _Share) -> Iterator[tuple[Part, list[str]]]:
    dataset = ray.data.from_items([{"part": packed(part)} for part in parts], override_num_blocks=len(parts))
    actors = min(share.actors, len(parts))
    if any(map(is_fetched, parts)):
        fetchers = min(_FETCHERS * actors, len(parts))
        dataset = dataset.map_batches(fetch, batch_size=None, num_cpus=0, concurrency=fetchers)
    attempts = ray.remote(num_cpus=0)(_Attempts).remote()
    results = dataset.map_batches(
        _Actor,
        fn_constructor_args=(predictor, os.getcwd(), attempts),
        batch_size=None,
        num_cpus=share.cpus,
        num_gpus=share.gpus,
        compute=ray.data.ActorPoolStrategy(size=actors),
    )
    by_number = {part.number: part for part in parts}
    found: dict[int, dict[int, str]] = defaultdict(dict)  # of the parts that have come in pieces
    for batch in results.iter_batches(batch_size=None, batch_format="numpy"):
        if any(batch["error"]):
            raise pickle.loads(batch["error"][0])  # from an actor of our own
        for number, image_id, line in zip(
            *(batch[each].tolist() for each in ("part", "image_id", "line")), strict=True
        ):
            found[number][image_id] = line
            if len(found[number]) == len(by_number[number].names):
                lines = found.pop(number)
                yield by_number[number], [lines[each] for each in sorted(lines)]


class _Attempts:
    """Counts attempts in a process that outlives those that make them: Ray itself would go on for ever."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, image_id: int) -> int:
        """How often work on the images from this one on has begun, with this time."""
        self._begun[image_id] += 1
        return self._begun[image_id]


class _Actor:
    """A process that detects; relative paths mean there what they mean to whoever gave them."""

    def __init__(self, predictor: Predictor, folder: str, attempts: Any) -> None:
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
        with suppress(OSError):  # a machine without this folder: that its files are not there is told for each
            os.chdir(folder)
        self._predictor, self._attempts = predictor, attempts

    def __call__(self, batch: Columns) -> Columns:
        """``part``, ``image_id`` and the JSON line of each image, of fetched images or of a part of files.

        What ends the job is in ``error``, pickled: Ray would keep its words alone.
        """
        if "name" not in batch:
            (batch,) = fetch(batch)
        names = [name_of(value) for value in batch["name"]]
        lines, end = [""] * len(names), b""
        try:
            self._begin(int(batch["image_id"][0]), names)
            rows = self._predictor({**batch, "path": np.array(names, object)})
            of_rows = zip(batch["image_id"].tolist(), names, *(rows[column] for column in _OF_ROW), strict=True)
            lines = [_line(*of_row) for of_row in of_rows]
        except CascadezooError as error:
            end = pickle.dumps(error)
        return {
            "part": batch["part"],
            "image_id": batch["image_id"],
            "line": np.array(lines, object),
            "error": np.array([end] * len(names), object),
        }

    def _begin(self, image_id: int, names: list[str]) -> None:
        import ray

        if ray.get(self._attempts.begin.remote(image_id)) > _ATTEMPTS:
            raise WorkerLost(
                f"processes that detect ended by themselves {_ATTEMPTS} times at {names[0]} or one of the "
                f"{len(names) - 1} images after it, mostly for want of memory: take fewer (--actors), or leave such an "
                "image out; what is finished is kept"
            )


def _line(image_id: int, name: str, height: int, width: int, detections: str, error: str, error_type: str) -> str:
    if error:
        return json.dumps({"image_id": image_id, "file_name": name, "error": error, "error_type": error_type})
    head = json.dumps({"image_id": image_id, "file_name": name, "height": int(height), "width": int(width)})
    return f'{head[:-1]}, "detections": {detections}}}'  # which is JSON already
