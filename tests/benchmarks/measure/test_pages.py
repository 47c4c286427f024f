"""Pages hold what the reports say."""

import json
from pathlib import Path

from cascadezoo.benchmarks.measure.pages import speed_page

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "benchmarks" / "results"


def test_the_page_in_the_tree_is_the_one_its_reports_give() -> None:
    assert (ROOT / "docs" / "speed.md").read_text() == speed_page(RESULTS)


def test_another_report_gives_another_page(tmp_path: Path) -> None:
    for path in RESULTS.glob("*.json"):
        (tmp_path / path.name).write_text(path.read_text())
    report = json.loads((tmp_path / "convert.json").read_text())
    report["peak_over_checkpoint"] = 1.87
    (tmp_path / "convert.json").write_text(json.dumps(report))
    assert "1.87 times the file" in speed_page(tmp_path)
