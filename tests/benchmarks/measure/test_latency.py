"""The latency benchmark on a tiny network: every stage is timed and the sums are right."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models.detection import maskrcnn_resnet50_fpn

import cascadezoo
from cascadezoo.benchmarks.measure import latency
from cascadezoo.providers import SPECS

from tiny import tiny


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SPECS["mmdet"], "cascade_mask_r50_fpn", tiny())
    monkeypatch.setattr(latency, "CANDIDATES", 100)
    monkeypatch.setattr(latency, "maskrcnn_resnet50_fpn", _small_maskrcnn)


IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def test_report_has_every_stage_of_both() -> None:
    report = latency.measure("cascade_mask_r50_fpn_1x", None, IMAGE, torch.device("cpu"), runs=2)
    for name in ("cascadezoo", "torchvision"):
        assert list(report["stages_ms"][name]) == list(latency.STAGES)
        assert all(spread["min"] > 0 for spread in report["stages_ms"][name].values())
        assert report["detections"][name] > 0
        assert report["total_ms"][name]["max"] >= sum(s["min"] for s in report["stages_ms"][name].values()) - 0.1
        assert report["whole_ms"][name]["min"] > 0
    ratio = report["ratio_cascadezoo_to_torchvision"]
    assert ratio["min"] <= ratio["median"] <= ratio["max"]
    assert (report["precision"], report["tf32"], report["batch_size"]) == ("fp32", False, 1)


def test_random_weights_let_norms_be_folded_once() -> None:
    with torch.inference_mode():
        model = latency.random_model("cascade_mask_r50_fpn_1x", IMAGE, "cpu")
    assert not any(x.is_inference() for x in model.parameters())


def test_a_batch_in_another_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """A batch of two copies of the image has twice the detections of one; TF32 is as said while it runs."""
    seen: set[str] = set()
    whole = latency.our_whole

    def watched(*arguments: Any) -> None:
        seen.add(torch.backends.cuda.matmul.fp32_precision)
        whole(*arguments)

    monkeypatch.setattr(latency, "our_whole", watched)
    monkeypatch.setattr(latency, "scene", lambda: IMAGE)
    output = tmp_path / "report.json"
    options = ["--precision", "tf32", "--batch-size", "2", "--runs", "1", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["latency", *options])
    latency.main()
    two = json.loads(output.read_text())
    assert (two["precision"], two["tf32"], two["batch_size"]) == ("tf32", True, 2)
    assert seen == {"tf32"}
    one = latency.measure("cascade_mask_r50_fpn_1x", None, IMAGE, torch.device("cpu"), runs=1)
    assert two["detections"] == {name: 2 * number for name, number in one["detections"].items()}
    said = capsys.readouterr().out
    assert "whole, unfenced" in said
    assert "batch 2, tf32, cpu" in said


def test_entries_are_timed_beside_themselves_optimised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(latency, "scene", lambda: IMAGE)
    monkeypatch.setattr(latency, "has_bfloat16", lambda: False)
    output = tmp_path / "report.json"
    options = ["--entries", "cascade_mask_r50_fpn_1x.mmdet", "--runs", "2", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["latency", *options])
    latency.main()
    report = json.loads(output.read_text())
    (row,) = report["rows"]
    assert (report["image"], report["runs"], row["network_input"]) == ([60, 80], 2, [64, 96])
    assert list(row["ways"]) == ["plain", "fp32"]
    for way in row["ways"].values():
        assert way["detections"] > 0
        assert list(way["stages_ms"]) == list(latency.STAGES)
        assert way["total_ms"]["max"] >= sum(stage["min"] for stage in way["stages_ms"].values()) - 0.1
    (ratio,) = row["times_faster_than_plain"].values()
    assert 0 < ratio["min"] <= ratio["median"] <= ratio["max"]
    said = capsys.readouterr().out
    assert "plain" in said
    assert "fp32" in said


def test_every_entry_of_the_list_is_in_the_zoo() -> None:
    assert [cascadezoo.info(entry).name for entry in latency.ENTRIES] == list(latency.ENTRIES)
    assert len({entry.split(".")[1] for entry in latency.ENTRIES}) == 8  # publishers, our own entry among them


def _small_maskrcnn(**_: None) -> torch.nn.Module:
    return maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        min_size=64,
        max_size=96,
        num_classes=4,
        box_detections_per_img=20,
        rpn_post_nms_top_n_test=40,
    )
