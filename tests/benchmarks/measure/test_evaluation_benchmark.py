"""The cost of evaluation, on a few images."""

import json
from pathlib import Path

from click.testing import CliRunner

from cascadezoo.benchmarks.measure import evaluation
from cascadezoo.benchmarks.verify.results_stream import read_results
from cascadezoo.coco.evaluation import evaluate


def test_both_evaluators_are_timed_and_agree(tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    done = CliRunner().invoke(
        evaluation.main, ["--images", "6", "--detections", "20", "--output", str(output)], catch_exceptions=False
    )
    assert done.exit_code == 0
    report = json.loads(output.read_text())
    assert list(report["evaluators"]) == ["hotcoco", "pycocotools"]
    assert report["figures_are_equal"]
    for row in report["evaluators"].values():
        assert row["peak_bytes"] > 2**20
        assert row["seconds"]["evaluate"] >= 0


def test_what_is_generated_is_worth_evaluating(tmp_path: Path) -> None:
    evaluation.generate(tmp_path, count=6, detections=20)
    results = read_results(evaluation.results_file(tmp_path))
    assert [len(found) for found in results.values()] == [20] * 6
    flat = [result for found in results.values() for result in found]
    figures = evaluate(evaluation.annotations_file(tmp_path), flat)
    assert 0 < figures["segm"]["AP"] < 100
    assert figures["bbox"]["APs"] is not None
