"""What the publishers' own code found, found again by onnxruntime from one exported file.

The export itself holds the file beside PyTorch, on images of two sizes and on a batch of two, or raises.
"""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

import cascadezoo
from cascadezoo.detections import Detections
from cascadezoo.detector import Detector
from cascadezoo.exporting.graph import Graph
from cascadezoo.modeling.postprocess import DetectionBatch

from cases import Case

# a cascade, a cascade with masks, a C4 with masks, two of Detectron, an InternImage
SIX = (
    "mmdet/cascade_r50_fpn",
    "mmdet/cascade_mask_r50_fpn",
    "paddle/mask_r50_c4",
    "detectron/cascade_r50_fpn",
    "detectron/mask_r50_fpn",
    "internimage/cascade_mask_internimage_l_fpn",
)
pytestmark = [pytest.mark.export, pytest.mark.parity, pytest.mark.slow]


def detections(model: Detector, outputs: dict[str, NDArray[np.float32]], size: tuple[int, int]) -> Detections:
    """What the file found on one image of ``size``."""
    found = {name: torch.from_numpy(value) for name, value in outputs.items()}
    batch = DetectionBatch(rois=torch.zeros_like(found["boxes"]), **found)
    return model.detections(batch, batch.on_host(), [size])[0]


@pytest.mark.parametrize("folder", SIX)
def test_a_file_finds_what_the_publisher_found(folder: str, tmp_path: Path) -> None:
    case = Case(Case.root() / folder)
    model, _ = case.convert(tmp_path)
    report = cascadezoo.export(model, "onnx", output=tmp_path / "model.onnx")
    assert report.images == 4
    graph = Graph(model)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    image = model.resize(case.image)
    inputs = {name: value.numpy() for name, value in graph.arguments([image]).items()}
    outputs = dict(zip(graph.outputs, session.run(list(graph.outputs), inputs), strict=True))
    compared = case.compare(detections(model, outputs, image.original_size))
    print(folder, report, compared)
    assert compared["ok"], compared
    for file in tmp_path.iterdir():  # up to a gigabyte each
        file.unlink()
