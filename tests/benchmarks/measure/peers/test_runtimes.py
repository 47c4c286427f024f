"""The whole network as an exported file in other runtimes, beside ours."""

from functools import partial

import numpy as np
import pytest
import torch

from cascadezoo.benchmarks.measure.peers import latency, runtimes
from cascadezoo.benchmarks.measure.peers.contender import Contender, Setting
from cascadezoo.benchmarks.measure.peers.ours import OURS
from cascadezoo.exporting import to_onnx
from cascadezoo.exporting.calibrating import Calibration
from cascadezoo.exporting.checking import Arrays, Infer
from cascadezoo.exporting.graph import Graph


def itself(content: bytes, graph: Graph, calibration: Calibration | None, threads: int) -> Infer:
    """A runtime that runs the graph by PyTorch; in 8 bits its boxes are off by as many pixels as it is calibrated on
    images."""
    assert (content, threads) == (b"file", torch.get_num_threads())
    off = 0 if calibration is None else 3 * len(calibration)

    @torch.no_grad()
    def infer(inputs: Arrays) -> Arrays:
        outputs = graph(*map(torch.from_numpy, inputs.values()))
        found = {name: np.asarray(output) for name, output in zip(graph.outputs, outputs, strict=True)}
        return {**found, "boxes": found["boxes"] + np.float32(off)}

    return infer


def test_a_file_is_made_once_and_compared_as_it_is_run(given: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(to_onnx, "translated", lambda *arguments: made.append(arguments) or b"file")
    contenders = {
        "plain": OURS["plain"],
        "runtime": Contender(partial(runtimes.make, itself, "fp32")),
        "runtime, int8": Contender(partial(runtimes.make, itself, "int8")),
    }
    report = latency.measure(contenders, given, runs=1)
    rows = {row["way"]: row for row in report["rows"]}
    assert len(made) == 1
    assert {name: (row["precision"], row["agrees"]) for name, row in rows.items()} == {
        "plain": ("fp32", True), "runtime": ("fp32", True), "runtime, int8": ("int8", False),
    }  # fmt: skip
    assert all(row["whole_ms"]["min"] > 0 and row["network_ms"]["min"] > 0 for row in rows.values())


@pytest.mark.export
def test_runtimes_find_what_ours_finds(given: Setting) -> None:
    for module in ("onnxscript", "onnxruntime", "openvino", "nncf"):
        pytest.importorskip(module)
    report = latency.measure({"plain": OURS["plain"], **runtimes.CONTENDERS}, given, runs=1)
    assert not report["missing"]
    rows = {row["way"]: row for row in report["rows"]}
    assert list(rows) == ["plain", *runtimes.CONTENDERS]
    for name, row in rows.items():
        if row["precision"] == "fp32":
            assert row["agrees"], name
        assert row["detections"] > 0
    assert "openvino" in rows["openvino, int8"]["versions"]
