"""Many images: how they are batched, prepared ahead of the device, and run where memory is short."""

import multiprocessing
import os
import signal
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cascadezoo import detecting
from cascadezoo.coco.dataset import read_annotated
from cascadezoo.detecting import (
    Fitting,
    batched,
    default_workers,
    equal_neighbours,
    is_out_of_memory,
    plan,
    prepared,
)
from cascadezoo.errors import BadAnnotations, MissingResource, OutOfMemory, UnreadableImage
from cascadezoo.modeling.preprocess import ResizedImage

from tiny import tiny

CPU = torch.device("cpu")


def test_a_group_goes_as_soon_as_it_is_full_and_the_others_at_the_end() -> None:
    taken: list[str] = []
    items = (taken.append(item) or item for item in ["a1", "b1", "a2", "c1", "a3", "b2"])
    groups = batched(items, key=lambda item: item[0], batch_size=2)
    assert next(groups) == ["a1", "a2"]
    assert taken == ["a1", "b1", "a2"]  # nothing is taken before it is needed
    assert list(groups) == [["b1", "b2"], ["c1"], ["a3"]]


def test_with_too_many_waiting_the_largest_group_goes_as_it_is() -> None:
    groups = batched(["a1", "b1", "b2", "c1", "d1", "a2"], key=lambda item: item[0], batch_size=4, waiting=4)
    # four wait after c1, of which b has two; then a1, c1, d1 and a2
    assert list(groups) == [["b1", "b2"], ["a1", "a2"], ["c1"], ["d1"]]
    assert list(batched("abc", key=str, batch_size=2, waiting=2)) == [["a"], ["b"], ["c"]]
    assert list(batched([], key=str, batch_size=2)) == []


def test_planned_batches_hold_images_of_one_padded_size() -> None:
    sizes = [(60, 80), (80, 60), (60, 80), (60, 80), (50, 90), (60, 80), (80, 60), (60, 80)]
    # 60x80 is enlarged to 64x85, padded to 64x96, and so is 50x90 from 53x96
    assert plan(sizes, tiny(), 3) == [[0, 2, 3], [4, 5, 7], [1, 6]]
    assert plan(sizes, tiny(), 1) == [[index] for index in range(8)]


def image(height: int, width: int) -> ResizedImage:
    return ResizedImage(np.zeros((height, width, 3), np.uint8), (height, width), 1.0)


def test_neighbours_of_one_padded_size_stay_in_order() -> None:
    images = [image(33, 64), image(64, 33), image(65, 64), image(40, 50)]
    runs = [[each.size for each in run] for run in equal_neighbours(images, tiny().preprocess)]
    assert runs == [[(33, 64), (64, 33)], [(65, 64)], [(40, 50)]]


def test_an_image_is_held_to_its_annotated_size(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((4, 6, 3), 7, np.uint8))
    assert read_annotated(tmp_path / "a.png", 4, 6).tolist() == [[[7, 7, 7]] * 6] * 4
    for height, width in ((6, 4), (4, 7), (3, 6)):
        with pytest.raises(BadAnnotations, match=rf"a\.png is 4x6 pixels .* annotated as {height}x{width}"):
            read_annotated(tmp_path / "a.png", height, width)
    with pytest.raises(MissingResource):
        read_annotated(tmp_path / "none.png", 4, 6)


def twice(number: int) -> tuple[int, int]:
    """The number doubled, and the process that did it."""
    if number < 0:
        raise UnreadableImage(f"{number} is no image")
    return 2 * number, os.getpid()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_items_come_prepared_batch_by_batch(workers: int) -> None:
    found = list(prepared([[3, 1], [2], [4, 4]], twice, workers))
    assert [[value for value, _ in batch] for batch in found] == [[6, 2], [4], [8, 8]]
    processes = {process for batch in found for _, process in batch}
    assert (processes == {os.getpid()}) == (workers == 0)
    assert len(processes) == max(1, workers)
    assert list(prepared([], twice, workers)) == []


def test_there_are_no_more_workers_than_batches() -> None:
    with closing(prepared([[1]], twice, workers=2)) as source:
        next(source)
        assert len(multiprocessing.active_children()) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_comes_in_its_turn(workers: int) -> None:
    source = prepared([[1], [2, -5], [3]], twice, workers)
    assert next(source)[0][0] == 2
    with pytest.raises(UnreadableImage, match=r"^-5 is no image$") as error:
        next(source)
    assert error.traceback
    assert multiprocessing.active_children() == []  # although the traceback lives


def test_workers_end_when_the_source_is_closed() -> None:
    source = prepared([[1], [2], [3]], twice, workers=2)
    next(source)
    assert len(multiprocessing.active_children()) == 2
    source.close()
    assert multiprocessing.active_children() == []


def test_a_prepared_array_stays_an_array() -> None:
    ((array,),) = prepared([[3]], np.zeros, workers=1)
    assert isinstance(array, np.ndarray)


def handlers(_: int) -> list[object]:
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_signals_are_the_parents_business() -> None:
    before = handlers(0)
    with closing(prepared([[0]], handlers, workers=1)) as source:
        assert next(source) == [[signal.SIG_IGN, signal.SIG_IGN]]
    assert handlers(0) == before


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 1), (5, 4), (9, 8), (64, 8)])
def test_workers_leave_a_core_to_the_device(monkeypatch, cores: int, workers: int) -> None:
    monkeypatch.setattr(detecting.os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert default_workers() == workers


class Device:
    """Doubles numbers, ``room`` at a time."""

    def __init__(self, room: int, error: Exception | None = None) -> None:
        self.room, self.error = room, error or torch.OutOfMemoryError("CUDA out of memory")
        self.tried: list[int] = []

    def __call__(self, numbers) -> list[int]:
        self.tried.append(len(numbers))
        if len(numbers) > self.room:
            raise self.error
        return [2 * number for number in numbers]


@pytest.mark.parametrize(
    ("room", "batch_size", "tried", "left"),
    [
        (8, 8, [7, 2], 8),
        (7, 8, [7, 2], 8),
        (6, 8, [7, 4, 3, 2], 4),  # half of the seven that were tried, and once more for the rest of them
        (3, 8, [7, 4, 2, 2, 2, 1, 2], 2),
        (1, 2, [2] + [1] * 9, 1),
        (5, 5, [5, 2, 2], 5),
    ],
)
def test_batches_are_halved_until_they_fit(room: int, batch_size: int, tried: list[int], left: int) -> None:
    device = Device(room)
    detect = Fitting(device, batch_size, CPU)
    assert detect(range(7)) == [0, 2, 4, 6, 8, 10, 12]
    assert detect([7, 8]) == [14, 16]
    assert (device.tried, detect.batch_size) == (tried, left)
    assert detect([]) == []


def test_every_halving_is_noted_and_the_first_is_logged(caplog) -> None:
    detect = Fitting(Device(1), 4, CPU)
    detect([1, 2, 3, 4])
    notes = [
        "out of memory with 4 images at a time on cpu: went on with 2",
        "out of memory with 2 images at a time on cpu: went on with 1",
    ]
    assert detect.notes == notes
    assert [(record.name, record.levelname, record.message) for record in caplog.records] == [
        ("cascadezoo", "WARNING", notes[0])
    ]


def test_no_room_for_one_image_is_an_error() -> None:
    device = Device(0)
    with pytest.raises(OutOfMemory, match=r"^cpu has too little memory for one image at a time: take another device$"):
        Fitting(device, 3, CPU)([1, 2, 3])
    assert device.tried == [3, 2, 1]


def test_other_errors_pass_through() -> None:
    for error in (RuntimeError("shape mismatch"), ZeroDivisionError()):
        device = Device(0, error)
        with pytest.raises(type(error)):
            Fitting(device, 3, CPU)([1, 2, 3])
        assert device.tried == [3]


def test_every_way_to_say_out_of_memory_is_known() -> None:
    for text in (
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`",
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes",
        "could not create a primitive",
    ):
        assert is_out_of_memory(RuntimeError(text))
    assert is_out_of_memory(torch.OutOfMemoryError("no room"))
    assert is_out_of_memory(MemoryError("std::bad_alloc"))
    with pytest.raises(cv2.error) as no_memory:
        cv2.resize(np.zeros((1, 1), np.uint8), (2**31 - 1, 2**20))
    assert is_out_of_memory(no_memory.value)
    with pytest.raises(cv2.error) as no_size:
        cv2.resize(np.zeros((1, 1), np.uint8), (0, -1))
    unlike = "could not create a primitive descriptor for a convolution forward propagation primitive"
    for error in (no_size.value, RuntimeError("shape mismatch"), RuntimeError(unlike), ValueError("out of memory")):
        assert not is_out_of_memory(error)


def test_the_machines_memory_halves_a_batch_as_the_devices_does() -> None:
    detect = Fitting(Device(1, MemoryError()), 2, CPU)
    assert detect([1, 2]) == [2, 4]
    assert detect.batch_size == 1
