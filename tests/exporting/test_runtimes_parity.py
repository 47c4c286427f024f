"""What the publishers' own code found, found again by onnxruntime and by OpenVINO from one exported file.

The export itself holds the file beside PyTorch, on images of two sizes and on a batch of two, or raises.
"""

from itertools import product
from pathlib import Path

import pytest
import torch

import cascadezoo
from cascadezoo.detections import Detections
from cascadezoo.detector import Detector
from cascadezoo.exporting import to_openvino
from cascadezoo.exporting.checking import Arrays, Infer
from cascadezoo.exporting.graph import Graph
from cascadezoo.modeling.postprocess import DetectionBatch

from cases import LATER, SIX, Case

pytestmark = [pytest.mark.export, pytest.mark.parity, pytest.mark.slow]


def onnxruntime(file: Path, names: list[str]) -> Infer:
    """How onnxruntime runs a file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


def openvino(file: Path, names: list[str]) -> Infer:
    """How OpenVINO runs a file."""
    return to_openvino.runner(to_openvino.read(file))


RUNTIMES = {"onnx": (".onnx", onnxruntime), "openvino": (".xml", openvino)}


def detections(model: Detector, outputs: Arrays, size: tuple[int, int]) -> Detections:
    """What the file found on one image of ``size``."""
    found = {name: torch.from_numpy(value) for name, value in outputs.items()}
    batch = DetectionBatch(rois=torch.zeros_like(found["boxes"]), **found)
    return model.detections(batch, batch.on_host(), [size])[0]


@pytest.mark.parametrize(("folder", "format"), [*product(SIX, RUNTIMES), *((folder, "onnx") for folder in LATER)])
def test_a_file_finds_what_the_publisher_found(folder: str, format: str, tmp_path: Path) -> None:
    suffix, runtime = RUNTIMES[format]
    case = Case(Case.root() / folder)
    model, _ = case.convert(tmp_path)
    report = cascadezoo.export(model, format, output=tmp_path / f"model{suffix}")
    assert report.images == 4  # two sizes, and a batch of two
    graph = Graph(model)
    infer = runtime(tmp_path / f"model{suffix}", list(graph.outputs))
    image = model.resize(case.image)
    outputs = infer({name: value.numpy() for name, value in graph.arguments([image]).items()})
    compared = case.compare(detections(model, {name: outputs[name] for name in graph.outputs}, image.original_size))
    print(folder, format, report, compared)
    assert compared["ok"], compared
    for file in tmp_path.iterdir():  # up to a gigabyte each
        file.unlink()
