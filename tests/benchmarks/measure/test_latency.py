"""The latency benchmark on a tiny network: every stage is timed and the sums are right."""

import numpy as np
import torch
from torchvision.models.detection import maskrcnn_resnet50_fpn

from cascadezoo.benchmarks.measure import latency
from cascadezoo.providers import SPECS

from tiny import tiny


def test_report_has_every_stage_of_both(monkeypatch) -> None:
    monkeypatch.setitem(SPECS["mmdet"], "cascade_mask_r50_fpn", tiny())
    monkeypatch.setattr(latency, "CANDIDATES", 100)
    monkeypatch.setattr(latency, "maskrcnn_resnet50_fpn", _small_maskrcnn)
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    report = latency.measure("cascade_mask_r50_fpn_1x", None, image, torch.device("cpu"), runs=2)
    for name in ("cascadezoo", "torchvision"):
        assert list(report["stages_ms"][name]) == list(latency.STAGES)
        assert all(spread["min"] > 0 for spread in report["stages_ms"][name].values())
        assert report["detections"][name] > 0
        assert report["total_ms"][name]["max"] >= sum(s["min"] for s in report["stages_ms"][name].values()) - 0.1
    ratio = report["ratio_cascadezoo_to_torchvision"]
    assert ratio["min"] <= ratio["median"] <= ratio["max"]


def _small_maskrcnn(**_: None) -> torch.nn.Module:
    return maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=64, max_size=96, num_classes=4, box_detections_per_img=20
    )
