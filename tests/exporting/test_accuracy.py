"""What a narrower precision costs, measured on a model's own kind of data, and images to calibrate on.

The network itself stands in for a file that a runtime runs.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import cascadezoo
from cascadezoo.coco.categories import Categories
from cascadezoo.detector import Detector
from cascadezoo.errors import LosesAccuracy, MissingResource, UnreadableImage, UsageError
from cascadezoo.exporting import accuracy
from cascadezoo.exporting.accuracy import Cost, measured, opened
from cascadezoo.exporting.calibrating import Calibration, as_float16, facts, note
from cascadezoo.exporting.checking import Arrays, Infer
from cascadezoo.exporting.formats import Options
from cascadezoo.exporting.graph import Graph
from cascadezoo.shapes.dataset import generate

from tiny import lively, tiny

INT8 = Options(precision="int8")
FP16 = Options(precision="fp16")
FORCED = replace(INT8, force=True)


@pytest.fixture(scope="module")
def model() -> Detector:
    return cascadezoo.load("cascade_mask_r18_fpn_shapes", pretrained=True).eval()


@pytest.fixture(scope="module")
def stranger() -> Detector:
    return lively(tiny()).eval()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "IMAGES", 6)


def itself(graph: Graph) -> Infer:
    def infer(inputs: Arrays) -> Arrays:
        with torch.no_grad():
            outputs = graph(*map(torch.from_numpy, inputs.values()))
        return {name: output.numpy() for name, output in zip(graph.outputs, outputs, strict=True)}

    return infer


def spoilt(infer: Infer, spoil: Callable[[np.ndarray], np.ndarray]) -> Infer:
    """The same with other boxes."""
    return lambda inputs: {**(found := infer(inputs)), "boxes": spoil(found["boxes"])}


def test_the_cost_of_boxes_that_are_two_pixels_off(few: None, model: Detector) -> None:
    graph = Graph(model)
    infer = itself(graph)
    with opened(model, INT8) as data:
        same = measured(model, graph, data, infer, infer, INT8)
        off = spoilt(infer, lambda boxes: boxes + 2)
        with pytest.raises(LosesAccuracy, match=r"int8 costs \d+\.\d\d box AP .*nothing was written"):
            measured(model, graph, data, infer, off, INT8)
        with pytest.raises(LosesAccuracy, match=r"fp16 costs .*, so nothing was written: pass --force"):
            measured(model, graph, data, infer, off, FP16)
        with pytest.raises(LosesAccuracy, match=r"nothing was written: calibrate on more images"):
            measured(model, graph, data, infer, off, replace(INT8, calibration=Path("images")))
        cost = measured(model, graph, data, infer, off, FORCED)
    assert (same.data, same.images, same.lost) == ("shapes val", 6, 0)
    assert same.fp32 == same.narrow
    assert min(same.fp32.values()) > 60
    assert cost.lost > accuracy.MOST_LOST
    assert cost.fp32 == same.fp32


def test_it_is_measured_on_the_data_that_is_given(
    few: None, model: Detector, stranger: Detector, tmp_path: Path
) -> None:
    annotations = generate("train", tmp_path, 3)
    options = replace(INT8, val_json=annotations, val_images=tmp_path / "train")
    graph = Graph(model)
    with opened(model, options) as data:
        cost = measured(model, graph, data, itself(graph), itself(graph), options)
    assert (cost.data, cost.images) == ("instances_train.json", 3)
    with pytest.raises(UsageError, match="has other categories than the model"), opened(stranger, options):
        pass


def test_without_data_it_is_not_measured_and_said_so(stranger: Detector) -> None:
    graph = Graph(stranger)
    for options in (INT8, FP16):
        costs = f"what {options.precision} costs this model cannot be measured: give --val-json and --val-images"
        with pytest.raises(UsageError, match=costs), opened(stranger, options):
            pass
    with opened(stranger, FORCED) as data:
        assert measured(stranger, graph, data, itself(graph), itself(graph), FORCED) is None
    with opened(stranger, Options()) as data:  # nothing is to be measured of float32
        assert data is None


def test_weights_of_ones_own_are_not_measured_on_shapes_that_they_do_not_know(
    few: None, model: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "categories", Categories(("screw", *list(model.categories)[1:])))
    with pytest.raises(UsageError, match="give --val-json and --val-images"), opened(model, INT8):
        pass
    with opened(model, FORCED) as data:
        assert data is None


def test_where_nothing_is_found_nothing_is_measured(few: None, model: Detector, tmp_path: Path) -> None:
    """Neither where the model finds nothing, nor where nothing is annotated."""
    graph = Graph(model)
    infer = itself(graph)
    far = spoilt(infer, lambda boxes: boxes + 1000)
    with opened(model, INT8) as data:
        with pytest.raises(UsageError, match=r"cannot be measured on shapes val, where its box AP in float32 is 0\.00"):
            measured(model, graph, data, far, infer, INT8)
        assert measured(model, graph, data, far, far, FORCED).lost == 0
    annotations = generate("val", tmp_path, 1)
    annotations.write_text(json.dumps({**json.loads(annotations.read_text()), "annotations": []}))
    with opened(model, replace(INT8, val_json=annotations, val_images=tmp_path / "val")) as data:
        with pytest.raises(UsageError, match=r"cannot be measured on instances_val\.json, where .* is unknown"):
            measured(model, graph, data, infer, infer, INT8)
        assert measured(model, graph, data, infer, infer, FORCED).fp32["box_ap"] is None


def test_a_cost_in_words_and_for_the_metadata(model: Detector, tmp_path: Path) -> None:
    generate("train", tmp_path, 2)
    calibration = Calibration(model, Graph(model), tmp_path / "train")
    cost = Cost("shapes val", 200, "int8", {"box_ap": 85.125, "mask_ap": None}, {"box_ap": 84.5, "mask_ap": None})
    assert cost.lost == pytest.approx(0.625)
    said = (
        "on 200 images of shapes val: box AP 84.50 beside 85.12 in float32, mask AP unknown beside unknown in float32"
    )
    assert note(calibration, cost) == f"calibrated on 2 images; {said}"
    assert note(calibration, None) == "calibrated on 2 images; what that costs was not measured"
    assert facts(calibration, None) == {"calibration_images": 2, "accuracy": None}
    assert facts(calibration, cost)["accuracy"]["int8"] == {"box_ap": 84.5, "mask_ap": None}
    half = replace(cost, precision="fp16")
    assert note(None, half) == f"weights in float16; {said}"
    assert facts(None, half) == {
        "accuracy": {"data": "shapes val", "images": 200, "fp32": cost.fp32, "fp16": {"box_ap": 84.5, "mask_ap": None}}
    }


def test_weights_that_float16_cannot_hold_stay_as_they_are() -> None:
    assert as_float16(np.float32([1.5, -65504])).dtype == np.float16
    assert as_float16(np.float32([70_000])) is None
    assert as_float16(np.array([1])) is None


def test_images_to_calibrate_on(model: Detector, tmp_path: Path) -> None:
    graph = Graph(model)
    with pytest.raises(MissingResource, match="no images in the folder"):
        Calibration(model, graph, tmp_path)
    generate("train", tmp_path, 3)
    folder = tmp_path / "train"
    (folder / ".hidden").touch()
    calibration = Calibration(model, graph, folder)
    first, again = list(calibration), list(calibration)
    assert len(calibration) == len(first) == len(again) == 3
    assert all((a["pixels"] == b["pixels"]).all() for a, b in zip(first, again, strict=True))
    assert list(first[0]) == list(graph.inputs)
    (folder / "words.txt").write_text("no image")
    with pytest.raises(UnreadableImage, match="words"):
        list(Calibration(model, graph, folder))
