"""Speeds, read from what was measured."""

import json
from pathlib import Path

from sample_report import sample

from cascadezoo.benchmarks.reports.schema import GivenWeights, Settings
from cascadezoo.benchmarks.reports.speeds import RESULTS, Conditions, Speed, speeds_of_reports, speeds_of_results

ENTRY = "cascade_mask_r50_fpn_3x.mmdet"


def test_a_report_tells_them_by_batch() -> None:
    (found,) = speeds_of_reports({"r": sample()})
    conditions = Conditions("AMD EPYC", "fp32", 1, "images of the data set, decoded before; published weights")
    assert found == Speed(ENTRY, conditions, 12.5)
    settings = Settings(optimize=True, precision="bf16", decode=True)
    (found,) = speeds_of_reports({"r": sample().model_copy(update={"settings": settings})})
    assert found.conditions[1:] == (
        "bf16, optimised", 1, "images of the data set, decoding included; published weights"
    )  # fmt: skip


def test_given_weights_have_no_part_in_it() -> None:
    report = sample()
    given = GivenWeights(name="mine.pth", sha256="c" * 64)
    entries = tuple(entry.model_copy(update={"given": given}) for entry in report.entries)
    assert list(speeds_of_reports({"r": report.model_copy(update={"entries": entries})})) == []


def test_benchmarks_are_read_as_far_as_they_are_there(tmp_path: Path) -> None:
    assert list(speeds_of_results(tmp_path)) == []
    row = {"entry": "x", "way": "optimized", "precision": "fp16", "batch_size": 4, "network_input": [800, 1344],
           "images_per_second": 99.5}  # fmt: skip
    gpu = {"rows": [row, {**row, "way": "eager"}], "environment": {"torch": {"gpu": "a GPU"}}}
    (tmp_path / "gpu_latency.json").write_text(json.dumps(gpu))
    ways = {"plain": {"total_ms": {"median": 2000.0}}, "bf16": {"total_ms": {"median": 500.0}}}
    cpu = {"rows": [{"entry": "y", "ways": ways}], "image": [480, 640], "threads": 2, "environment": {"cpu": "a CPU"}}
    (tmp_path / "latency_entries.json").write_text(json.dumps(cpu))
    at_800, at_480 = (f"a generated image{of}; random weights" for of in (
        ", 800 × 1344 at the network", " of 480 × 640 at the entry's scale"))  # fmt: skip
    assert list(speeds_of_results(tmp_path)) == [
        Speed("x", Conditions("a GPU", "fp16, optimised", 4, at_800), 99.5),
        Speed("x", Conditions("a GPU", "fp16", 4, at_800), 99.5),
        Speed("y", Conditions("a CPU, 2 threads", "fp32", 1, at_480), 0.5),
        Speed("y", Conditions("a CPU, 2 threads", "bf16, optimised", 1, at_480), 2.0),
    ]


def test_those_in_the_tree_are_read() -> None:
    found = list(speeds_of_results(RESULTS))
    assert {"NVIDIA H100 80GB HBM3"} <= {speed.conditions.device for speed in found}
    assert all(speed.fps > 0 for speed in found)
