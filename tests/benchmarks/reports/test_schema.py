"""A report as a file, a table and a page; when it is stale."""

import json
import re
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from sample_report import sample

from cascadezoo import manifest
from cascadezoo.benchmarks.reports import schema as report_module
from cascadezoo.benchmarks.reports.html import html
from cascadezoo.benchmarks.reports.markdown import markdown, table
from cascadezoo.benchmarks.reports.schema import (
    code_digest,
    describe_machine,
    read_report,
    schema,
    text_of,
    without_timing,
)
from cascadezoo.errors import FileError, MissingResource


def test_it_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(text_of(sample()))
    assert read_report(path) == sample()
    assert json.loads(path.read_text())["entries"][0]["accuracy"][0]["figures"]["bbox"]["AP"] == 41.25
    assert json.loads(path.read_text())["entries"][0]["accuracy"][0]["checks"][0]["published"] == "41.2"


def test_a_file_that_is_no_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingResource, match="no such report"):
        read_report(tmp_path / "none.json")
    for text in ("{", "{}", text_of(sample()).replace("cascadezoo verify 1", "cascadezoo verify 9")):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(FileError, match="not a report of `cascadezoo verify`"):
            read_report(tmp_path / "bad.json")


def test_the_schema_names_every_field() -> None:
    defined = json.loads(schema())
    assert set(defined["properties"]) == set(json.loads(text_of(sample())))
    assert defined["$defs"]["Verdict"]["enum"] == ["ERROR", "FAIL", "PARTIAL", "PASS", "NO-REFERENCE", "SKIPPED"]


def test_everything_that_changes_from_run_to_run_is_timing() -> None:
    data = without_timing(json.loads(text_of(sample())))
    assert "timing" not in json.dumps(data)
    assert data["entries"][0]["accuracy"][0]["figures"]["bbox"]["AP"] == 41.25
    assert data["entries"][1]["speed"] == {
        "verdict": "NO-REFERENCE",
        "reason": "no baseline",
        "published_fps": "16.1",
        "published_device": "V100",
    }


def test_a_report_is_stale_when_manifest_code_or_commit_changed(monkeypatch) -> None:
    fresh = sample().model_copy(
        update={"manifest_sha256": manifest.digest(), "code_sha256": code_digest(), "commit": None}
    )
    assert fresh.stale() == []
    assert (
        "the manifest has changed (aaaaaaaaaaaa then"
        in fresh.model_copy(update={"manifest_sha256": "a" * 64}).stale()[0]
    )
    assert "the code has changed" in fresh.model_copy(update={"code_sha256": "a" * 64}).stale()[0]
    monkeypatch.setattr(report_module, "environment", lambda: {"commit": "c" * 40})
    assert fresh.model_copy(update={"commit": "c" * 40}).stale() == []
    assert fresh.model_copy(update={"commit": "d" * 40}).stale() == [
        "it was made at commit dddddddddddd, this is cccccccccccc"
    ]


def test_the_code_digest_follows_every_source(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "inner" / "b.py").write_text("2")
    (tmp_path / "notes.txt").write_text("3")
    monkeypatch.setattr(report_module, "_files", lambda room: tmp_path)
    before = code_digest.__wrapped__()
    (tmp_path / "notes.txt").write_text("4")
    assert code_digest.__wrapped__() == before
    for file in ("inner/b.py", "inner/kernel.cu"):
        (tmp_path / file).write_text("5")
        assert before != (before := code_digest.__wrapped__())


def test_the_machine_is_described() -> None:
    machine = describe_machine("cpu", "hotcoco")
    assert machine.device == f"{machine.cpu}, {machine.threads} threads"  # fewer of them are another device
    assert machine.driver is machine.gpu is None
    assert re.match(r"hotcoco \d+\.\d+", machine.evaluator)
    assert re.match(r"OpenCV \d+.*jpeg", machine.decoder)
    assert machine.packages["torch"]


def test_of_several_gpus_the_one_that_is_measured_is_described(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: f"the GPU at {device}")
    machine = describe_machine("cuda:1", "pycocotools")
    assert machine.device == machine.gpu == "the GPU at cuda:1"


class Page(HTMLParser):
    """What a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.links, self.text = [], [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "action", "data", "srcset")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.text += data


def test_the_page_shows_every_entry_and_needs_no_network() -> None:
    text = html(sample())
    page = Page(text)
    assert page.open == []
    assert page.links == []
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert "url(" not in text
    assert "@import" not in text
    for entry in sample().entries:
        assert page.text.count(entry.name) >= 2  # in a table and in its details
    for shown in ("41.25 (41.2)", "1 FAIL, 1 PASS", "12.50", "16.1 on V100", "no <weights> & no data", "AMD EPYC"):
        assert shown in page.text
    assert "<weights>" not in text


def test_the_table_shows_every_verdict() -> None:
    text = markdown(sample())
    rows = [line for line in text.splitlines() if line.startswith("| cascade")]
    assert len(rows) == 4  # three evaluations, one speed
    assert "| FAIL | 41.25 (41.2) | 30.00 (35.9) | mask AP 30.0 for 35.9 (tolerance 0.1) |" in rows[0]
    assert "- commit: " + "d" * 40 in text
    assert sample().settings.tolerance == Decimal("0.2")
    assert "tolerance 0.2" in text


def test_tables_escape_and_leave_out_empty_columns() -> None:
    assert table(["a", "b", "c"], [["x|y", "", "1\n2"]]) == ["| a | c |", "| --- | --- |", "| x\\|y | 1 2 |"]
