"""Pages hold what the reports say."""

import json
from pathlib import Path

from cascadezoo.benchmarks.measure.pages import charts, speed_page
from cascadezoo.benchmarks.measure.readme_section import peers_chart, with_speed

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "benchmarks" / "results"


def test_the_page_in_the_tree_is_the_one_its_reports_give() -> None:
    assert (ROOT / "docs" / "speed.md").read_text() == speed_page(RESULTS)


def test_the_charts_in_the_tree_are_those_its_reports_give() -> None:
    there = {path.name: path.read_text() for path in (ROOT / "docs" / "images").glob("*.svg")}
    assert there == charts(RESULTS)
    assert "growth.svg" in there


def test_the_readme_says_what_its_report_gives() -> None:
    readme = (ROOT / "README.md").read_text()
    assert readme == with_speed(readme, RESULTS)
    assert "times as fast as mmdetection" in readme


def test_reports_that_are_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "convert.json").write_text((RESULTS / "convert.json").read_text())
    page = speed_page(tmp_path)
    assert "## Conversion" in page
    assert "## Training" not in page
    assert "Reports that are not there: `latency.json`, " in page
    assert "`convert.json`," not in page
    assert charts(tmp_path) == {}


def test_another_report_gives_another_page(tmp_path: Path) -> None:
    for path in RESULTS.glob("*.json"):
        (tmp_path / path.name).write_text(path.read_text())
    report = json.loads((tmp_path / "convert.json").read_text())
    report["peak_over_checkpoint"] = 1.87
    (tmp_path / "convert.json").write_text(json.dumps(report))
    assert "1.87 times the file" in speed_page(tmp_path)


def test_a_report_of_changed_code_says_so(tmp_path: Path) -> None:
    """On a CPU as on a GPU: no commit holds what was measured."""
    for name in ("convert.json", "gpu_build.json"):
        report = json.loads((RESULTS / name).read_text())
        for modified in (True, False):
            report["environment"] |= {"commit": "0123456789abcdef", "modified": modified}
            (tmp_path / name).write_text(json.dumps(report))
            (line,) = [line for line in speed_page(tmp_path).splitlines() if f"`{name}`)" in line]
            assert ("commit 01234567 with changes" in line) is modified
        (tmp_path / name).unlink()


def test_another_report_gives_another_paragraph_and_chart(tmp_path: Path) -> None:
    report = json.loads((RESULTS / "peers.json").read_text())
    report["latency"]["times_faster"]["optimized"]["mmdetection"]["whole"]["median"] = 7.77
    next(row for row in report["latency"]["rows"] if row["way"] == "plain")["whole_ms"]["median"] = 12340
    (tmp_path / "peers.json").write_text(json.dumps(report))
    assert "7.8 times as fast as mmdetection" in with_speed((ROOT / "README.md").read_text(), tmp_path)
    chart = peers_chart(report)["peers.svg"]
    assert chart.index("12.34 s") < chart.index("torchvision")  # the slowest first
    assert 'width="460.0"' in chart  # and as long as there is room
