"""The floor is counted as by hand, and a model's clocks are held against it run by run."""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from cascadezoo.benchmarks.measure import floor, latency
from cascadezoo.providers import SPECS

from tiny import tiny

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def test_a_small_network_is_counted_as_by_hand() -> None:
    found = floor.gflop(tiny(), (64, 96))
    assert list(found) == list(floor.STAGES)
    # levels of 16 x 24, 8 x 12, 4 x 6, 2 x 3 and 1 x 2 cells; 16 channels; 3 anchors a cell, each a score and 4 deltas
    cells = 16 * 24 + 8 * 12 + 4 * 6 + 2 * 3 + 1 * 2
    assert found["rpn"] == pytest.approx(2 * cells * (9 * 16 * 16 + 16 * 3 * 5) / 1e9)
    # 40 proposals in 3 stages: 7 x 7 x 16 to 32, and these to 6 scores and to 4 deltas
    assert found["box stages"] == pytest.approx(3 * 2 * 40 * (7 * 7 * 16 * 32 + 32 * 6 + 32 * 4) / 1e9)
    # 100 detections in 3 heads: 3 x 3 from 16 to 16 on 14 x 14, 2 x 2 transposed, one mask of 28 x 28
    mask = 14 * 14 * 9 * 16 * 16 + 14 * 14 * 4 * 16 * 16 + 28 * 28 * 16
    assert found["masks"] == pytest.approx(3 * 2 * 100 * mask / 1e9)
    assert found["backbone+neck"] > 0
    assert found["preprocess"] == found["postprocess"] == 0


def test_clocks_beside_their_floor() -> None:
    work = dict.fromkeys(floor.STAGES, 0.0) | {"rpn": 6.0, "masks": 4.0}
    clock = dict.fromkeys(floor.STAGES, 0.001) | {"detections": 100.0}
    clocks = [{**clock, "whole": 3.0}, {**clock, "whole": 4.0}]
    rates = [{"convolution": 1.0, "linear": 2.0}, {"convolution": 0.5, "linear": 1.0}]
    found = floor.compared(work, clocks, rates, {"convolution": 5.0, "linear": 8.0})
    assert found["gflop_per_second"]["convolution"] == {"min": 5.0, "median": 7.5, "max": 10.0}
    assert found["gflop_per_second"]["linear"] == {"min": 4.0, "median": 6.0, "max": 8.0}
    assert (found["floor_ms"]["rpn"], found["floor_ms"]["masks"], found["floor_ms"]["preprocess"]) == (800, 533.333, 0)
    assert found["floor_total_ms"] == pytest.approx(1333.333)
    # 10 GFLOP at 5 a second are 2 s, of which 3 s are 1.5 times; at 10 a second 1 s, of which 4 s are 4 times
    assert found["times_the_floor"] == {"min": 1.5, "median": 2.75, "max": 4.0}
    assert found["detections"] == 100


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_yardstick_times_what_it_says(precision: str) -> None:
    yardstick = floor.Yardstick(precision, level=(4, 6), product=(5, 7, 3))
    assert yardstick.gflop == {"convolution": 2 * 9 * 256 * 256 * 4 * 6 / 1e9, "linear": 2 * 5 * 7 * 3 / 1e9}
    assert yardstick.pixels.dtype == yardstick.weight.dtype == floor.DTYPES[precision]
    assert set(yardstick.clock()) == {"convolution", "linear"}


def test_a_report_of_a_small_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setitem(SPECS["mmdet"], "cascade_mask_r50_fpn", tiny())
    monkeypatch.setattr(latency, "CANDIDATES", 100)
    monkeypatch.setattr(latency, "has_bfloat16", lambda: False)
    monkeypatch.setattr(floor, "scene", lambda: IMAGE)
    monkeypatch.setattr(floor, "Yardstick", partial(floor.Yardstick, level=(4, 6), product=(5, 7, 3)))
    output = tmp_path / "floor.json"
    monkeypatch.setattr(sys, "argv", ["floor", "--runs", "2", "--output", str(output)])
    floor.main()
    report = json.loads(output.read_text())
    assert (report["network_input"], list(report["precisions"])) == ([64, 96], ["fp32"])
    found = report["precisions"]["fp32"]
    assert found["times_the_floor"]["min"] > 0
    profile = found["profile"]
    assert len(profile) == floor.OPERATORS + 2
    assert [row["operator"] for row in profile[-2:]] == ["others", floor.OUTSIDE]
    assert sum(row["share"] for row in profile) == pytest.approx(1, abs=0.01)
    assert any("conv" in row["operator"] for row in profile)
    assert "times (" in capsys.readouterr().out


def test_operators_are_listed_by_their_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that call others have only their own."""
    x = torch.randn(1024, 1024)
    monkeypatch.setattr(floor, "our_whole", lambda model, images: torch.nn.functional.linear(x, x))
    rows = floor.by_operator(torch.nn.Identity(), [])
    assert rows[0]["operator"] in ("aten::mm", "aten::addmm")
    assert rows[0]["ms"] > next(row["ms"] for row in rows if row["operator"] == "aten::linear")
