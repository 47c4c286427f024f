"""Backbone and neck alone, for runtimes as an ONNX file: from the same prepared pixels to the pyramid's levels."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from cascadezoo.benchmarks.measure.peers import mmdetection
from cascadezoo.benchmarks.measure.peers.contender import CPU, Contender, Setting, made
from cascadezoo.benchmarks.measure.peers.ours import loaded
from cascadezoo.benchmarks.verify.timing import now, spread
from cascadezoo.detector import Detector

Extract: TypeAlias = Callable[[], Sequence[Any]]  # levels (1, C, H / s, W / s), finest first

LARGEST = 1e-3  # difference that still counts as rounding, in standard deviations of a level


def plain(setting: Setting) -> Extract:
    """Our network as it is."""
    return _extract(loaded(setting), setting)


def optimized(setting: Setting) -> Extract:
    """``model.optimize``."""
    return _extract(loaded(setting).optimize(), setting)


def _extract(model: Detector, setting: Setting) -> Extract:
    return partial(model.extract, _pixels(model, setting))


def _pixels(model: Detector, setting: Setting) -> Tensor:
    return model.prepare([model.resize(setting.image)]).pixels


class _Features(nn.Module):
    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.backbone, self.neck = model.backbone, model.neck

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.neck(self.backbone(pixels)))


def exported(setting: Setting) -> tuple[str, Tensor]:
    """The ONNX file of our backbone and neck, written once, and what they are given."""
    model = loaded(setting)
    pixels = _pixels(model, setting).contiguous()
    path = setting.canonical.with_suffix(".onnx")
    if not path.exists():
        torch.onnx.export(_Features(model).eval(), (pixels,), path, dynamo=True, verbose=False)
    return str(path), pixels


def onnxruntime(setting: Setting) -> Extract:
    """ONNX Runtime, on as many threads as torch has."""
    import onnxruntime as runtime

    path, pixels = exported(setting)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return partial(session.run, None, {given.name: pixels.numpy()})


def openvino(setting: Setting) -> Extract:
    """OpenVINO, in float32, on as many threads as torch has."""
    from openvino import Core

    path, pixels = exported(setting)
    core = Core()
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(core.read_model(path), "CPU", settings)
    return lambda: list(compiled(pixels.numpy()).values())


_EXPORT = ("onnx", "onnxscript")
CONTENDERS: dict[str, Contender[Extract]] = {
    "plain": Contender(plain),
    "optimized": Contender(optimized),
    "mmdetection": mmdetection.EXTRACTOR,
    "onnxruntime": Contender(onnxruntime, ("onnxruntime", *_EXPORT)),
    "openvino": Contender(openvino, ("openvino", *_EXPORT)),
}


@torch.inference_mode()
def measure(contenders: dict[str, Contender[Extract]], setting: Setting, runs: int) -> dict[str, Any]:
    """Milliseconds of each way, all in turn, and the largest difference of its levels from those of ``plain``."""
    with torch.inference_mode(False), torch.no_grad():
        ready, versions, missing = made(contenders, setting)
    found = {name: [np.asarray(level) for level in extract()] for name, extract in ready.items()}  # and warms up
    times: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(runs):
        for name, extract in ready.items():
            start = now(CPU)
            extract()
            times[name].append(1000 * (now(CPU) - start))
    rows = []
    for name, taken in times.items():
        apart = max(
            float(np.abs(level - own).max() / own.std()) for level, own in zip(found[name], found["plain"], strict=True)
        )
        rows.append(
            {
                "way": name,
                "versions": versions[name],
                "milliseconds": spread(taken),
                "times_faster_than_plain": spread([b / a for a, b in zip(taken, times["plain"], strict=True)]),
                "largest_difference": apart,
                "agrees": apart <= LARGEST,
            }
        )
    return {"rows": rows, "missing": missing}
