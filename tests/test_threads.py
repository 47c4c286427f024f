"""Work on several items at once: order, errors, what is held, what is left behind."""

import threading
import time

import numpy as np
import pytest
import torch

from cascadezoo.errors import FailedImages
from cascadezoo.threads import Share, in_order, share

from tiny import lively, tiny

TWO = Share(at_once=2, threads=1)
CPU = torch.device("cpu")


@pytest.fixture
def threads():
    """``torch.set_num_threads``, undone at the end."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("cores", "items", "at_once", "expected"),
    [
        (1, 9, None, (1, 1)),
        (2, 9, None, (2, 1)),
        (2, 1, None, (1, 2)),
        (4, 9, None, (4, 1)),
        (6, 9, None, (3, 2)),  # four with one each would leave two threads without work
        (16, 9, None, (4, 4)),
        (16, 9, 8, (8, 2)),
        (16, 3, None, (2, 8)),
        (2, 9, 1, (1, 2)),
    ],
)
def test_how_threads_are_shared(threads, cores, items, at_once, expected):
    threads(cores)
    assert share(CPU, items, at_once) == expected


def test_other_devices_work_on_one_item(threads):
    threads(4)
    assert share(torch.device("cuda"), 9) == (1, 4)


def test_results_come_in_order_whoever_is_done_first():
    def work(item):
        time.sleep(0.03 if item % 2 == 0 else 0)
        return item, threading.get_ident()

    done = list(in_order(work, range(9), TWO))
    assert [item for item, _ in done] == list(range(9))
    assert threading.get_ident() not in {thread for _, thread in done}
    assert len({thread for _, thread in done}) == 2


def test_two_items_are_worked_on_at_the_same_time_each_with_its_threads(threads):
    threads(3)
    both = threading.Barrier(2, timeout=30)

    def work(_):
        both.wait()
        return torch.get_num_threads()

    assert list(in_order(work, range(4), TWO)) == [1] * 4
    assert torch.get_num_threads() == 3


def test_one_at_a_time_is_the_callers_own_thread():
    assert set(in_order(lambda _: threading.get_ident(), range(3), Share(1, 2))) == {threading.get_ident()}


def test_few_items_are_taken_ahead():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    for done, _ in enumerate(in_order(lambda item: item, items(), TWO), start=1):
        assert len(taken) <= done + 2 * TWO.at_once


def test_threads_compute_in_the_callers_modes():
    def work(_):
        return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.mm(torch.ones(2, 2), torch.ones(2, 2))

    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert [(*modes, made.dtype) for *modes, made in in_order(work, range(2), TWO)] == [
            (False, False, torch.bfloat16)
        ] * 2
    with torch.inference_mode():
        assert [tuple(modes) for *modes, _ in in_order(work, range(2), TWO)] == [(False, True)] * 2
    assert [(*modes, made.dtype) for *modes, made in in_order(work, range(2), TWO)] == [
        (True, False, torch.float32)
    ] * 2


def never_done(_):
    while True:
        time.sleep(0.001)


def assert_nothing_is_left(before):
    assert threading.active_count() == before


def test_an_error_comes_in_its_turn_and_ends_the_rest():
    before = threading.active_count()

    def work(item):
        if item == 2:
            raise KeyError(item)
        return item if item < 2 else never_done(item)

    done = []
    with pytest.raises(KeyError):
        done.extend(in_order(work, range(9), TWO))
    assert done == [0, 1]
    assert_nothing_is_left(before)


def test_an_error_of_the_items_comes_when_what_was_taken_is_done():
    def items():
        yield from range(3)
        raise OSError("no more")

    done = []
    with pytest.raises(OSError, match="no more"):
        done.extend(in_order(lambda item: item, items(), TWO))
    assert done == [0, 1, 2]


@pytest.mark.parametrize("end", [KeyboardInterrupt, GeneratorExit])
def test_work_that_nobody_waits_for_is_ended(end, threads):
    """A network may take a minute for an image: Ctrl-C does not wait for it."""
    threads(2)
    before, begun, cleared = threading.active_count(), threading.Event(), threading.Event()

    def work(item):
        if item == 0:
            begun.wait(30)
            return item
        begun.set()
        try:
            never_done(item)
        finally:
            cleared.set()

    results = in_order(work, range(9), TWO)
    assert next(results) == 0
    with pytest.raises(end):
        results.throw(end)
    assert cleared.is_set()
    assert_nothing_is_left(before)
    assert torch.get_num_threads() == 2


IMAGES = [np.random.default_rng(n).integers(0, 256, (60 + 40 * (n % 2), 90, 3), dtype=np.uint8) for n in range(7)]


@pytest.mark.parametrize("optimized", [False, True])
def test_images_of_a_list_are_detected_as_one_after_another(threads, optimized):
    threads(1)
    model = lively(tiny())
    model = model.optimize() if optimized else model
    alone = [model.predict(image) for image in IMAGES]
    threads(2)
    found = model.predict(IMAGES)
    assert len(found[0])
    for one, other in zip(found, alone, strict=True):
        for name in ("boxes", "scores", "labels", "mask_probs"):
            assert torch.equal(getattr(one, name), getattr(other, name))


def test_a_bad_image_of_a_list_is_told_when_the_others_are_done(threads):
    threads(2)
    with pytest.raises(FailedImages) as failed:
        lively(tiny()).predict([*IMAGES[:3], b"no image", IMAGES[3]])
    assert [result is None for result in failed.value.results] == [False, False, False, True, False]
    assert list(failed.value.errors) == [3]


def test_what_others_hook_into_a_model_is_called_by_one_thread(threads):
    threads(2)
    model, callers = lively(tiny()), set()
    hook = model.backbone.register_forward_hook(lambda *_: callers.add(threading.get_ident()))
    model.predict(IMAGES[:2])
    assert callers == {threading.get_ident()}
    hook.remove()
