"""The training benchmark on a tiny network: its parts are there and make up the step."""

import json
import sys
from pathlib import Path

import pytest

from cascadezoo.benchmarks.measure import training
from cascadezoo.coco.dataset import CocoDataset
from cascadezoo.providers import SPECS

from tiny_zoo import narrow


def test_where_the_time_of_a_step_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SPECS["mmdet"], "cascade_mask_r50_fpn", narrow(80))
    output = tmp_path / "report.json"
    monkeypatch.setattr(sys, "argv", ["training", "--steps", "2", "--workers", "0", "--output", str(output)])
    training.main()
    report = json.loads(output.read_text())
    assert list(report["seconds"]) == list(report["share"]) == list(training.PARTS)
    assert all(seconds["min"] > 0 for seconds in report["seconds"].values())
    assert sum(report["share"].values()) == pytest.approx(1, abs=1e-3)
    steps = report["step_seconds"]
    assert 2 / steps["max"] <= report["images_per_second"] <= 2 / steps["min"]
    assert report["environment"]["packages"]["torch"]


def test_the_generated_data_is_worth_learning(tmp_path: Path) -> None:
    data = CocoDataset(*training.generate(tmp_path, 2))
    record = data.record(0)
    assert (len(data), len(data.categories), len(record.labels)) == (2, 80, training.OBJECTS)
    assert not record.crowd.any()
