"""What ``verify`` writes for whoever goes on with its results."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from small_coco import NAME, tiny_load, write_coco

import cascadezoo
from cascadezoo.benchmarks.reports.verdict import Verdict
from cascadezoo.benchmarks.verify.results_stream import ResultsStream
from cascadezoo.coco.curves import METRICS
from cascadezoo.errors import UsageError


def run(root: Path, **options):
    options = {"speed": False, "tolerance": 100, "workers": 0, "device": "cpu", **options}
    (entry,) = cascadezoo.verify(NAME, data_root=root, **options).entries
    return entry


def reported_by_pycocotools(annotations: Path, results: Path, kind: str) -> list[float]:
    """As a reader of the file would get them."""
    with redirect_stdout(io.StringIO()):
        truth = COCO(annotations)
        found = json.loads(results.read_text())
        if kind == "segm":  # areas of masks, as mmdetection's CocoMetric has them
            for one in found:
                del one["bbox"]
            results.with_name("masks.json").write_text(json.dumps(found))
            results = results.with_name("masks.json")
        evaluation = COCOeval(truth, truth.loadRes(str(results)), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [100 * value if value > -1 else -1 for value in evaluation.stats]


def test_results_read_by_loadRes_give_the_same_ap_and_kept_ones_are_analysed_again(tmp_path: Path, monkeypatch) -> None:
    root = write_coco(tmp_path / "coco")
    monkeypatch.setattr(cascadezoo, "load", tiny_load)
    entry = run(root, run_dir=tmp_path / "run", analysis=tmp_path / "analysis")
    (part,) = entry.accuracy
    out = tmp_path / "analysis" / entry.name / "plain"
    annotations = root / "annotations" / "instances_val2017.json"
    for kind in ("bbox", "segm"):
        figures = part.figures[kind]
        assert 0 < figures["AP"] < 100
        theirs = reported_by_pycocotools(annotations, out / "results.json", kind)
        assert [-1 if figures[name] is None else figures[name] for name in METRICS] == pytest.approx(theirs, abs=1e-9)
        written = json.loads((out / kind / "figures.json").read_text())
        assert (written["figures"], written["detections"]) == (figures, part.detections)
        assert written["annotations_sha256"] == part.annotations_sha256
        assert (out / kind / "worst" / "1.png").stat().st_size > 1000

    without = run(root, run_dir=tmp_path / "run")
    assert without.accuracy == entry.accuracy
    monkeypatch.setattr(ResultsStream, "add", lambda *_: pytest.fail("detected again"))
    again = run(root, run_dir=tmp_path / "run", analysis=tmp_path / "second")
    assert again.accuracy[0].figures == part.figures
    second = tmp_path / "second" / entry.name / "plain"
    for name in ("results.json", "bbox/per_class.csv", "segm/errors.json"):
        assert (second / name).read_bytes() == (out / name).read_bytes()


def test_an_analysis_that_cannot_be_written_is_an_error_of_its_evaluation(tmp_path: Path, monkeypatch) -> None:
    root = write_coco(tmp_path / "coco", count=2)
    monkeypatch.setattr(cascadezoo, "load", tiny_load)
    (tmp_path / "file").touch()
    (part,) = run(root, analysis=tmp_path / "file", limit=1).accuracy
    assert (part.verdict, "cannot be made" in part.reason) == (Verdict.ERROR, True)
    with pytest.raises(UsageError, match="only speed was asked for"):
        run(root, analysis=tmp_path / "out", accuracy=False, speed=True)
