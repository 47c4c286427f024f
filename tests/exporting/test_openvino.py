"""OpenVINO's files of tiny networks: what they take, and what is left when one cannot be written."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cascadezoo
from cascadezoo.detector import Detector
from cascadezoo.exporting import to_onnx, to_openvino
from cascadezoo.exporting.formats import Options
from cascadezoo.exporting.graph import Graph

from tiny import lively, tiny

pytest.importorskip("onnxscript")
pytest.importorskip("openvino")
pytest.importorskip("nncf")
pytestmark = pytest.mark.export

SIDES = ("height", "width")  # dynamic, so that one of them is fixed: the batch


@pytest.fixture(scope="module")
def model() -> Detector:
    return lively(tiny("cascade_r50_fpn", "mmdet")).eval()


@pytest.fixture(scope="module")
def content(model: Detector) -> bytes:
    return to_onnx.translated(Graph(model).eval(), Options(dynamic=SIDES), "")


@pytest.fixture(autouse=True)
def translated_once(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(to_openvino, "translated", lambda *_: content)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_file_of_a_fixed_batch_takes_all_inputs(model: Detector, precision: str, tmp_path: Path) -> None:
    """``original_sizes`` too, which nothing in this graph needs where there is one image."""
    (tmp_path / "images").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "images" / "noise.png")
    images = {"calibration": tmp_path / "images", "force": True} if precision == "int8" else {}
    path = tmp_path / "model.xml"
    report = cascadezoo.export(model, "openvino", output=path, dynamic=SIDES, precision=precision, **images)
    assert report.detections > 10
    network = to_openvino.read(path)
    assert [port.any_name for port in network.inputs] == list(Graph(model).inputs)
    assert str(network.input("original_sizes").partial_shape) == "[1,2]"
