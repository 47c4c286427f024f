"""Every entry is a tiny network, and every image small."""

from pathlib import Path

import pytest
import torch
from torchvision.models.detection import maskrcnn_resnet50_fpn

from cascadezoo.benchmarks.measure import latency
from cascadezoo.benchmarks.measure import ways as ways_module
from cascadezoo.benchmarks.measure.gpu import latency as latency_part
from cascadezoo.benchmarks.measure.gpu import replay, roofline, speed, throughput, waits
from cascadezoo.benchmarks.measure.gpu.report import Deadline, Report
from cascadezoo.providers import SPECS

from tiny import tiny

CPU = torch.device("cpu")
PRECISIONS = ("fp32", "tf32", "bf16")  # a CPU takes seconds for a convolution in fp16
ENTRIES = ("cascade_mask_r50_fpn_1x.mmdet", "cascade_r50_fpn_1x.mmdet")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for architecture in ("cascade_mask_r50_fpn", "cascade_r50_fpn"):
        monkeypatch.setitem(SPECS["mmdet"], architecture, tiny(architecture))
    monkeypatch.setattr(latency, "CANDIDATES", 100)
    monkeypatch.setattr(latency, "maskrcnn_resnet50_fpn", small_maskrcnn)
    monkeypatch.setattr(speed, "THEIRS", ("fp32", "bf16"))
    for module in (speed, replay):
        monkeypatch.setattr(module, "PRECISIONS", PRECISIONS)
        monkeypatch.setattr(module, "SIZE", (60, 80))
    for module in (latency_part, throughput, waits):
        monkeypatch.setattr(module, "ENTRIES", ENTRIES)
    monkeypatch.setattr(replay, "ENTRIES", ENTRIES[:1])
    monkeypatch.setattr(waits, "scene", lambda: latency.scene(60, 80))
    monkeypatch.setattr(roofline, "measured", lambda _: roofline.Peaks(dict.fromkeys(roofline.BYTES, 1e9), 1e9, "set"))
    monkeypatch.setattr(ways_module, "FENCED_RUNS", 1)
    monkeypatch.setattr(ways_module, "WARM_UPS", 1)


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return Report(tmp_path / "gpu_part.json", "part", Deadline(600))


def small_maskrcnn(**_: None) -> torch.nn.Module:
    return maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=64, max_size=96, num_classes=4, box_detections_per_img=20,
        rpn_post_nms_top_n_test=40,
    )  # fmt: skip
