"""Detection as recorded work: which batches are recorded, how long a recording is kept, and what leaves it.

A recording is the work of one shape of batch, on memory of its own: it reads its inputs where they were when it was
recorded, and writes its outputs where it wrote them then.  So inputs are copied in, outputs are copied out, and one
caller at a time may use it.  What records is a ``Recorder``: on a GPU ``cuda.CudaRecorder``.

Shapes: N images of H x W pixels, padded; D detections per image.
"""

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from threading import Lock
from typing import Generic, NamedTuple, Protocol, TypeVar

from torch import Tensor

from cascadezoo.modeling.network import Network
from cascadezoo.modeling.postprocess import DetectionBatch, HostRows
from cascadezoo.modeling.preprocess import Batch
from cascadezoo.modeling.transfer import packed, to_host, unpacked

CAPACITY = 8  # shapes of batches whose recordings are kept
_COUNTED = 256  # uses after which all counts are halved, so that what was frequent once gives way

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_log = logging.getLogger("cascadezoo")


class Recording(NamedTuple):
    """Work that can be done again.

    Attributes:
        outputs: tensors that each replay writes anew, in the same memory; nothing has been written before the first.
        replay: does the work.
    """

    outputs: list[Tensor]
    replay: Callable[[], object]


class Recorder(Protocol):
    """What can record a function of tensors."""

    def turn(self) -> AbstractContextManager[object]:
        """What is recorded, replayed and copied inside comes after all of earlier turns."""

    def record(self, function: Callable[..., list[Tensor]], inputs: Sequence[Tensor]) -> Recording:
        """The work of ``function(*inputs)``, whose tensors stay where they are; RuntimeError where it has none."""


class Graphs:
    """Recorded detection on batches, by their shape.  Threads take turns."""

    def __init__(self, recorder: Recorder, capacity: int = CAPACITY) -> None:
        self._recorder = recorder
        self._kept: Places[tuple[int, ...], _Graph] = Places(capacity)
        self._failed: set[tuple[int, ...]] = set()
        self._said: set[str] = set()
        self._lock = Lock()

    def run(self, network: Network, batch: Batch) -> tuple[DetectionBatch, HostRows] | None:
        """The detections of a batch, as many rows as its fullest image has, and their numbers on the host.

        None where the batch is not to be recorded: more shapes are in use than are kept, or recording failed.  The
        first time, each is logged.  ``network`` is the same in all calls.
        """
        with self._lock, self._recorder.turn():
            shape = tuple(batch.pixels.shape)
            graph = self._kept.take(shape)
            if graph is None:
                graph = self._recorded(network, batch, shape)
            return None if graph is None else graph.run(network, batch, self._try)

    def _recorded(self, network: Network, batch: Batch, shape: tuple[int, ...]) -> "_Graph | None":
        if shape in self._failed:
            return None
        if not self._kept.admits(shape):
            self._say(f"batches of more than {self._kept.capacity} shapes: the rarer ones run without a CUDA graph")
            return None
        graph = _Graph.of(network, batch, self._try)
        if graph is None:
            self._failed.add(shape)
        else:
            self._kept.put(shape, graph)
        return graph

    def _try(self, function: Callable[..., list[Tensor]], inputs: Sequence[Tensor]) -> Recording | None:
        try:
            return self._recorder.record(function, inputs)
        except RuntimeError as error:
            self._say("what cannot be recorded as a CUDA graph runs without", f" ({error})")
            return None

    def _say(self, what: str, detail: str = "") -> None:
        if what not in self._said:
            self._said.add(what)
            _log.warning("%s%s", what, detail)


Try = Callable[[Callable[..., list[Tensor]], Sequence[Tensor]], Recording | None]


class _Graph:
    """The recorded work on batches of one shape: a recording of the detections, and of the masks of so many rows each
    as are asked for."""

    def __init__(self, inputs: Batch, detecting: Recording) -> None:
        self._inputs, self._detecting = inputs, detecting
        packet, *rest = detecting.outputs
        self._packet, self._found, self._features = packet, DetectionBatch(*rest[:5]), rest[5:]
        most = self._found.boxes.shape[1]
        self._sizes = sorted({-(-most * part // 4) for part in (1, 2, 4)})
        self._masks: dict[int, Recording | None] = {}

    @classmethod
    def of(cls, network: Network, batch: Batch, record: Try) -> "_Graph | None":
        """The work on batches like this one; None where it cannot be recorded."""
        inputs = Batch(*(tensor.clone() for tensor in batch))

        def detect(*tensors: Tensor) -> list[Tensor]:
            given = Batch(*tensors)
            features = network.extract(given.pixels)
            found = network.find(features, given)[:5]
            return [packed(found), *found, *features]

        detecting = record(detect, inputs)
        return None if detecting is None else cls(inputs, detecting)

    def run(self, network: Network, batch: Batch, record: Try) -> tuple[DetectionBatch, HostRows]:
        """As ``Graphs.run``; the results are in memory of their own."""
        for static, given in zip(self._inputs, batch, strict=True):
            static.copy_(given)
        self._detecting.replay()
        like = self._found[:5]
        found = DetectionBatch(*unpacked(self._packet.clone(), like))
        (packet,) = to_host([self._packet])  # waits for the device, and nothing else does
        host = HostRows(*unpacked(packet, like)[:4])
        found = found.trim(host.rows)
        if network.spec.mask is not None:
            found = found._replace(masks=self._segmented(network, host.rows, record))
        return found, host

    def _segmented(self, network: Network, rows: int, record: Try) -> Tensor | None:
        """The masks of the first ``rows`` of each image, by the smallest recording of so many."""
        size = next(size for size in self._sizes if size >= rows)

        def segment(*features: Tensor) -> list[Tensor]:
            return [_masks(network, features, self._found.trim(size))]

        if rows and size not in self._masks:
            self._masks[size] = record(segment, self._features)
        recording = self._masks[size] if rows else None
        if recording is None:
            return _masks(network, self._features, self._found.trim(rows))
        recording.replay()
        return recording.outputs[0][:, :rows].clone()


def _masks(network: Network, features: Sequence[Tensor], found: DetectionBatch) -> Tensor:
    masks = network.segment(list(features), found).masks
    assert masks is not None
    return masks


class Places(Generic[K, V]):
    """At most ``capacity`` values by key.  A further key takes the place of the least recently used one when it has
    been wanted more often; else two programs' worth of keys in turn would push each other out every time."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._values: OrderedDict[K, V] = OrderedDict()
        self._uses: Counter[K] = Counter()

    def take(self, key: K) -> V | None:
        """The value, which then is the most recently used one; None where there is none."""
        self._uses[key] += 1
        if self._uses.total() > _COUNTED:
            self._uses = Counter({each: uses // 2 for each, uses in self._uses.items() if uses > 1})
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key]

    def admits(self, key: K) -> bool:
        """Whether a value of this key would be kept."""
        if len(self._values) < self.capacity:
            return True
        oldest = next(iter(self._values))
        return self._uses[key] > self._uses[oldest]

    def put(self, key: K, value: V) -> None:
        """Keep a value, in the place of the least recently used one where there is no other."""
        while len(self._values) >= self.capacity:
            self._values.popitem(last=False)
        self._values[key] = value
