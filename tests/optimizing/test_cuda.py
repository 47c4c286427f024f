"""CUDA graphs: the calls that record and replay one, in their order, and, where there is a GPU, its results."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Thread

import numpy as np
import pytest
import torch

from cascadezoo.ops import library
from cascadezoo.optimizing.cuda import CudaRecorder, graphs_on
from cascadezoo.optimizing.graphs import Graphs

from tiny import lively, tiny


class FakeCuda:
    """torch.cuda, as far as a recorder uses it: says what it is asked to do, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.stream = FakeStream(self, "the caller's stream")
        self.capture_fails = False
        for name in ("Stream", "current_stream", "graph_pool_handle", "CUDAGraph", "device", "stream", "graph"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, f"_{name}"))

    def _Stream(self, device: torch.device) -> "FakeStream":
        return FakeStream(self, f"a stream of {device}")

    def _current_stream(self) -> "FakeStream":
        return self.stream

    def _graph_pool_handle(self) -> str:
        return "pool"

    def _CUDAGraph(self) -> "FakeGraph":
        return FakeGraph(self)

    @contextmanager
    def _device(self, device: torch.device) -> Iterator[None]:
        self.calls.append(f"on {device}")
        yield
        self.calls.append(f"off {device}")

    @contextmanager
    def _stream(self, stream: "FakeStream") -> Iterator[None]:
        before, self.stream = self.stream, stream
        yield
        self.stream = before

    @contextmanager
    def _graph(self, graph: "FakeGraph", pool: str, stream: "FakeStream", capture_error_mode: str) -> Iterator[None]:
        self.calls.append(f"record into the {pool}, {capture_error_mode}")
        with self._stream(stream):
            yield
        if self.capture_fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.calls.append("recorded")


class FakeStream:
    def __init__(self, cuda: FakeCuda, name: str) -> None:
        self.cuda, self.name = cuda, name

    def wait_stream(self, other: "FakeStream") -> None:
        self.cuda.calls.append(f"{self.name} waits for {other.name}")

    def wait_event(self, event: str) -> None:
        self.cuda.calls.append(f"{self.name} waits for {event}")

    def record_event(self) -> str:
        self.cuda.calls.append(f"{self.name} is here")
        return f"what {self.name} did"


class FakeGraph:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda

    def replay(self) -> None:
        self.cuda.calls.append(f"replay on {self.cuda.stream.name}")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


DEVICE = torch.device("cuda", 1)


def test_recording_warms_up_on_a_stream_of_its_own_and_records_there(fake: FakeCuda) -> None:
    given = torch.tensor([2.0])

    def double(x: torch.Tensor) -> list[torch.Tensor]:
        fake.calls.append(f"run on {fake.stream.name}")
        return [2 * x]

    outputs, replay = CudaRecorder(DEVICE).record(double, [given])
    replay()
    assert fake.calls == [
        "a stream of cuda:1 waits for the caller's stream",
        "run on a stream of cuda:1",
        "run on a stream of cuda:1",
        "the caller's stream waits for a stream of cuda:1",
        "record into the pool, thread_local",
        "run on a stream of cuda:1",
        "recorded",
        "replay on the caller's stream",
    ]
    assert outputs[0].tolist() == [4.0]


def test_turns_follow_each_other_on_whatever_stream(fake: FakeCuda) -> None:
    recorder = CudaRecorder(DEVICE)
    with recorder.turn():
        fake.calls.append("first")
    fake.stream = FakeStream(fake, "another stream")
    with pytest.raises(ZeroDivisionError), recorder.turn():
        raise ZeroDivisionError
    with recorder.turn():
        fake.calls.append("third")
    assert fake.calls == [
        *("on cuda:1", "first", "the caller's stream is here", "off cuda:1"),
        *("on cuda:1", "another stream waits for what the caller's stream did", "another stream is here"),
        *("on cuda:1", "another stream waits for what another stream did", "third", "another stream is here"),
        "off cuda:1",
    ]


def test_one_recording_at_a_time_in_the_process(fake: FakeCuda) -> None:
    inside = []

    def function() -> list[torch.Tensor]:
        if not inside:
            inside.append(Thread(target=CudaRecorder(DEVICE).record, args=(lambda: fake.calls.append("other"), ())))
            inside[0].start()
            inside[0].join(0.2)
        return []

    CudaRecorder(DEVICE).record(function, ())
    inside[0].join()
    assert fake.calls.index("recorded") < fake.calls.index("other")


def test_a_failed_recording_leaves_the_way_free(fake: FakeCuda) -> None:
    recorder = CudaRecorder(DEVICE)
    fake.capture_fails = True
    with pytest.raises(RuntimeError, match="not permitted"):
        recorder.record(list, ())
    fake.capture_fails = False
    recorder.record(list, ())


def test_graphs_are_for_operators_that_can_be_recorded(fake: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "COMPILED", ("cpu", "cuda"))
    assert isinstance(graphs_on(DEVICE), Graphs)


# on a GPU


def image(number: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.skipif(
    not (torch.cuda.is_available() and "cuda" in library.COMPILED), reason="needs a GPU and the operators built for it"
)
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_graphs_on_cuda_find_what_is_found_without(precision: str, caplog: pytest.LogCaptureFixture) -> None:
    model = lively(tiny())
    options = {"device": "cuda", "precision": precision}
    fast, plain = model.optimize(**options, cuda_graph=True), model.optimize(**options, cuda_graph=False)
    images = [image(number, *size) for number, size in enumerate([(60, 90), (90, 60), (60, 90), (64, 64)] * 2)]
    expected = plain.predict(images)
    found = [*fast.predict(images), *fast.predict(images)]
    with ThreadPoolExecutor(4) as pool:
        found += pool.map(fast.predict, images)
    for one, other in zip(found, expected * 3, strict=True):
        assert torch.equal(one.labels, other.labels)
        torch.testing.assert_close(one.boxes, other.boxes, atol=1e-2, rtol=0)
        torch.testing.assert_close(one.scores, other.scores, atol=1e-3, rtol=0)
        torch.testing.assert_close(one.mask_probs, other.mask_probs, atol=1e-2, rtol=0)
    assert not caplog.messages  # nothing ran without
