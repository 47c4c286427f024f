"""Pages hold what the reports say."""

import json
from pathlib import Path

from cascadezoo.benchmarks.measure.pages import charts, speed_page

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "benchmarks" / "results"


def test_the_page_in_the_tree_is_the_one_its_reports_give() -> None:
    assert (ROOT / "docs" / "speed.md").read_text() == speed_page(RESULTS)


def test_the_charts_in_the_tree_are_those_its_reports_give() -> None:
    there = {path.name: path.read_text() for path in (ROOT / "docs" / "images").glob("*.svg")}
    assert there == charts(RESULTS)
    assert "growth.svg" in there


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
