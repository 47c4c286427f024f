"""The training benchmark on a tiny network: its parts are there and make up the step."""

import json
import subprocess
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


def test_an_earlier_commit_is_measured_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own code: here one that writes down what it was asked for."""
    measured = {name: {"median": 3.0} for name in ("seconds", "share", "step_seconds")}
    script = (
        "import json, sys\n"
        "from pathlib import Path\n"
        f"report = {measured} | {{'images_per_second': 0.5, 'peak_bytes': 7, 'argv': sys.argv[1:]}}\n"
        "Path(sys.argv[-1]).write_text(json.dumps(report))\n"
    )
    repository = tmp_path / "repository"
    package = repository / "cascadezoo/benchmarks/measure"
    package.mkdir(parents=True)
    (package / "training.py").write_text(script)
    git = ["git", "-C", str(repository), "-c", "user.name=me", "-c", "user.email=me@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "before"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(training, "ROOT", repository)
    monkeypatch.setattr(training, "COMPILED", ())
    found = training.measure_commit("HEAD", ["--steps", "2"], tmp_path)
    assert found["argv"][:3] == ["--steps", "2", "--output"]
    assert not (tmp_path / "before").exists()
    with pytest.raises(subprocess.CalledProcessError):
        training.measure_commit("no-such-commit", [], tmp_path)

    monkeypatch.setitem(SPECS["mmdet"], "cascade_mask_r50_fpn", narrow(80))
    monkeypatch.setattr(training, "measure_commit", lambda *_: found)
    output = tmp_path / "report.json"
    given = ["training", "--steps", "1", "--workers", "0", "--before", "abc", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", given)
    training.main()
    report = json.loads(output.read_text())
    assert report["before"] == {"commit": "abc", **measured, "images_per_second": 0.5, "peak_bytes": 7}
    assert report["times_faster"] == pytest.approx(3 / report["step_seconds"]["median"], abs=0.01)


def test_the_generated_data_is_worth_learning(tmp_path: Path) -> None:
    data = CocoDataset(*training.generate(tmp_path, 2))
    record = data.record(0)
    assert (len(data), len(data.categories), len(record.labels)) == (2, 80, training.OBJECTS)
    assert not record.crowd.any()
