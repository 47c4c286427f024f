"""Recorded work: the same detections as without, in memory of their own, and which batches are recorded.

In place of a GPU's recorder stands one that runs the function again, and that leaves garbage in all the memory of its
recordings between two turns: what a result shares with them is seen to change.
"""

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from cascadezoo.modeling import transfer
from cascadezoo.modeling.postprocess import DetectionBatch
from cascadezoo.modeling.preprocess import Batch
from cascadezoo.optimizing import graphs
from cascadezoo.optimizing.graphs import Graphs, Places, Recording

from tiny import lively, tiny


class Rerun:
    """Records by running, replays by running again into the same memory."""

    def __init__(self, fails: tuple[int, ...] = ()) -> None:
        self.recorded: list[tuple[int, ...]] = []  # shapes of the first inputs
        self.replays = 0
        self.fails = fails  # which attempts to record do
        self._attempts = 0
        self._memory: list[Tensor] = []
        self._turn = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        assert self._turn.acquire(blocking=False), "two at a time use the same memory"
        yield
        self._spoil(self._memory)
        self._turn.release()

    def record(self, function, inputs) -> Recording:
        self._attempts += 1
        if self._attempts in self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.recorded.append(tuple(inputs[0].shape))
        outputs = [made.clone() for made in function(*inputs)]
        self._spoil(outputs)  # what is recorded has not been done
        self._memory += [*inputs, *outputs]

        def replay() -> None:
            self.replays += 1
            for static, made in zip(outputs, function(*inputs), strict=True):
                static.copy_(made)

        return Recording(outputs, replay)

    @staticmethod
    def _spoil(tensors: list[Tensor]) -> None:
        for tensor in tensors:
            tensor.fill_(float("nan") if tensor.is_floating_point() else 171)


@pytest.fixture(scope="module")
def plain():
    return lively(tiny())


@pytest.fixture
def recorder() -> Rerun:
    return Rerun()


@pytest.fixture
def fast(plain, recorder: Rerun):
    model = plain.optimize()
    model._graphs = Graphs(recorder)
    return model


def image(number: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


def assert_same(found, expected) -> None:
    assert len(found) == len(expected) > 5
    assert torch.equal(found.labels, expected.labels)
    torch.testing.assert_close(found.boxes, expected.boxes, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.mask_probs, expected.mask_probs, atol=1e-4, rtol=0)


SIZES = [(60, 90), (90, 60), (60, 90), (64, 64), (60, 90), (90, 60)]
IMAGES = [image(number, *size) for number, size in enumerate(SIZES)]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_results_equal_those_without_and_stay_as_they_were(plain, fast, recorder: Rerun, batch_size: int) -> None:
    found = [*fast.predict(IMAGES, batch_size=batch_size), *fast.predict(IMAGES, batch_size=batch_size)]
    for one, expected in zip(found, plain.predict(IMAGES * 2, batch_size=batch_size), strict=True):
        assert_same(one, expected)
    shapes = recorder.recorded[::2]  # a batch's detections, then its masks
    assert len(shapes) == len(set(shapes)) < recorder.replays / 2


def test_what_is_wanted_is_chosen_of_what_was_recorded(plain, fast) -> None:
    """Below the model's own threshold nothing recorded helps."""
    every = plain.predict(IMAGES[0])
    wanted = {"threshold": float(every.scores.median()), "classes": [every.categories[every.labels[0]]]}
    found = fast.predict(IMAGES[0], **wanted)
    assert 0 < len(found) < len(every)
    assert_same(found, plain.predict(IMAGES[0], **wanted))
    assert_same(fast.predict(IMAGES[0]), every)
    assert_same(fast.predict(IMAGES[0], threshold=0.0), plain.predict(IMAGES[0], threshold=0.0))


def test_calls_and_batches_of_features_take_the_same_way(plain, fast, recorder: Rerun) -> None:
    given = [torch.from_numpy(each).permute(2, 0, 1) for each in IMAGES]
    with torch.no_grad():
        expected = plain(given)
    for one, other in zip(fast(given), expected, strict=True):
        torch.testing.assert_close(one["boxes"], other["boxes"], atol=1e-3, rtol=0)
        assert not one["boxes"].requires_grad
    assert recorder.replays > 0


def test_inference_mode_outside_changes_nothing(plain, fast) -> None:
    with torch.inference_mode():
        inside = fast.predict(IMAGES[0])
    assert not inside.boxes.is_inference()
    for found in (inside, fast.predict(IMAGES[0])):
        assert_same(found, plain.predict(IMAGES[0]))


def test_threads_find_what_one_alone_finds(plain, fast) -> None:
    with ThreadPoolExecutor(8) as pool:
        for found, expected in zip(pool.map(fast.predict, IMAGES * 2), plain.predict(IMAGES) * 2, strict=True):
            assert_same(found, expected)


def test_one_copy_to_the_host_a_batch(fast, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = []

    def counted(tensors):
        copies.append(sum(tensor.nbytes for tensor in tensors))
        return transfer.to_host(tensors)

    monkeypatch.setattr(graphs, "to_host", counted)
    fast.predict(IMAGES[0])
    fast.predict([IMAGES[0], IMAGES[2]], batch_size=2)
    row = 4 * 4 + 4 + 8 + 4 * 4  # a box, its score, its label, the box in network pixels
    assert copies == [100 * row + 8, 2 * (100 * row + 8)]


# which batches, which masks: a network that finds as many objects as its pixels say


class Counting:
    """Finds, on each image, as many boxes as its pixels' value, of at most eight."""

    spec = SimpleNamespace(mask=object())

    def __init__(self) -> None:
        self.segmented: list[int] = []  # rows

    def extract(self, pixels: Tensor) -> list[Tensor]:
        return [pixels + 0.0]

    def find(self, features: list[Tensor], batch: Batch) -> DetectionBatch:
        counts = features[0].amax((1, 2, 3)).long()
        rows = torch.arange(8.0) * batch.scales[:, :1] * batch.sizes[:, :1] * batch.original_sizes[:, :1]
        boxes = rows[..., None].expand(-1, -1, 4).contiguous()
        return DetectionBatch(boxes, rows / 10, rows.long(), counts, boxes * 2)

    def segment(self, features: list[Tensor], found: DetectionBatch) -> DetectionBatch:
        self.segmented.append(found.boxes.shape[1])
        return found._replace(masks=found.rois.sum(-1)[..., None, None] + features[0][:, None, 0])


def batch(*counts: int, width: int = 4) -> Batch:
    numbers = [torch.full((len(counts), 2), float(each + sum(counts))) for each in (1, 2, 3)]
    return Batch(torch.tensor(counts).float()[:, None, None, None].expand(-1, 3, 2, width), *numbers)


def alone(given: Batch, rows: int) -> DetectionBatch:
    """What ``Counting`` finds without a recording."""
    network = Counting()
    features = network.extract(given.pixels)
    return network.segment(features, network.find(features, given).trim(rows))


@pytest.mark.parametrize(
    ("counts", "rows", "recorded"),
    [
        ((0,), 0, []),
        ((1,), 1, [2]),
        ((2, 1), 2, [2]),
        ((3,), 3, [4]),
        ((1, 4), 4, [4]),
        ((5, 0), 5, [8]),
        ((8,), 8, [8]),
    ],
)
def test_masks_are_those_of_the_smallest_recording(counts, rows: int, recorded: list[int], recorder: Rerun) -> None:
    network, given = Counting(), batch(*counts)
    found, host = Graphs(recorder).run(network, given)
    assert host.counts.tolist() == list(counts)
    assert network.segmented == (recorded * 2 or [0])  # recorded and replayed; of no rows there is nothing to record
    expected = alone(given, rows)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(host.boxes[:, :rows], expected.boxes)


def test_a_recording_of_masks_is_made_once(recorder: Rerun) -> None:
    kept, network = Graphs(recorder), Counting()
    for count in (1, 2, 7, 1, 8, 0, 2):
        found, _ = kept.run(network, batch(count))
        for one, other in zip(found, alone(batch(count), count), strict=True):
            assert torch.equal(one, other)
    assert recorder.recorded == [(1, 3, 2, 4)] * 3  # detections, masks of 2 and of 8
    assert recorder.replays == 7 + 6


def test_a_network_without_masks_has_none(recorder: Rerun) -> None:
    network = Counting()
    network.spec = SimpleNamespace(mask=None)
    found, _ = Graphs(recorder).run(network, batch(3))
    assert found.masks is None
    assert network.segmented == []


def test_shapes_beyond_those_kept_run_without_and_it_is_said_once(recorder: Rerun, caplog) -> None:
    kept, network = Graphs(recorder, capacity=2), Counting()
    with caplog.at_level(logging.WARNING, "cascadezoo"):
        ran = [kept.run(network, batch(0, width=width)) is not None for width in (2, 3, 4, 5, 2, 3, 4, 5, 2)]
    assert ran == [True, True, False, False, True, True, False, False, True]
    assert len(recorder.recorded) == 2
    assert caplog.messages == ["batches of more than 2 shapes: the rarer ones run without a CUDA graph"]


def test_a_shape_that_comes_more_often_takes_the_place_of_the_least_recently_used(recorder: Rerun) -> None:
    kept, network = Graphs(recorder, capacity=2), Counting()
    for width in (2, 3, 2, 4, 4):
        kept.run(network, batch(0, width=width))
    assert [shape[-1] for shape in recorder.recorded] == [2, 3, 4]
    assert kept.run(network, batch(0, width=3)) is None
    assert kept.run(network, batch(0, width=2)) is not None


def test_what_was_frequent_once_gives_way() -> None:
    places: Places[str, int] = Places(1)
    for _ in range(200):
        places.take("old")
    places.put("old", 1)
    uses = 0
    while not places.admits("new"):
        places.take("new")
        uses += 1
    assert uses < 200
    places.put("new", 2)
    assert places.take("old") is None
    assert places.take("new") == 2


@pytest.mark.parametrize(("fails", "recorded"), [((1,), 0), ((2,), 1)])
def test_what_cannot_be_recorded_runs_without_and_it_is_said_once(fails, recorded: int, caplog) -> None:
    recorder, network = Rerun(fails), Counting()
    kept = Graphs(recorder)
    with caplog.at_level(logging.WARNING, "cascadezoo"):
        found = [kept.run(network, batch(3)) for _ in range(3)]
    assert len(recorder.recorded) == recorded
    assert caplog.messages == [
        "what cannot be recorded as a CUDA graph runs without (operation not permitted when stream is capturing)"
    ]
    if not recorded:
        assert found == [None] * 3
    else:  # the masks alone
        assert all(torch.equal(each[0].masks, alone(batch(3), 3).masks) for each in found)


def test_an_error_of_the_network_itself_is_told(recorder: Rerun) -> None:
    network = Counting()
    network.find = lambda features, batch: 1 / 0
    with pytest.raises(ZeroDivisionError):
        Graphs(recorder).run(network, batch(1))


def test_a_model_detects_without_a_recording_where_there_is_none(plain, caplog) -> None:
    model = plain.optimize()
    model._graphs = Graphs(Rerun(fails=(1,)))
    with caplog.at_level(logging.WARNING, "cascadezoo"):
        assert_same(model.predict(IMAGES[0]), plain.predict(IMAGES[0]))
    assert len(caplog.messages) == 1
