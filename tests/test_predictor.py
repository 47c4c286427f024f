"""The class that people put into their own jobs: sent as its arguments, built once, rows in and rows out."""

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import cascadezoo
from cascadezoo import Predictor
from cascadezoo.detector import OptimizedDetector
from cascadezoo.errors import FailedImages, MissingResource, UnknownName, UnreadableImage, UsageError, WrongType

SIZES = ((60, 90), (90, 60), (64, 64), (60, 90))


@pytest.fixture(autouse=True)
def one_thread():
    """The last digits of what an image gives may depend on how many threads it has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, mask_model) -> Path:
    """A small model, saved, and four images."""
    folder = tmp_path_factory.mktemp("predictor")
    mask_model.save_pretrained(folder / "model")
    rng = np.random.default_rng(0)
    for number, size in enumerate(SIZES):
        cv2.imwrite(str(folder / f"{number}.png"), rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    return folder


@pytest.fixture(scope="module")
def paths(folder) -> list[str]:
    return [str(folder / f"{number}.png") for number in range(4)]


@pytest.fixture(scope="module")
def predictor(folder) -> Predictor:
    return Predictor(f"local-dir:{folder / 'model'}", device="cpu")


def same(one, other) -> bool:
    return one.to_coco(1) == other.to_coco(1)


def test_it_pickles_as_its_arguments(folder, predictor, paths):
    before = predictor([paths[0]])
    data = pickle.dumps(predictor)
    assert len(data) < 1000  # the model has a million numbers
    assert same(pickle.loads(data)([paths[0]])[0], before[0])


def test_plain_use_is_what_the_model_predicts(folder, predictor, paths):
    model = cascadezoo.load(f"local-dir:{folder / 'model'}")
    images = [paths[0], Path(paths[1]).read_bytes(), cv2.imread(paths[2])[:, :, ::-1].copy(), Path(paths[3])]
    found = predictor(images)
    assert len(found) == 4
    for image, detections in zip(images, found, strict=True):
        assert len(detections)
        assert same(detections, model.predict(image))


def test_the_columns_of_a_batch(predictor, paths):
    plain = [each.to_coco(1) for each in predictor(paths)]
    pixels = np.empty(4, object)
    pixels[:] = [cv2.imread(path)[:, :, ::-1] for path in paths]
    data = [Path(path).read_bytes() for path in paths]
    for batch in (
        {"path": np.array(paths, object), "day": np.arange(4)},
        {"path": np.array(paths), "bytes": np.array(data, object), "day": np.arange(4)},
        {"path": paths, "bytes": [bytearray(data[0]), None, float("nan"), data[3]], "day": np.arange(4)},
        {"image": pixels, "day": np.arange(4)},
    ):
        rows = predictor(batch)
        kept = {"day", *({"path"} & batch.keys())}
        assert rows.keys() == {*kept, "height", "width", "count", "detections", "error", "error_type"}
        assert list(zip(rows["height"].tolist(), rows["width"].tolist(), strict=True)) == list(SIZES)
        assert rows["day"].tolist() == [0, 1, 2, 3]
        assert rows["error"].tolist() == rows["error_type"].tolist() == [""] * 4
        for row, expected in enumerate(plain):
            results = json.loads(rows["detections"][row])
            assert [{"image_id": 1, **result} for result in results] == expected
            assert rows["count"][row] == len(expected) > 0


def test_arrays_of_one_size_and_ids_of_images(predictor, paths):
    pixels = np.stack([cv2.imread(paths[number])[:, :, ::-1] for number in (0, 3)])
    rows = predictor({"image": pixels, "image_id": np.array([7, 9])})
    assert [result["image_id"] for result in json.loads(rows["detections"][1])] == [9] * rows["count"][1]
    assert rows["image_id"].tolist() == [7, 9]


def test_a_column_of_another_name(folder, predictor, paths):
    other = Predictor(predictor.name, device="cpu", column="content")
    rows = other({"content": [Path(path).read_bytes() for path in paths[:2]], "bytes": [b"", b""]})
    assert (rows["count"] > 0).all()
    assert "content" not in rows
    with pytest.raises(UsageError, match=r"no column content, only path: say which holds the images"):
        other({"path": paths})
    with pytest.raises(UsageError, match=r"no column image, bytes or path, only none"):
        predictor({})


def test_a_bad_image_is_a_row_and_the_others_are_done(folder, predictor, paths):
    (folder / "bad.png").write_bytes(b"no image")
    batch = {"path": [paths[0], str(folder / "bad.png"), "gone.png", paths[1]]}
    rows = predictor(batch)
    assert rows["error_type"].tolist() == ["", "UnreadableImage", "MissingResource", ""]
    assert rows["error"][2] == "no such image: gone.png"
    assert rows["detections"].tolist()[1:3] == ["[]", "[]"]
    for column in ("height", "width", "count"):
        assert (rows[column] > 0).tolist() == [True, False, False, True]
    strict = Predictor(predictor.name, device="cpu", raise_errors=True)
    with pytest.raises(FailedImages) as failed:
        strict(batch)
    assert {row: type(error) for row, error in failed.value.errors.items()} == {1: UnreadableImage, 2: MissingResource}


def test_bytes_are_named_by_their_path_in_errors(predictor):
    rows = predictor({"path": ["s3://b/a.png"], "bytes": [b""]})
    assert rows["error"].tolist() == ["the open file s3://b/a.png is empty, an empty file is not an image"]


def test_a_row_that_has_failed_before_is_passed_on(predictor, paths):
    batch = {"path": [paths[0], "x"], "error": [float("nan"), "timed out"], "error_type": [None, "Late"]}
    rows = predictor(batch)
    assert rows["error"].tolist() == ["", "timed out"]
    assert rows["error_type"].tolist() == ["", "Late"]
    assert rows["count"][0] > 0
    assert predictor({"path": ["x"], "error": ["timed out"]})["error"].tolist() == ["timed out"]


def test_what_is_in_the_batch_changes_nothing(predictor, paths):
    alone = [predictor([path])[0].to_coco(1) for path in paths]
    assert [each.to_coco(1) for each in predictor(paths[::-1] + paths)][4:] == alone


def test_the_threshold(predictor, paths):
    scores = predictor([paths[0]])[0].scores
    middle = float(scores.median())
    above = Predictor(predictor.name, device="cpu", threshold=middle)
    assert above([paths[0]])[0].scores.tolist() == [score for score in scores.tolist() if score >= middle]
    with pytest.raises(FailedImages) as failed:
        above([paths[0], "gone.png"])
    assert min(failed.value.results[0].scores.tolist()) >= middle


def test_another_precision(predictor, paths):
    narrow = Predictor(predictor.name, device="cpu", precision="bf16")
    full, rounded = predictor([paths[0]])[0].scores, narrow([paths[0]])[0].scores
    assert full.tolist() != rounded.tolist()
    assert float(full[0]) == pytest.approx(float(rounded[0]), abs=0.05)


def test_predictors_of_equal_arguments_share_the_model_of_the_process(predictor, monkeypatch):
    twin, other = pickle.loads(pickle.dumps(predictor)), Predictor(predictor.name, device="cpu", min_size=32)
    model = predictor.model
    assert other.model is not model
    own = pickle.loads(pickle.dumps(other))
    monkeypatch.setattr("cascadezoo.loading.load", None)
    assert own.model is other.model
    assert predictor.model is model
    monkeypatch.undo()
    assert twin.model is not model  # the process keeps the latest alone


def test_no_rows_need_no_model(predictor):
    empty = Predictor(predictor.name, weights="is looked for when it is needed")({"path": []})
    assert {name: len(values) for name, values in empty.items()} == dict.fromkeys(
        ("path", "height", "width", "count", "detections", "error", "error_type"), 0
    )


def test_wrong_arguments(predictor):
    with pytest.raises(UnknownName):
        Predictor("nonsense")
    for wrong, words in (
        ({"precision": "int8"}, "precision 'int8': give fp32, fp16, bf16"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"threshold": 1.5}, "threshold 1.5"),
    ):
        with pytest.raises(UsageError, match=words):
            Predictor(predictor.name, **wrong)
    with pytest.raises(WrongType, match="a list of images or a dict of columns, not a str"):
        predictor("photo.jpg")
    with pytest.raises(UsageError, match=r"columns of unequal length: \{'path': 1, 'day': 2\}"):
        predictor({"path": ["a"], "day": [1, 2]})


def test_it_computes_with_the_optimised_model_where_it_is_asked_for(folder, paths):
    name = f"local-dir:{folder / 'model'}"
    assert not isinstance(Predictor(name, device="cpu").model, OptimizedDetector)
    for optimize in (True, None):  # None: on a CPU
        fast = Predictor(name, device="cpu", optimize=optimize, exact=True)
        assert isinstance(fast.model, OptimizedDetector)
        assert fast.model.settings.exact
        assert same(fast(paths[:1])[0], cascadezoo.load(name).optimize(exact=True).predict(paths[0]))
        assert pickle.loads(pickle.dumps(fast)).model is fast.model
    assert Predictor(name, device="cpu", optimize=True).model is not fast.model


def test_by_default_it_optimises_on_a_cpu_only(folder, monkeypatch):
    for module in ("cascadezoo.predictor", "cascadezoo.loading"):
        monkeypatch.setattr(f"{module}.usable", lambda device: torch.device("meta"))  # a device as a GPU is one
    built = Predictor(f"local-dir:{folder / 'model'}", device="cuda", optimize=None).build()
    assert not isinstance(built, OptimizedDetector)
    assert next(built.parameters()).device.type == "meta"


def test_an_optimised_model_refuses_what_its_device_cannot(folder):
    with pytest.raises(UsageError, match="exact is for an optimised model"):
        Predictor(f"local-dir:{folder / 'model'}", exact=True)
    with pytest.raises(UsageError, match="half precision is for GPUs"):
        Predictor(f"local-dir:{folder / 'model'}", device="cpu", optimize=True, precision="fp16").build()


def test_what_is_wanted(predictor, paths):
    every = predictor([paths[0]])[0]
    name = every.categories[every.labels[0]]
    middle = float(every.scores.median())
    asked = {"classes": [name], "threshold": {name: middle}, "max_detections": 2}
    found = pickle.loads(pickle.dumps(Predictor(predictor.name, device="cpu", **asked)))([paths[0]])[0]
    kept = every[(every.labels == every.labels[0]) & (every.scores >= middle)][:2]
    assert found.scores.tolist() == kept.scores.tolist()
    assert found.labels.tolist() == kept.labels.tolist()
    with pytest.raises(UnknownName, match="no category is called 'nothing'"):
        Predictor(predictor.name, device="cpu", classes=["nothing"]).load()
