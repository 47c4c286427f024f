"""The whole of verification measures the AP that mmdetection reports on the same images with the same weights."""

import json
from pathlib import Path

import pytest

import cascadezoo
from cascadezoo.benchmarks.reports.verdict import Verdict, exit_code
from cascadezoo.benchmarks.verify.results_stream import merged, read_results
from cascadezoo.coco.evaluation import evaluate

import procedural

ROOT = Path(__file__).parent / "coco_mini"
NAME = "cascade_mask_r50_fpn_1x.mmdet"
EXPECTED = json.loads((ROOT / "expected.json").read_text())


@pytest.mark.parity
@pytest.mark.slow  # seven images at 800 x 1333
def test_the_ap_is_mmdetections(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pth"
    procedural.write_checkpoint(checkpoint, "mmdet", procedural.make_tensors(procedural.load_case(ROOT)))
    report = cascadezoo.verify(
        NAME, weights=checkpoint, data_root=ROOT, speed=False, device="cpu", run_dir=tmp_path / "run"
    )
    checkpoint.unlink()  # a few hundred megabytes
    (accuracy,) = report.entries[0].accuracy
    for kind, figures in EXPECTED["pycocotools"].items():
        for metric, value in figures.items():
            # recorded on another machine: one detection that moves across a threshold may show, no more
            assert accuracy.figures[kind][metric] == pytest.approx(100 * value, abs=0.2), (kind, metric)
    for key, value in EXPECTED["reported"].items():
        kind, _, metric = key.removeprefix("coco/").partition("_mAP")
        name = f"AP{metric.removeprefix('_')}"
        assert accuracy.figures[kind][name] == pytest.approx(100 * value, abs=0.2 + 0.05), key  # three digits
    assert accuracy.verdict is Verdict.FAIL  # stand-in weights: not the published AP
    assert exit_code(report.verdicts(), strict=False) == 1

    results = merged([read_results(tmp_path / "run" / NAME / "plain.results")])
    annotations = ROOT / "annotations" / "instances_val2017.json"
    assert evaluate(annotations, results, evaluator="pycocotools") == accuracy.figures
    # a model that detects otherwise has other figures: the comparison above can fail
    assert evaluate(annotations, results[::2])["bbox"]["AP"] != pytest.approx(accuracy.figures["bbox"]["AP"], abs=0.2)
