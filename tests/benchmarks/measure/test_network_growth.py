"""Points of a network's growth: as many detections as asked for, each in a process of its own, once."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from cascadezoo.benchmarks.measure import network_growth
from cascadezoo.benchmarks.measure.network_growth import CASES, Point
from cascadezoo.benchmarks.verify.speed import STAGES
from cascadezoo.providers import SPECS

from tiny import tiny


@pytest.mark.parametrize("precision", ["plain", "fp32"])
@pytest.mark.parametrize("detections", [0, 1, 7])
def test_a_point_has_the_detections_it_says(precision: str, detections: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SPECS["mmdet"], "cascade_mask_r50_fpn", tiny())
    row = network_growth.measure("cascade_mask_r50_fpn_1x", Point((64, 96), 2, detections), precision, 2, 0.0)
    assert (row["detections"], row["runs"]) == (2 * detections, 1)  # there were no seconds for a second run
    assert list(row["stages_ms"]) == list(STAGES)
    assert row["peak_bytes"] >= row["ready_bytes"] > 2**20
    assert (row["threads"], row["sides"], row["batch"]) == (torch.get_num_threads(), (64, 96), 2)


def test_a_point_runs_in_a_process_of_its_own() -> None:
    row = network_growth.fresh("cascade_mask_r18_fpn_shapes.cascadezoo", Point((64, 96), most=3), "fp32", 2, 60.0)
    assert (row["sides"], row["detections"], row["runs"]) == ([64, 96], 3, 2)


def test_images_have_four_times_the_pixels_and_no_padding() -> None:
    sizes = [size for size, _ in CASES["megapixels"]]
    assert sizes == [0.258, 1.032, 4.129, 16.515]
    assert all(side % 32 == 0 for cases in CASES.values() for _, point in cases for side in point.sides)
    assert [size for size, _ in CASES["detections"]] == [0, 1, 10, 50, 100]
    assert [size for size, _ in CASES["images"]] == [1, 2, 4, 8]


def test_a_report_runs_each_point_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Point] = []

    def fresh(entry: str, point: Point, precision: str, runs: int, seconds: float) -> dict:
        ran.append(point)
        pixels = point.sides[0] * point.sides[1] * point.batch
        return {**point._asdict(), "total_ms": {"median": pixels / 1000}, "peak_bytes": pixels}

    monkeypatch.setattr(network_growth, "fresh", fresh)
    output = tmp_path / "report.json"
    done = CliRunner().invoke(network_growth.main, ["--output", str(output)], catch_exceptions=False)
    assert len(ran) == len(set(ran)) == 11  # 4 + 5 + 4, of which one is in all three
    cases = json.loads(output.read_text())["cases"]
    assert {name: [row["size"] for row in rows] for name, rows in cases.items()} == {
        name: [size for size, _ in points] for name, points in CASES.items()
    }
    assert "megapixels: exponent 1.00" in done.output
    assert "detections: exponent 0.00" in done.output
    assert "images: exponent 1.00" in done.output
