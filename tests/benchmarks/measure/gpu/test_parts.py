"""The parts that measure, on the CPU and on tiny networks: every path runs, and the rows say what was compared."""

import json
import time
import warnings

import pytest
import torch

from cascadezoo.benchmarks.measure.computing import computing
from cascadezoo.benchmarks.measure.gpu import compiling, latency, learning, replay, speed, throughput, waits
from cascadezoo.benchmarks.measure.gpu.report import Deadline, Report
from cascadezoo.detector import Detector
from cascadezoo.modeling.network import Network
from cascadezoo.providers import SPECS

from tiny_zoo import narrow

CPU = torch.device("cpu")
MASKS = "cascade_mask_r50_fpn_1x.mmdet"


@pytest.fixture
def optimize(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """A stand-in: the model itself.  How it was asked for is kept."""
    asked: list[dict] = []

    def stand_in(self: Detector, **options: object) -> Detector:
        asked.append(options)
        if options["precision"] == "tf32":
            raise RuntimeError("no TF32 on a CPU")
        return self

    monkeypatch.setattr(Detector, "optimize", stand_in, raising=False)
    return asked


def on_disk(report: Report) -> dict:
    return json.loads(report.path.read_text())


def test_latency_compares_all_ways_and_judges_the_targets(small, report: Report, optimize: list[dict]) -> None:
    latency.run(report, CPU, runs=1)
    found = on_disk(report)
    headline = [row for row in found["rows"] if row["entry"] in (MASKS, "maskrcnn_resnet50_fpn")]
    ways = {(row["way"], row["precision"]) for row in headline}
    assert ways == {
        ("eager", "fp32"), ("eager", "tf32"), ("eager", "bf16"), ("optimized", "fp32"), ("optimized", "bf16"),
        ("torchvision", "fp32"), ("torchvision", "bf16"),
    }  # fmt: skip
    assert {row["entry"] for row in found["rows"]} == {MASKS, "cascade_r50_fpn_1x.mmdet", "maskrcnn_resnet50_fpn"}
    for row in found["rows"]:
        assert row["runs"] == 1
        assert all(0 < row[span]["min"] <= row[span]["median"] for span in ("network_ms", "whole_ms"))
        assert ("roofline_ms" in row) is (row["way"] != "torchvision")
        assert row["way"] == "optimized" or (row["detections"] > 0 and row["stages_ms"]["rpn"]["min"] > 0)
    (fp32,) = [row for row in headline if row["precision"] == "fp32" and row["way"] == "eager"]
    assert fp32["roofline_ms"] == pytest.approx(sum(fp32["roofline"]["measured"].values()), abs=2e-3)
    assert fp32["share_of_roofline"] == pytest.approx(fp32["roofline_ms"] / fp32["network_ms"]["median"], abs=1e-3)
    assert found["failures"] == {
        f"{entry}, batch 1, optimized, tf32": "RuntimeError: no TF32 on a CPU" for entry in latency.ENTRIES
    }
    assert found["targets"] == dict.fromkeys(speed.TARGETS)  # of fp16, which is not among these
    assert {"device": CPU, "precision": "bf16", "cuda_graph": False} in optimize


def test_targets_are_ratios_of_runs_side_by_side() -> None:
    ours = {"network": [1.0, 2.0, 1.0], "whole": [5.0, 5.0, 5.0]}
    eager = {"network": [4.0, 9.0, 5.0], "whole": [10.0, 20.0, 15.0]}
    found = speed.targets({("optimized", "fp16"): ours, ("eager", "fp32"): eager})
    first, second = found.values()
    assert first["times_faster"]["network"] == {"min": 4.0, "median": 4.5, "max": 5.0}
    assert first["met"] == {"network": True, "whole": False}
    assert second is None


def test_throughput_counts_the_images_of_a_batch(small, report: Report, optimize: list[dict], monkeypatch) -> None:
    monkeypatch.setattr(throughput, "BATCH_SIZES", (2,))
    monkeypatch.setattr(throughput, "ENTRIES", ("cascade_r50_fpn_1x.mmdet",))
    throughput.run(report, CPU, runs=1)
    for row in on_disk(report)["rows"]:
        assert row["batch_size"] == 2
        assert row["images_per_second"] == pytest.approx(2000 / row["whole_ms"]["median"], abs=0.01)


def test_what_there_is_no_time_for_is_named(small, report: Report, monkeypatch) -> None:
    """The first entry takes 0.2 s of 0.4, and one that takes half as long again would not fit."""
    measured: list[str] = []

    def measure(_: Report, entry: str, *rest: object, **more: object) -> dict:
        time.sleep(0.2)
        measured.append(entry)
        return {}

    monkeypatch.setattr(latency, "measure", measure)
    report.deadline = Deadline(0.4)
    latency.run(report, CPU, runs=1)
    assert measured == [MASKS]
    assert on_disk(report)["left_out"] == ["cascade_r50_fpn_1x.mmdet"]


def test_a_replay_is_compared_with_the_eager_network(small, report: Report, optimize: list[dict]) -> None:
    replay.run(report, CPU, runs=1)
    found = on_disk(report)
    assert [row["precision"] for row in found["rows"]] == ["fp32", "bf16"]
    for row in found["rows"]:
        assert [one["bit_equal"] for one in row["from_no_graph"]] == [True, True]
        assert all(one["found"] > 0 for one in row["from_the_eager_network"])
        assert row["times_faster"]["network"]["min"] > 0
    assert list(found["failures"]) == [f"{MASKS}, tf32"]
    assert [options["cuda_graph"] for options in optimize[:2]] == [False, False]


def test_a_replay_that_departs_has_failed(small, report: Report, monkeypatch) -> None:
    class Wrong(Detector):
        def detect(self, images):
            return [found[:-4] for found in super().detect(images)]

    def stand_in(self: Detector, **_: object) -> Detector:
        other = Wrong.__new__(Wrong)
        other.__dict__ = self.__dict__
        return other

    monkeypatch.setattr(Detector, "optimize", stand_in, raising=False)
    replay.run(report, CPU, runs=1)
    failures = on_disk(report)["failures"]
    assert failures.keys() == {f"{entry}, fp32" for entry in replay.ENTRIES}
    assert all("too far from the eager network" in why for why in failures.values())


@pytest.mark.parametrize(
    ("change", "wrong"),
    [({}, None), ({"matched": 0.9}, "no graph"), ({"score": 0.01}, "no graph"), ({"box": 1.0}, "no graph")],
)
def test_bounds_of_a_replay(change: dict, wrong: str | None) -> None:
    same = {"found": 9, "expected": 9, "matched": 1.0, "score": 0.0, "box": 0.0}
    apart = {**same, "score": 0.3}
    assert replay.departed({"from_no_graph": [same, same], "from_the_eager_network": [apart]}, "bf16") is None
    assert replay.departed({"from_no_graph": [same], "from_the_eager_network": [apart]}, "fp32") is not None
    said = replay.departed({"from_no_graph": [same, same | change], "from_the_eager_network": [same]}, "fp32")
    assert said is None if wrong is None else wrong in said


class PretendedGPU:
    """torch's debug mode, and a network that waits where ``waiting`` says."""

    def __init__(self, waiting: bool) -> None:
        self.mode: int | str = 0
        self.waiting = waiting

    def infer(self, network: Network, batch: object) -> None:
        for _ in range(2 if self.waiting else 0):
            if self.mode == "error":
                raise RuntimeError("called a synchronizing CUDA operation\nmore")
            if self.mode == "warn":
                warnings.warn("called a synchronizing CUDA operation (triggered internally)", stacklevel=1)
        warnings.warn("something else", stacklevel=1)


@pytest.mark.parametrize("waiting", [False, True])
def test_waits_are_counted_with_their_places(small, report: Report, monkeypatch, waiting: bool) -> None:
    gpu = PretendedGPU(waiting)
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: gpu.mode)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: setattr(gpu, "mode", mode))
    monkeypatch.setattr(Network, "infer", lambda self, batch: gpu.infer(self, batch))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        waits.run(report, CPU)
    found = on_disk(report)
    assert len(found["rows"]) == len(waits.ENTRIES) * len(waits.PRECISIONS)
    for row in found["rows"]:
        assert row["synchronisations"] == sum(row["places"].values()) == (2 if waiting else 0)
        assert row["refused"] == ("called a synchronizing CUDA operation" if waiting else None)
    assert len(found["failures"]) == (len(found["rows"]) if waiting else 0)
    assert gpu.mode == 0


def test_training_has_a_row_for_each_precision(report: Report, monkeypatch) -> None:
    monkeypatch.setitem(SPECS["mmdet"], "cascade_mask_r50_fpn", narrow(80))
    learning.run(report, CPU, batch_size=2, steps=1, workers=0)
    found = on_disk(report)
    assert [row["precision"] for row in found["rows"]] == ["fp32", "bf16"]
    assert all(row["images_per_second"] > 0 for row in found["rows"])
    assert (found["batch_size"], found["steps"], found["failures"]) == (2, 1, {})


def test_each_library_is_built_by_itself(report: Report, monkeypatch, tmp_path) -> None:
    def build(kind: str):
        if kind == "cuda":
            raise RuntimeError("no nvcc")
        return tmp_path / "cascadezoo_cpu.so"

    monkeypatch.setattr(compiling.building, "build", build)
    compiling.run(report, torch.device("cuda"))
    found = on_disk(report)
    assert [(row["kind"], row["library"]) for row in found["rows"]] == [("cpu", "cascadezoo_cpu.so")]
    assert found["failures"] == {"library for cuda": "RuntimeError: no nvcc"}


def switches() -> tuple[str, str]:
    return torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision


def test_tf32_is_what_is_said_whatever_was_before() -> None:
    before = switches()
    for precision, expected in (("tf32", "tf32"), ("fp32", "ieee"), ("bf16", "ieee")):
        with computing(CPU, precision):
            assert switches() == (expected, expected)
            assert torch.is_autocast_enabled("cpu") is (precision == "bf16")
    assert switches() == before
