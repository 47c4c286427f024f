"""ONNX files of tiny networks of every family, run by onnxruntime: an export that differs from PyTorch raises.  Where
OpenVINO is installed it runs them too, within the same bounds.
"""

import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import cascadezoo
from cascadezoo.detector import Detector
from cascadezoo.errors import OutputExists, UsageError
from cascadezoo.exporting import to_onnx, to_openvino
from cascadezoo.exporting.checking import check
from cascadezoo.exporting.formats import AXES, OPSETS
from cascadezoo.exporting.graph import Graph

from tiny import lively, tiny

pytestmark = pytest.mark.export


# what TensorRT 10.0 takes of the operators that networks like these could meet (docs/operators.md of onnx-tensorrt)
TENSORRT = set(
    re.findall(
        r"\w+",
        """
    Add And ArgMax AveragePool Cast Ceil Clip Concat Constant ConstantOfShape Conv ConvTranspose Div Einsum Equal Exp
    Expand Flatten Floor Gather GatherElements Gelu Gemm GlobalAveragePool Greater GreaterOrEqual GridSample Identity
    IsInf IsNaN LayerNormalization Less LessOrEqual Log MatMul Max MaxPool Min Mod Mul Neg NonMaxSuppression
    NonZero Not Or Pad Pow Range ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu Reshape Resize
    RoiAlign ScatterND Shape Sigmoid Slice Softmax Split Sqrt Squeeze Sub Sum Tile TopK Transpose Unsqueeze
    Where Xor
    """,
    )
)


def axes(value: Any) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize(
    ("architecture", "publisher", "options"),
    [
        ("cascade_mask_r50_fpn", "mmdet", {"preprocess": True}),
        *(("faster_r50_fpn", "detectron", {"opset": opset}) for opset in OPSETS),
        ("mask_r50_c4", "paddle", {}),
        ("cascade_mask_internimage_l_fpn", "internimage", {}),
        ("cascade_r50_dconv_c3c5_fpn", "mmdet", {}),
        ("mask_swin_t_fpn", "swin", {}),
        ("cascade_mask_vitdet_b", "detectron2", {"dynamic": ("batch",)}),
        pytest.param("mask_convnext_t_fpn", "convnext", {}, marks=pytest.mark.slow),
        pytest.param("cascade_mask_r50_fpn", "detectron2", {}, marks=pytest.mark.slow),
        pytest.param("cascade_mask_swin_b", "detectron2", {"preprocess": True}, marks=pytest.mark.slow),
        pytest.param("cascade_mask_r50_vd_fpn", "paddle", {"dynamic": ("batch",)}, marks=pytest.mark.slow),
        pytest.param("cascade_mask_r50_fpn", "detectron", {"preprocess": True}, marks=pytest.mark.slow),
        pytest.param("cascade_r50_fpn", "mmdet", {"dynamic": ()}, marks=pytest.mark.slow),
    ],
)
def test_a_file_detects_what_the_model_does(
    architecture: str, publisher: str, options: dict[str, Any], tmp_path: Path
) -> None:
    model, path = lively(tiny(architecture, publisher)), tmp_path / "model.onnx"
    report = cascadezoo.export(model, "onnx", output=path, **options)
    assert report.detections > 10
    assert report.images == (4 if "batch" in options.get("dynamic", ("batch",)) else 2)
    assert list(tmp_path.iterdir()) == [path]
    made = onnx.load(path)
    graph = Graph(model, options.get("preprocess", False))
    assert [value.name for value in made.graph.input] == list(graph.inputs)
    assert [value.name for value in made.graph.output] == list(graph.outputs)
    assert {node.domain for node in made.graph.node} == {""}  # standard operators alone
    assert {node.op_type for node in made.graph.node} - TENSORRT == set()
    assert len(made.functions) == 0
    assert [opset.version for opset in made.opset_import] == [options.get("opset", 20)]
    named = ["batch", 3, "height", "width"] if graph.inputs[0] == "pixels" else ["batch", "height", "width", 3]
    for place, name in enumerate(named):
        found = axes(made.graph.input[0])[place]
        if isinstance(name, str) and name not in options.get("dynamic", ("batch", "height", "width")):
            assert isinstance(found, int)
        else:
            assert found == name
    assert [json.loads(p.value)["format"] for p in made.metadata_props if p.key == "cascadezoo"] == [1]
    if not options:
        empty_levels(model, path)
    if find_spec("openvino"):
        runs = to_openvino.runner(to_openvino.read(path))
        check(model, graph.eval(), runs, options.get("dynamic", AXES))


def empty_levels(model: Detector, path: Path) -> None:
    """On an image of one colour most levels have no boxes; there can be no detections either."""
    graph = Graph(model)
    image = model.resize(np.full((64, 200, 3), 120, np.uint8))
    inputs = graph.arguments([image])
    inputs["sizes"] = torch.full((1, 2), 8.0)  # all boxes are small
    with torch.no_grad():
        ours = dict(zip(graph.outputs, graph(*inputs.values()), strict=True))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    theirs = session.run(list(graph.outputs), {name: value.numpy() for name, value in inputs.items()})
    for name, value in zip(graph.outputs, theirs, strict=True):
        torch.testing.assert_close(torch.from_numpy(value), ours[name], atol=1e-3, rtol=1e-4)


def test_weights_that_one_file_cannot_hold_lie_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(to_onnx, "_LARGEST", 10_000)
    model, path = lively(tiny("faster_r50_fpn", "detectron")), tmp_path / "model.onnx"
    (tmp_path / "model.onnx.data").touch()
    with pytest.raises(OutputExists, match=r"model\.onnx\.data is already there"):
        cascadezoo.export(model, "onnx", output=path)
    (tmp_path / "images").mkdir()
    for options in ({"precision": "int8", "calibration": tmp_path / "images"}, {"precision": "fp16"}):
        with pytest.raises(UsageError, match=f"not written in {options['precision']}: leave --precision out, or"):
            cascadezoo.export(model, "onnx", output=path, **options)
    (tmp_path / "images").rmdir()
    report = cascadezoo.export(model, "onnx", output=path, dynamic=(), force=True)
    assert report.detections > 10
    assert "has to stay beside it" in report.notes[0]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    graph, weights = Graph(model).eval(), sum(each.nbytes for each in model.parameters())
    assert path.stat().st_size < weights / 2 < (tmp_path / "model.onnx.data").stat().st_size
    assert [p.key for p in onnx.load(path, load_external_data=False).metadata_props] == ["cascadezoo"]
    check(model, graph, to_onnx.runner(path, graph), ())
    if find_spec("openvino"):

        def copied(made: Path, *_: object) -> None:
            shutil.copy(path, made)
            shutil.copy(tmp_path / "model.onnx.data", made.parent)

        monkeypatch.setattr(to_openvino, "save", copied)
        assert cascadezoo.export(model, "openvino", output=tmp_path / "model.xml", dynamic=()).detections > 10
