"""``Detector.predict`` on many images: lists, batches as one tensor, and streams, detected on as they come."""

import gc
import io
import threading
import weakref

import numpy as np
import pytest
import torch
from PIL import Image

from cascadezoo.errors import CascadezooError, MissingResource, OutOfMemory, UnreadableImage, UsageError
from cascadezoo.modeling.tta import TTASettings

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in ((60, 90), (90, 60)) * 2]


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def same(one, other) -> bool:
    close = torch.allclose(one.boxes, other.boxes, atol=1e-3, rtol=0)
    return close and torch.equal(one.labels, other.labels) and one.image_size == other.image_size


def all_same(found, model, images) -> bool:
    alone = [model.predict(image) for image in images]
    return all(same(one, other) for one, other in zip(found, alone, strict=True))


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_tuple_and_a_generator_are_as_a_list(mask_model, threads, batch_size) -> None:
    assert all_same(mask_model.predict(tuple(IMAGES), batch_size=batch_size), mask_model, IMAGES)
    stream = mask_model.predict((image for image in IMAGES), batch_size=batch_size)
    assert iter(stream) is stream
    assert all_same(list(stream), mask_model, IMAGES)
    assert list(mask_model.predict(iter([]), batch_size=batch_size)) == []
    assert mask_model.predict(()) == []


def test_a_batch_in_one_tensor_or_array_is_a_list_of_its_images(mask_model) -> None:
    pixels = np.stack(IMAGES[::2])
    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    for batch in (pixels, tensor, tensor / 255):
        found = mask_model.predict(batch, batch_size=3)
        assert isinstance(found, list)
        assert all_same(found, mask_model, IMAGES[::2])
    assert mask_model.predict(tensor[:0]) == []


class Large:
    """A file for which there is no room."""

    def read(self, size: int) -> bytes:
        raise MemoryError


@pytest.mark.parametrize("batch_size", [1, 2])
def test_no_room_to_decode_is_no_fault_of_the_image(mask_model, threads, batch_size) -> None:
    with pytest.raises(OutOfMemory, match="too little memory now to decode the Large object given: free some"):
        mask_model.predict([IMAGES[0], Large()], batch_size=batch_size, errors="return")


def test_an_open_file_is_an_image_and_no_stream(mask_model, tmp_path) -> None:
    Image.fromarray(IMAGES[0]).save(tmp_path / "a.png")
    with (tmp_path / "a.png").open("rb") as file:
        assert same(mask_model.predict(file), mask_model.predict(IMAGES[0]))
    assert same(mask_model.predict(io.BytesIO((tmp_path / "a.png").read_bytes())), mask_model.predict(IMAGES[0]))


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_stream_without_end_is_taken_as_it_is_worked_on(mask_model, threads, batch_size) -> None:
    alive: list[weakref.ref] = []
    taken = 0

    class Counted(np.ndarray):
        pass

    def images():
        nonlocal taken
        while True:
            taken += 1
            image = IMAGES[0].copy().view(Counted)
            alive.append(weakref.ref(image))
            yield image
            del image

    stream = mask_model.predict(images(), batch_size=batch_size)
    assert taken == 0
    for number, found in zip(range(6), stream, strict=False):
        assert len(found) > 0
        assert taken <= number + 1 + max(4 if threads == 2 else 1, batch_size)
        del found
        gc.collect()
        assert sum(each() is not None for each in alive) <= 2 * threads + 2 * batch_size
    stream.close()


def test_what_the_model_computes_in_is_not_seen_between_results(mask_model) -> None:
    before = torch.backends.mkldnn.conv.fp32_precision
    for _ in mask_model.predict(iter(IMAGES[:2])):
        assert torch.is_grad_enabled()
        assert torch.backends.mkldnn.conv.fp32_precision == before


@pytest.mark.parametrize("options", [{}, {"batch_size": 2}, {"tta": TTASettings(scales=())}])
def test_errors_are_returned_in_their_places(mask_model, tmp_path, options) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    images = [IMAGES[0], tmp_path / "bad.jpg", IMAGES[1], "gone.jpg", IMAGES[2]]
    for found in (
        mask_model.predict(images, errors="return", **options),
        list(mask_model.predict(iter(images), errors="return", **options)),
    ):
        assert [type(one) for one in found if isinstance(one, CascadezooError)] == [UnreadableImage, MissingResource]
        assert [isinstance(one, CascadezooError) for one in found] == [False, True, False, True, False]
        assert same(found[4], mask_model.predict(IMAGES[2], **options))
    alone = mask_model.predict("gone.jpg", errors="return", **options)
    assert isinstance(alone, MissingResource)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_stream_raises_in_its_turn(mask_model, threads, batch_size) -> None:
    stream = mask_model.predict(iter([IMAGES[0], IMAGES[0], "gone.jpg", IMAGES[0]]), batch_size=batch_size)
    assert len(next(stream)) > 0
    assert len(next(stream)) > 0
    with pytest.raises(MissingResource, match=r"no such image: gone\.jpg"):
        next(stream)
    assert list(stream) == []


@pytest.mark.parametrize("batch_size", [1, 2])
def test_an_error_of_the_stream_itself_comes_after_the_images_before_it(mask_model, threads, batch_size) -> None:
    def images():
        yield from IMAGES[:3]
        raise OSError("the disk is gone")

    stream = mask_model.predict(images(), batch_size=batch_size)
    assert all_same([next(stream) for _ in range(3)], mask_model, IMAGES[:3])
    with pytest.raises(OSError, match="the disk is gone"):
        next(stream)


def test_arguments_of_a_stream_are_checked_before_it_begins(mask_model) -> None:
    for wrong in ({"errors": "ignore"}, {"classes": ["nothing"]}, {"threshold": 2}, {"batch_size": 0}):
        with pytest.raises(UsageError):
            mask_model.predict(iter(IMAGES), **wrong)


def test_an_end_of_a_stream_leaves_no_thread(mask_model, threads) -> None:
    before = threading.active_count()
    stream = mask_model.predict(iter([*IMAGES, "gone.jpg", *IMAGES]))
    with pytest.raises(MissingResource):
        list(stream)
    assert threading.active_count() == before
    stream = mask_model.predict(iter(IMAGES))
    next(stream)
    stream.close()
    assert threading.active_count() == before
