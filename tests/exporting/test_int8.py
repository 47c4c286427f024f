"""OpenVINO's files, and fp16 and int8 there and in ONNX: what is written, what it costs, what is refused."""

import json
import resource
from pathlib import Path
from typing import Any

import pytest

import cascadezoo
from cascadezoo.detector import Detector
from cascadezoo.errors import LosesAccuracy, OutputExists, UnwritableOutput
from cascadezoo.exporting import accuracy, to_onnx, to_openvino
from cascadezoo.exporting.checking import check
from cascadezoo.exporting.dispatch import export
from cascadezoo.exporting.formats import AXES, Options
from cascadezoo.exporting.graph import Graph
from cascadezoo.exporting.metadata import KEY
from cascadezoo.shapes.dataset import generate

onnx = pytest.importorskip("onnx")
openvino = pytest.importorskip("openvino")
pytest.importorskip("nncf")
pytestmark = pytest.mark.export

MEASURED, CALIBRATED = 40, 24
FORMATS = {"onnx": ".onnx", "openvino": ".xml"}


@pytest.fixture(scope="module")
def model() -> Detector:
    return cascadezoo.load("cascade_mask_r18_fpn_shapes", pretrained=True).eval()


@pytest.fixture(scope="module")
def content(model: Detector) -> bytes:
    return to_onnx.translated(Graph(model).eval(), Options(), "")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibration")
    generate("train", folder, CALIBRATED)
    return folder / "train"


@pytest.fixture(autouse=True)
def translated_once(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """The same ONNX file for all, and a part of the images that its accuracy is measured on."""
    for module in (to_onnx, to_openvino):
        monkeypatch.setattr(module, "translated", lambda *_: content)
    monkeypatch.setattr(accuracy, "IMAGES", MEASURED)


def about(path: Path) -> dict[str, Any]:
    if path.suffix == ".xml":
        return json.loads(openvino.Core().read_model(path).get_rt_info([KEY]).value)
    (entry,) = onnx.load(path).metadata_props
    assert entry.key == KEY
    return json.loads(entry.value)


def test_openvino_detects_what_pytorch_does(model: Detector, tmp_path: Path) -> None:
    path = tmp_path / "shapes.xml"
    report = export(model, "openvino", output=path)
    assert report.detections > 20
    assert report.box_difference < 0.1
    assert sorted(each.name for each in tmp_path.iterdir()) == ["shapes.bin", "shapes.xml"]
    found = about(path)
    assert (found["entry"], found["precision"]) == ("cascade_mask_r18_fpn_shapes.cascadezoo", "fp32")
    assert "accuracy" not in found
    graph = Graph(model)
    check(model, graph, to_openvino.runner(to_openvino.read(path)), AXES)


def test_openvinos_second_file_is_not_replaced_without_being_told(model: Detector, tmp_path: Path) -> None:
    (tmp_path / "shapes.bin").write_text("mine")
    with pytest.raises(OutputExists, match=r"shapes\.bin is already there"):
        export(model, "openvino", output=tmp_path / "shapes.xml")
    assert (tmp_path / "shapes.bin").read_text() == "mine"


def test_a_temporary_folder_without_room_is_named(model: Detector, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))  # bytes of any file
    try:
        with pytest.raises(UnwritableOutput, match=r"cannot write it to .* first: is there no room\?"):
            export(model, "openvino", output=tmp_path / "shapes.xml")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", FORMATS)
def test_8_bits_cost_little_and_say_what(
    format: str, model: Detector, images: Path, content: bytes, tmp_path: Path
) -> None:
    """And the last layers are left in float32."""
    path = tmp_path / f"shapes{FORMATS[format]}"
    report = export(model, format, output=path, precision="int8", calibration=images)
    found = about(path)
    assert (found["precision"], found["calibration_images"]) == ("int8", CALIBRATED)
    cost = found["accuracy"]
    assert (cost["data"], cost["images"]) == ("shapes val", MEASURED)
    for figure, least in (("box_ap", 80), ("mask_ap", 70)):
        assert cost["fp32"][figure] > least
        assert abs(cost["fp32"][figure] - cost["int8"][figure]) < accuracy.MOST_LOST
    assert report.precision == "int8"
    assert report.box_difference > 1e-3  # it is another network
    assert f"calibrated on {CALIBRATED} images; on {MEASURED} images of shapes val: box AP" in report.notes[0]
    assert path.with_suffix({"onnx": ".onnx", "openvino": ".bin"}[format]).stat().st_size < len(content) / 3
    floats = _onnx_floats(path) if format == "onnx" else _openvino_floats(path)
    heads = ("cls_score.weight", "bbox_pred.weight", "mask_logits.weight", "objectness.weight", "deltas.weight")
    last = [name for name in model.state_dict() if name.endswith(heads)]
    assert not [name for name in last if f"model.{name}" not in floats]
    for name in ("box_heads.0.fcs.0.weight", "rpn.conv.weight", "mask_heads.0.convs.0.weight"):
        assert f"model.{name}" not in floats


@pytest.mark.parametrize("format", FORMATS)
def test_weights_in_half_halve_the_file_and_cost_next_to_nothing(
    format: str, model: Detector, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / f"shapes{FORMATS[format]}"
    report = export(model, format, output=path, precision="fp16")
    found = about(path)
    assert found["precision"] == report.precision == "fp16"
    assert "calibration_images" not in found
    cost = found["accuracy"]
    assert abs(cost["fp32"]["box_ap"] - cost["fp16"]["box_ap"]) < 0.2
    assert 0 < report.box_difference < 2
    assert f"weights in float16; on {MEASURED} images of shapes val: box AP" in report.notes[0]
    assert path.with_suffix({"onnx": ".onnx", "openvino": ".bin"}[format]).stat().st_size < len(content) * 0.55
    floats = _onnx_floats(path) if format == "onnx" else _openvino_floats(path)
    assert "model.box_heads.0.fcs.0.weight" not in floats
    assert "model.box_heads.0.cls_score.weight" in floats


@pytest.mark.parametrize("format", FORMATS)
def test_8_bits_that_cost_too_much_are_not_written(
    format: str, model: Detector, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracy, "IMAGES", 3)
    monkeypatch.setattr(accuracy, "MOST_LOST", -100.0)  # as if anything were
    path = tmp_path / f"shapes{FORMATS[format]}"
    with pytest.raises(LosesAccuracy, match="nothing was written"):
        export(model, format, output=path, precision="int8", calibration=images)
    assert list(tmp_path.iterdir()) == []
    report = export(model, format, output=path, precision="int8", calibration=images, force=True)
    assert "on 3 images of shapes val" in report.notes[0]
    assert about(path)["accuracy"]["images"] == 3


def _onnx_floats(path: Path) -> set[str]:
    """The names of the constants in float32."""
    return {each.name for each in onnx.load(path).graph.initializer if each.data_type == onnx.TensorProto.FLOAT}


def _openvino_floats(path: Path) -> set[str]:
    nodes = openvino.Core().read_model(path).get_ordered_ops()
    constants = [node for node in nodes if node.get_type_name() == "Constant"]
    return {node.get_friendly_name() for node in constants if node.get_element_type().get_type_name() == "f32"}
