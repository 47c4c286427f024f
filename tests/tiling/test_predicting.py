"""``predict`` in tiles, on tiny networks: one tile is the image itself, several are batches of one size."""

import numpy as np
import pytest
import torch

import cascadezoo
from cascadezoo.benchmarks.measure.tiling import accuracy
from cascadezoo.detections import Detections
from cascadezoo.errors import FailedImages, MissingResource, UsageError, WrongType
from cascadezoo.modeling.tta import TTASettings
from cascadezoo.shapes import planted
from cascadezoo.tiling import Tiles, Window
from cascadezoo.tiling.seams import merged

RNG = np.random.default_rng(0)


def image(height: int = 60, width: int = 90) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def assert_equal(ours: Detections, theirs: Detections) -> None:
    assert ours.image_size == theirs.image_size
    for name in ("boxes", "scores", "labels"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name))
    assert ours.rles() == theirs.rles()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_size": 3},
        {"threshold": 0.3},
        {"max_detections": 7},
        {"classes": [1, 2]},
        {"tta": TTASettings(scales=())},
    ],
    ids=str,
)
def test_one_tile_is_the_image_bit_for_bit(mask_model, box_model, options) -> None:
    for model in (mask_model, box_model):
        given = image()
        ours = model.predict(given, tiles=Tiles(90), **options)
        assert len(ours) > 3
        assert_equal(ours, model.predict(given, **options))


def test_several_tiles_are_what_predict_finds_on_each(mask_model) -> None:
    given, tiles = image(100, 150), Tiles(64, 20)
    windows = [Window(left, top, left + 64, top + 64) for top in (0, 36) for left in (0, 43, 86)]
    parts = [mask_model.predict(given[w.top : w.bottom, w.left : w.right]) for w in windows]
    rule = mask_model.spec.conventions.selection.nms
    expected = merged([*parts, mask_model.predict(given)], [*windows, Window(0, 0, 150, 100)], (100, 150), rule)
    found = mask_model.predict(given, tiles=tiles)
    assert_equal(found, expected)
    assert len(found) > 100  # more than the model keeps of one image
    assert (found.scores.diff() <= 0).all()


@pytest.mark.parametrize(("batch_size", "batches"), [(1, [1] * 7), (4, [4, 2, 1]), (9, [6, 1])])
def test_tiles_share_one_padded_size(mask_model, monkeypatch, batch_size, batches) -> None:
    """So they fill batches; the whole image has a size of its own."""
    ran = []
    extract = mask_model.extract
    monkeypatch.setattr(mask_model, "extract", lambda pixels: ran.append(len(pixels)) or extract(pixels))
    mask_model.predict(image(100, 150), tiles=Tiles(64, 20), batch_size=batch_size)
    assert sorted(ran, reverse=True) == batches


def test_a_list_a_stream_and_what_fails(mask_model) -> None:
    tiles, given = Tiles(64, 20), [image(100, 150), "nowhere.jpg", image(30, 40)]
    with pytest.raises(FailedImages) as failed:
        mask_model.predict(given, tiles=tiles)
    first, none, last = failed.value.results
    assert none is None
    assert isinstance(failed.value.errors[1], MissingResource)
    assert_equal(first, mask_model.predict(given[0], tiles=tiles))
    assert_equal(last, mask_model.predict(given[2]))
    assert_equal(next(mask_model.predict(iter(given), tiles=tiles)), first)
    with pytest.raises(MissingResource):
        mask_model.predict("nowhere.jpg", tiles=tiles)


def test_at_most_so_many_are_those_of_the_image(mask_model) -> None:
    given, tiles = image(100, 150), Tiles(64, 20)
    best = mask_model.predict(given, tiles=tiles, max_detections=12)
    assert len(best) == 12
    assert best.scores[0] == mask_model.predict(given, tiles=tiles).scores[0]


def test_nothing_else_is_taken_for_tiles(mask_model) -> None:
    with pytest.raises(WrongType, match=r"tiles: give Tiles\(size, overlap\), not 512"):
        mask_model.predict(image(), tiles=512)
    with pytest.raises(UsageError, match="with an overlap of 64"):
        mask_model.predict(image(), tiles=Tiles(64, 64))


@pytest.fixture(scope="module")
def model():
    return cascadezoo.load("cascade_mask_r18_fpn_shapes", pretrained=True)


def test_small_objects_on_a_large_image_are_found(model) -> None:
    """Twelve objects of the sizes that it was trained on, on an image of three times that size: each once, and only
    they."""
    given, objects = planted(600, 800, [36, 38, 40, 42, 44, 46, 48, 50, 52, 54, 56, 58], 4)
    found, alone = (model.predict(given, tiles=tiles, threshold=0.5) for tiles in (Tiles(256, 64), None))
    ours, without = (accuracy(objects, (600, 800), each.to_coco(1), "segm") for each in (found, alone))
    assert (ours["found_objects"], len(found), len(objects)) == (12, 12, 12)
    assert without["found_objects"] < 9


def test_an_optimised_model_takes_tiles_too(model) -> None:
    given, _ = planted(300, 400, [60, 70, 80], 1)
    tiles = Tiles(256, 112)
    found = model.optimize().predict(given, tiles=tiles, threshold=0.5)
    assert found.labels.tolist() == model.predict(given, tiles=tiles, threshold=0.5).labels.tolist()
