"""The benchmark of dense images at a small size: both ways agree, and every number of its page is there."""

import json
import sys
from pathlib import Path

import pytest
import torch

from cascadezoo.benchmarks.measure import dense
from cascadezoo.benchmarks.measure.pages import _dense_targets
from cascadezoo.losses.assign import match
from cascadezoo.providers import SPECS


@pytest.mark.parametrize("publisher", ["mmdet", "paddle", "detectron"])
def test_the_plain_form_computes_the_same(monkeypatch, publisher: str) -> None:
    monkeypatch.setattr(dense, "HEIGHT", 100)
    monkeypatch.setattr(dense, "WIDTH", 160)
    anchors, objects = dense.inputs(30)
    objects = objects / 3  # into the smaller image
    rule = SPECS[publisher]["cascade_mask_r50_fpn"].objective.rpn.matching
    assert torch.equal(dense.match_whole(anchors, objects, rule, 0), match(anchors, objects, rule, 0))


def test_the_report_and_its_page(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(dense, "OBJECTS", (2, 8))
    monkeypatch.setattr(dense, "run_fresh", lambda way, objects: dense.measure(way, objects))
    output = tmp_path / "dense_targets.json"
    monkeypatch.setattr(sys, "argv", ["dense", "--runs", "1", "--output", str(output)])
    dense.main()
    report = json.loads(output.read_text())
    # an 800 x 1333 image on strides of 4 to 64: 200 x 334, 100 x 167, 50 x 84, 25 x 42 and 13 x 21 cells of three
    assert report["anchors"] == 3 * (200 * 334 + 100 * 167 + 50 * 84 + 25 * 42 + 13 * 21)
    assert [row["objects"] for row in report["rows"]] == [2, 8]
    for row in report["rows"]:
        assert row["matching"]["equal"]
        assert row["matching"]["seconds"]["chunks"]["min"] > 0
        assert row["sample"]["bitmap_bytes"] == row["objects"] * 800 * 1333
        # windows of ellipses of at most 300 x 300 pixels, and 32 bytes each for where they lie
        assert 0 < row["sample"]["mask_bytes"] <= row["objects"] * (302 * 302 + 32)
    page = "\n".join(_dense_targets(report))
    assert "| 8 | " in page
    assert "(equal results)" in page
