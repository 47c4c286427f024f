"""The stop-watch: every stage, batches, when it stops."""

import pytest
import torch
from small_coco import TooSmall, write_coco

from cascadezoo.benchmarks.verify.coco_layout import coco_val2017
from cascadezoo.benchmarks.verify.speed import STAGES, Bounds, is_settled, measure, run_stages, spread
from cascadezoo.errors import MissingResource
from cascadezoo.images import read_image

QUICK = Bounds(warm_ups=1, window=2, rounds=3, settled=10.0)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    found = coco_val2017(write_coco(tmp_path_factory.mktemp("coco"))).images
    return [read_image(image.path) for image in found]


def test_each_stage_of_each_batch_size_is_timed(mask_model, images) -> None:
    found = measure(mask_model, images[:2], 3, bounds=QUICK)
    assert found.images == 2
    assert [batch.batch_size for batch in found.batches] == [1, 3]
    for batch in found.batches:
        assert list(batch.stages_ms) == list(STAGES)
        assert batch.runs == 4  # two rounds of two images settle any median within a factor of ten
        assert batch.stable
        assert batch.fps == pytest.approx(1000 * batch.batch_size / batch.total_ms.median, rel=1e-3)
        assert batch.total_ms.min >= sum(stage.min for stage in batch.stages_ms.values()) - 0.01
        assert batch.detections > 0
        assert batch.peak_bytes > 2**20


def test_what_is_timed_is_what_predict_does(mask_model, images) -> None:
    image = images[0]
    with torch.inference_mode():
        clock, detections = run_stages(mask_model, [image, image])
    assert list(clock) == [*STAGES[:4], "postprocess", "masks"]
    assert detections == 2 * len(mask_model.predict(image))


def test_an_optimised_model_is_timed_in_its_own_arithmetic(mask_model, images, monkeypatch) -> None:
    model = mask_model.optimize(precision="fp32")
    detections = len(model.predict(images[0]))
    modes: set[tuple[bool, bool]] = set()
    extract = model.extract

    def watched(pixels):
        modes.add((torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")))
        return extract(pixels)

    monkeypatch.setattr(model, "extract", watched)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        clock, found = run_stages(model, images[:1])
    assert modes == {(False, False)}
    assert list(clock) == [*STAGES[:4], "postprocess", "masks"]
    assert found == detections > 0


def test_it_stops_when_the_median_has_settled() -> None:
    bounds = Bounds(window=3, settled=0.02)
    assert not is_settled([1.0, 1.0], bounds)
    assert is_settled([5.0, 1.0, 1.01, 1.02], bounds)
    assert not is_settled([1.0, 1.01, 1.03], bounds)


def test_it_stops_at_its_bounds_and_says_so(mask_model, images) -> None:
    never = Bounds(warm_ups=0, window=2, settled=-1.0, rounds=2)
    (batch,) = measure(mask_model, images[:1], 1, bounds=never).batches
    assert (batch.runs, batch.stable) == (2, False)
    (batch,) = measure(mask_model, images[:1], 1, bounds=never._replace(rounds=99, seconds=0)).batches
    assert batch.runs == 1


def test_a_batch_that_does_not_fit_is_left_out(mask_model, images, monkeypatch) -> None:
    cramped = TooSmall(mask_model.extract, 1, torch.OutOfMemoryError("CUDA out of memory"))
    monkeypatch.setattr(mask_model, "extract", cramped)
    found = measure(mask_model, images[:1], 4, bounds=QUICK)
    assert [batch.batch_size for batch in found.batches] == [1]
    assert found.notes == ("out of memory with 4 images at a time: not timed",)


def test_spread_worked_by_hand() -> None:
    found = spread([0.001, 0.002, 0.003, 0.004, 0.010])
    assert (found.min, found.q1, found.median, found.q3, found.max) == (1, 2, 3, 4, 10)
    assert (found.p90, found.p99) == (7.6, 9.76)  # six tenths, and 96 hundredths, of the way from 4 to 10


def test_it_goes_on_for_the_least_time_even_if_settled(mask_model, images) -> None:
    """One round is enough for these bounds; half a second of them is many."""
    once = Bounds(warm_ups=0, window=1, rounds=1, seconds=0)
    (short,) = measure(mask_model, images[:1], 1, bounds=once).batches
    (long,) = measure(mask_model, images[:1], 1, bounds=once, least=3 * short.total_ms.max / 1000).batches
    assert (short.runs, long.runs > 1) == (1, True)


def test_files_are_decoded_each_time_and_that_is_timed(mask_model, tmp_path) -> None:
    found = coco_val2017(write_coco(tmp_path, count=2)).images
    timing = measure(mask_model, [image.path for image in found], 2, bounds=QUICK)
    for batch in timing.batches:
        assert list(batch.stages_ms) == ["decode", *STAGES]
        assert batch.stages_ms["decode"].min > 0
        assert batch.total_ms.min >= sum(stage.min for stage in batch.stages_ms.values()) - 0.01
    clock, detections = run_stages(mask_model, [found[0].path])
    assert next(iter(clock)) == "decode"
    assert detections == len(mask_model.predict(found[0].path))
    with pytest.raises(MissingResource, match=r"gone\.jpg"):
        measure(mask_model, [tmp_path / "gone.jpg"], 1, bounds=QUICK)
