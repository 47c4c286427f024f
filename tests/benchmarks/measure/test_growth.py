"""The growth benchmark's own parts, on small sizes."""

import json
from pathlib import Path

import torch
from click.testing import CliRunner

from cascadezoo.benchmarks.measure import growth


def test_each_case_is_timed_at_three_sizes(tmp_path: Path) -> None:
    output = tmp_path / "growth.json"
    sizes = ["--runs", "2", "--candidates", "50", "--categories", "10", "--boxes", "2"]
    done = CliRunner().invoke(growth.main, [*sizes, "--output", str(output)], catch_exceptions=False)
    assert done.exit_code == 0
    cases = json.loads(output.read_text())["cases"]
    assert {case: [row["size"] for row in rows] for case, rows in cases.items()} == {
        "nms": [50, 200, 800],
        "categories": [10, 40, 160],
        "plot": [2, 8, 32],
    }
    assert all(row["milliseconds"]["ours"]["median"] >= 0 for rows in cases.values() for row in rows)
    assert all(row["milliseconds"]["one_pass"]["median"] >= 0 for row in cases["nms"])


def test_both_ways_of_nms_keep_the_same() -> None:
    ways = growth.nms(900)  # of three classes
    keep, count = ways["ours"]()
    assert count.tolist() == [100]
    assert torch.equal(keep[0], ways["one_pass"]()[:100])
