"""The whole network in other runtimes: what ``cascadezoo export`` writes, in float32 and in 8 bits.

What each finds is compared in ``latency.py``, with what ours finds.  8 bits are calibrated on the image alone, which is
enough to time them and says nothing of their accuracy.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TypeAlias

import torch
from PIL import Image

from cascadezoo.benchmarks.measure.peers.contender import Contender, Made, Setting
from cascadezoo.benchmarks.measure.peers.ours import loaded
from cascadezoo.benchmarks.measure.ways import Way
from cascadezoo.detections import Detections
from cascadezoo.exporting import onnx_narrow, to_onnx, to_openvino
from cascadezoo.exporting.accuracy import as_batch
from cascadezoo.exporting.calibrating import Calibration
from cascadezoo.exporting.checking import Infer
from cascadezoo.exporting.formats import Options
from cascadezoo.exporting.graph import Graph

Runtime: TypeAlias = Callable[[bytes, Graph, Calibration | None, int], Infer]
"""An ONNX file, its graph, what to calibrate 8 bits on or None, and a number of threads, to how the file is run."""


def onnxruntime(content: bytes, graph: Graph, calibration: Calibration | None, threads: int) -> Infer:
    """ONNX Runtime's provider for CPUs."""
    narrow = content if calibration is None else onnx_narrow.quantised(content, calibration)
    return to_onnx.runner(narrow, graph, threads)


def openvino(content: bytes, graph: Graph, calibration: Calibration | None, threads: int) -> Infer:
    """OpenVINO's plugin for CPUs, in float32 where nothing is quantised."""
    network = to_openvino.folded(to_openvino.read(content))
    narrow = network if calibration is None else to_openvino.quantised(network, calibration)
    return to_openvino.runner(narrow, threads)


def make(runtime: Runtime, precision: str, setting: Setting) -> Made:
    """Network: from prepared pixels to detections and the probabilities of their masks.  Whole: from the image to run
    lengths, resized and pasted by ours."""
    model = loaded(setting).eval()
    graph = Graph(model).eval()
    sample = Calibration(model, graph, _folder(setting))
    calibration = sample if precision == "int8" else None
    infer = runtime(_content(graph, setting), graph, calibration, torch.get_num_threads())

    def found() -> Detections:
        rows = as_batch(infer(sample.inputs(setting.image)))
        (detections,) = model.detections(rows, rows.on_host(), [setting.image.shape[:2]])
        return detections

    network = partial(infer, sample.inputs(setting.image))
    return Made(Way(runtime.__name__, precision, nullcontext, network, lambda: found().to_coco(1)), found)


def _content(graph: Graph, setting: Setting) -> bytes:
    """The ONNX file of the whole network, made once for all processes."""
    path = setting.canonical.with_name("whole.onnx")
    if not path.exists():
        path.write_bytes(to_onnx.translated(graph, Options(), ""))
    return path.read_bytes()


def _folder(setting: Setting) -> Path:
    """A folder that holds the image."""
    folder = setting.canonical.with_name("calibration")
    folder.mkdir(exist_ok=True)
    Image.fromarray(setting.image).save(folder / "image.png")
    return folder


_ONNX = ("onnx", "onnxscript", "onnxruntime")
_OPENVINO = ("openvino", "nncf", "onnx", "onnxscript")
CONTENDERS: dict[str, Contender[Made]] = {
    "onnxruntime": Contender(partial(make, onnxruntime, "fp32"), _ONNX),
    "onnxruntime, int8": Contender(partial(make, onnxruntime, "int8"), _ONNX),
    "openvino": Contender(partial(make, openvino, "fp32"), _OPENVINO),
    "openvino, int8": Contender(partial(make, openvino, "int8"), _OPENVINO),
}
