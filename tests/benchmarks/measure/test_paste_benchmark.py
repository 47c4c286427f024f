"""All ways of pasting give the same encodings, so that their times can be compared."""

import json

import pytest

from cascadezoo.benchmarks.measure import operator_sections, paste
from cascadezoo.errors import OpsNotBuilt


@pytest.mark.skipif("cpu" not in paste.COMPILED, reason="not built: `cascadezoo build-ops`")
def test_the_report_and_its_section(monkeypatch, tmp_path) -> None:
    output = tmp_path / "paste.json"
    monkeypatch.setattr(paste, "CASES", ((600, 800, 5),))
    monkeypatch.setattr("sys.argv", ["paste", "--runs", "1", "--output", str(output)])
    paste.main()
    report = json.loads(output.read_text())
    (row,) = report["rows"]
    assert row["seconds"].keys() == row["peak_bytes"].keys() == paste.WAYS.keys()
    assert row["peak_bytes"]["whole masks"] > 5 * 600 * 800  # a byte a pixel
    assert row["times_faster_than"]["compiled"] == row["times_less_memory_than"]["compiled"] == 1
    assert any(line.startswith("| 600x800 | 5 | ") for line in operator_sections.paste(report))


def test_encodings_that_differ_are_no_report(monkeypatch) -> None:
    monkeypatch.setattr(paste, "run_fresh", lambda way, *_: {"seconds": [1.0], "peak_bytes": 1, "encodings": way})
    with pytest.raises(ValueError, match="not the same encodings"):
        paste.row(3, 4, 5, 1)


def test_without_compiled_operators_it_says_what_to_run(monkeypatch) -> None:
    monkeypatch.setattr(paste, "COMPILED", ())
    monkeypatch.setattr("sys.argv", ["paste"])
    with pytest.raises(OpsNotBuilt, match="cascadezoo build-ops"):
        paste.main()
