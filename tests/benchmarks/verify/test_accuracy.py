"""Detecting on a whole data set: batches, memory, precision, bad images."""

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from small_coco import TooSmall, write_coco

from cascadezoo.benchmarks.verify import accuracy
from cascadezoo.benchmarks.verify.accuracy import detect_all, figures_of
from cascadezoo.benchmarks.verify.coco_layout import Dataset, coco_val2017
from cascadezoo.benchmarks.verify.results_stream import ResultsStream, merged, read_results
from cascadezoo.errors import FileError, OutOfMemory, UnreadableImage
from cascadezoo.threads import Share


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    return coco_val2017(write_coco(tmp_path_factory.mktemp("coco")))


@pytest.fixture
def model(mask_model):
    return mask_model


def run(model, dataset: Dataset, path: Path, **options):
    options.setdefault("workers", 0)
    with ResultsStream(path, {}) as stream:
        told = detect_all(model, dataset.images, stream, **options)
    return told, read_results(path)


def test_what_is_written_is_what_the_model_predicts(model, dataset: Dataset, tmp_path: Path) -> None:
    _, found = run(model, dataset, tmp_path / "x")
    assert list(found) == list(range(1, 9))
    for image in dataset.images:
        assert found[image.image_id] == model.predict(image.path).to_coco(image.image_id)


def test_with_augmentation_too(model, dataset: Dataset, tmp_path: Path) -> None:
    with ResultsStream(tmp_path / "x", {}) as stream:
        detect_all(model, dataset.images[:1], stream, tta=True, batch_size=8, workers=0)
    image = dataset.images[0]
    assert read_results(tmp_path / "x")[1] == model.predict(image.path, tta=True).to_coco(1)


def test_workers_change_nothing(model, dataset: Dataset, tmp_path: Path) -> None:
    _, alone = run(model, dataset, tmp_path / "alone", batch_size=2)
    _, helped = run(model, dataset, tmp_path / "helped", batch_size=2, workers=2)
    assert alone == helped


@pytest.mark.timeout(120)
def test_workers_start_after_opencv_has_used_threads(model, dataset: Dataset, tmp_path: Path) -> None:
    """Workers are forked: they must not wait for the threads that their parent had."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(4)
    try:
        cv2.resize(np.zeros((2000, 2000, 3), np.uint8), (1000, 1000), interpolation=cv2.INTER_CUBIC)
        _, found = run(model, dataset, tmp_path / "x", workers=2)
        assert cv2.getNumThreads() == 4
    finally:
        cv2.setNumThreads(before)
    assert len(found) == 8


def test_parts_together_are_the_whole(model, dataset: Dataset, tmp_path: Path) -> None:
    _, whole = run(model, dataset, tmp_path / "whole", batch_size=2)
    parts = [run(model, dataset, tmp_path / f"{i}", batch_size=2, part=(i, 3))[1] for i in range(3)]
    assert merged(parts) == merged([whole])
    assert len({key for part in parts for key in part}) == sum(map(len, parts))


def test_going_on_equals_never_having_stopped(model, dataset: Dataset, tmp_path: Path) -> None:
    _, whole = run(model, dataset, tmp_path / "whole", batch_size=3)
    lines = (tmp_path / "whole").read_bytes().splitlines(keepends=True)
    (tmp_path / "cut").write_bytes(b"".join(lines[:3]) + lines[3][:20])  # in the middle of the first batch
    told, found = run(model, dataset, tmp_path / "cut", batch_size=3)
    assert found == whole
    assert told.images == 8
    told, _ = run(model, dataset, tmp_path / "cut", batch_size=3)
    assert told.images == 0


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory: you")],
)
def test_out_of_memory_goes_on_with_less_and_says_so(
    model, dataset: Dataset, tmp_path: Path, monkeypatch, error: RuntimeError
) -> None:
    _, whole = run(model, dataset, tmp_path / "whole", batch_size=1)
    device = TooSmall(model.extract, 1, error)
    monkeypatch.setattr(model, "extract", device)
    told, found = run(model, dataset, tmp_path / "x", batch_size=4)
    assert found == whole
    assert device.tried == [4, 2] + [1] * 8  # never more again
    assert told.batch_size == 1
    assert told.notes == (
        "out of memory with 4 images at a time on cpu: went on with 2",
        "out of memory with 2 images at a time on cpu: went on with 1",
    )


def test_no_room_for_one_image_is_an_error(model, dataset: Dataset, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(model, "extract", TooSmall(model.extract, 0, torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(OutOfMemory, match="one image at a time"):
        run(model, dataset, tmp_path / "x")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_image_is_named(model, tmp_path: Path, workers: int) -> None:
    root = write_coco(tmp_path / "coco")
    (root / "val2017" / "000000000003.jpg").write_bytes(b"\xff\xd8 not an image \xff\xd9")
    with pytest.raises(UnreadableImage, match=r"000000000003\.jpg"):
        run(model, coco_val2017(root), tmp_path / "x", workers=workers)
    assert set(read_results(tmp_path / "x")) == {1, 2}  # what was done before is kept


def test_an_image_of_another_size_than_annotated_is_named(model, tmp_path: Path) -> None:
    root = write_coco(tmp_path / "coco")
    (root / "val2017" / "000000000001.jpg").write_bytes((root / "val2017" / "000000000002.jpg").read_bytes())
    with pytest.raises(FileError, match=r"000000000001\.jpg is 80x60 .* annotated as 60x80"):
        run(model, coco_val2017(root), tmp_path / "x")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_narrower_arithmetic_is_close_and_not_the_same(model, dataset: Dataset, tmp_path: Path, precision: str) -> None:
    _, full = run(model, dataset, tmp_path / "full")
    _, narrow = run(model, dataset, tmp_path / "narrow", precision=precision)
    best = [[max(r["score"] for r in found[i]) for i in found] for found in (full, narrow)]
    assert best[0] != best[1]
    assert best[0] == pytest.approx(best[1], abs=0.02)


def test_figures_have_masks_only_where_the_model_has(model, dataset: Dataset, tmp_path: Path) -> None:
    _, found = run(model, dataset, tmp_path / "x")
    assert list(figures_of(dataset, dataset.images, merged([found]), True, "pycocotools")) == ["bbox", "segm"]
    assert list(figures_of(dataset, dataset.images, merged([found]), False, "hotcoco")) == ["bbox"]


def test_progress_counts_images(model, dataset: Dataset, tmp_path: Path) -> None:
    seen = []
    run(model, dataset, tmp_path / "x", batch_size=3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(3, 8), (6, 8), (8, 8)]


@pytest.mark.parametrize("workers", [0, 1])
def test_several_images_at_once_give_the_same_in_the_same_order(
    model, dataset: Dataset, tmp_path: Path, monkeypatch, workers: int
) -> None:
    run(model, dataset, tmp_path / "alone")
    callers, extract = set(), model.extract

    def watched(pixels):
        callers.add(threading.get_ident())
        return extract(pixels)

    monkeypatch.setattr(accuracy, "share", lambda *_: Share(at_once=2, threads=1))
    monkeypatch.setattr(model, "extract", watched)
    before = threading.active_count()
    told, _ = run(model, dataset, tmp_path / "both", workers=workers)
    assert (tmp_path / "both").read_bytes() == (tmp_path / "alone").read_bytes()
    assert threading.get_ident() not in callers
    assert threading.active_count() == before
    assert 0 < told.inference < told.seconds


def test_a_bad_image_leaves_what_came_before_it(model, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(accuracy, "share", lambda *_: Share(at_once=2, threads=1))
    root = write_coco(tmp_path / "coco")
    (root / "val2017" / "000000000006.jpg").write_bytes(b"\xff\xd8 not an image \xff\xd9")
    dataset = coco_val2017(root)
    with pytest.raises(UnreadableImage, match=r"000000000006\.jpg"):
        run(model, dataset, tmp_path / "x")
    done = set(read_results(tmp_path / "x"))
    order = [image.image_id for image in dataset.images]
    assert done == set(order[: len(done)]) == set(order) - set(order[order.index(6) :])


def test_threads_share_single_images_alone(model, dataset: Dataset, tmp_path: Path, monkeypatch) -> None:
    """Batches and augmented images take memory enough."""
    asked, share = [], accuracy.share
    monkeypatch.setattr(accuracy, "share", lambda *args: (asked.append(args[2]), share(*args))[1])
    for number, options in enumerate(({}, {"batch_size": 2}, {"tta": True})):
        with ResultsStream(tmp_path / str(number), {}) as stream:
            detect_all(model, dataset.images[:1], stream, workers=0, **options)
    assert asked == [None, 1, 1]
