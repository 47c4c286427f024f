"""A report that grows while a run lasts, and a later run that measures only what failed."""

import json
from pathlib import Path

import pytest
from small_coco import NAME, tiny_load, write_coco

import cascadezoo
from cascadezoo.benchmarks.reports.schema import Report, read_report, without_timing
from cascadezoo.benchmarks.reports.verdict import Verdict
from cascadezoo.benchmarks.verify import live
from cascadezoo.cli import main
from cascadezoo.errors import MissingResource, UnwritableOutput, UsageError
from cascadezoo.files import write_json

BOXES, THIRD = "cascade_r50_fpn_1x.mmdet", "cascade_r101_fpn_1x.mmdet"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_coco(tmp_path_factory.mktemp("coco"), 2)


@pytest.fixture
def loaded(monkeypatch) -> list[str]:
    names: list[str] = []
    monkeypatch.setattr(cascadezoo, "load", lambda name, **_: names.append(name) or tiny_load(name))
    return names


def run(names, root: Path, **options) -> Report:
    given = {"speed": False, "tolerance": 100, "workers": 0, "device": "cpu", **options}
    return cascadezoo.verify(names, data_root=root, **given)


def verdicts(report: Report) -> list[str]:
    return [str(entry.verdict) for entry in report.entries]


def failing(report: Report, name: str, verdict: Verdict) -> Report:
    """The report with another verdict on one entry."""
    entries = tuple(e.model_copy(update={"verdict": verdict}) if e.name == name else e for e in report.entries)
    return report.model_copy(update={"entries": entries})


def test_the_report_can_be_read_while_it_grows(root: Path, tmp_path: Path, loaded: list[str], capsys) -> None:
    shown = []
    file = tmp_path / "report.json"
    report = run([NAME, BOXES], root, run_dir=tmp_path, finished=lambda _: shown.append(read_report(file)))
    assert [verdicts(each) for each in shown] == [["PASS", "SKIPPED"], ["PASS", "PASS"]]
    assert shown[0].entries[1].accuracy[0].reason == "not finished yet"
    assert read_report(tmp_path / "report.json") == report
    with pytest.raises(SystemExit) as stopped:
        main(["report", "merge", str(tmp_path), "-o", str(tmp_path / "merged.json")])
    assert stopped.value.code == 0
    merged = read_report(tmp_path / "merged.json")
    assert sorted(entry.name for entry in merged.entries) == sorted([NAME, BOXES])
    with pytest.raises(SystemExit) as stopped:
        main(["report", "show", str(tmp_path)])
    assert NAME in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main(["report", "show", str(root)])
    assert stopped.value.code == MissingResource.exit_code
    assert f"{root} holds no report.json" in capsys.readouterr().err


def test_a_report_that_cannot_be_shown_stops_nothing(root: Path, tmp_path: Path, loaded: list[str], caplog) -> None:
    (tmp_path / "report.json").mkdir()
    assert verdicts(run(NAME, root, run_dir=tmp_path)) == ["PASS"]
    assert f"{tmp_path}/report.json cannot be written: Is a directory" in caplog.text


def test_what_failed_or_was_not_finished_is_measured_again_and_the_rest_is_taken(
    root: Path, tmp_path: Path, loaded: list[str], caplog
) -> None:
    names = [NAME, BOXES, THIRD]
    first = run(names, root, run_dir=tmp_path / "run")
    earlier = failing(first, BOXES, Verdict.FAIL).model_copy(update={"code_sha256": "0" * 64})
    write_json(tmp_path / "run" / "report.json", earlier.model_dump(mode="json"))
    seen: list[str] = []
    loaded.clear()
    again = run(
        names, root, run_dir=tmp_path / "run", only_failed=tmp_path / "run", finished=lambda e: seen.append(e.name)
    )
    assert loaded == [BOXES]
    assert again.entries[1].accuracy[0].timing.images == 2  # its detections do not count either
    assert seen == [NAME, THIRD, BOXES]
    assert without_timing(again.model_dump(mode="json")) == without_timing(first.model_dump(mode="json"))
    assert again.entries[0] == first.entries[0]
    assert "what is taken from the earlier report is of another state: the code has changed" in caplog.text

    loaded.clear()
    write_json(tmp_path / "error.json", failing(first, THIRD, Verdict.ERROR).model_dump(mode="json"))
    assert verdicts(run([*names[1:]], root, only_failed=tmp_path / "error.json")) == ["PASS", "PASS"]
    assert loaded == [THIRD]


def test_entries_of_another_machine_keep_theirs(root: Path, tmp_path: Path, loaded: list[str]) -> None:
    first = run([NAME, BOXES], root)
    there = first.machines[0].model_copy(update={"device": "H100", "gpu": "H100"})
    earlier = failing(first, BOXES, Verdict.ERROR).model_copy(update={"machines": (there,)})
    write_json(tmp_path / "report.json", earlier.model_dump(mode="json"))
    report = run([NAME, BOXES], root, only_failed=tmp_path / "report.json")
    assert [report.machines[entry.machine].gpu for entry in report.entries] == ["H100", None]


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.PARTIAL, Verdict.NO_REFERENCE, Verdict.SKIPPED])
def test_other_verdicts_are_settled(verdict: Verdict) -> None:
    from sample_report import sample

    report = failing(sample(), NAME, verdict)
    assert NAME in live.settled_by(report, report.settings, None)
    assert NAME not in live.settled_by(report, report.settings, "0" * 64)  # now with weights that are given


def test_figures_of_other_settings_are_not_taken(root: Path, tmp_path: Path, loaded: list[str]) -> None:
    report = run(NAME, root, limit=1)
    write_json(tmp_path / "report.json", report.model_dump(mode="json"))
    with pytest.raises(UsageError, match=r"the earlier report has other settings \(limit\): give the same options"):
        run(NAME, root, only_failed=tmp_path / "report.json")
    with pytest.raises(UsageError, match=r"\(speed, precision\)"):
        run(NAME, root, only_failed=tmp_path / "report.json", limit=1, precision="bf16", speed=True)
    with pytest.raises(MissingResource, match="no such report"):
        run(NAME, root, only_failed=tmp_path / "none.json")


def test_what_cannot_be_removed_is_told(root: Path, tmp_path: Path, loaded: list[str]) -> None:
    report = failing(run(NAME, root), NAME, Verdict.FAIL)
    write_json(tmp_path / "report.json", report.model_dump(mode="json"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / NAME).touch()  # no folder
    with pytest.raises(UnwritableOutput, match=f"{NAME} cannot be removed: Not a directory"):
        run(NAME, root, run_dir=tmp_path / "run", only_failed=tmp_path / "report.json")


def test_the_total_is_told(root: Path, tmp_path: Path, loaded: list[str]) -> None:
    told: list[tuple] = []
    run([NAME, BOXES], root, total=lambda *all_of_it: told.append(all_of_it))
    (before, between) = told
    assert before == (0, 2, None)
    assert between[:2] == (1, 2)
    assert 0 < between[2] < 600
    data = json.dumps(run([NAME, BOXES], root, run_dir=tmp_path).model_dump(mode="json"))
    (tmp_path / "baseline.json").write_text(data)
    told.clear()
    run([NAME, BOXES], root, only_failed=None, baseline=tmp_path / "baseline.json", total=lambda *a: told.append(a))
    assert told[0][2] > 0  # by the baseline's times
