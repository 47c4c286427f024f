"""A report as a file, a table and a page; when it is stale."""

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest
import torch
from html_page import Page
from sample_report import MACHINE, report_of, sample

from cascadezoo import manifest
from cascadezoo.benchmarks.reports import digest
from cascadezoo.benchmarks.reports import schema as report_module
from cascadezoo.benchmarks.reports.digest import code_digest
from cascadezoo.benchmarks.reports.html import html
from cascadezoo.benchmarks.reports.markdown import markdown, table
from cascadezoo.benchmarks.reports.schema import (
    Settings,
    describe_machine,
    read_report,
    schema,
    text_of,
    without_timing,
)
from cascadezoo.errors import FileError, MissingResource
from cascadezoo.version import __version__


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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"format": "cascadezoo verify 9", "version": "7.0.0"},
            "reads: it is 'cascadezoo verify 9', written by version 7.0.0 (",
        ),
        (
            {"version": "0.0.1"},
            "reads: it is 'cascadezoo verify 1', written by version 0.0.1 (machines: Field required)",
        ),
        ({"version": None}, "written by version None"),
        ({"version": "x" * 999}, f"written by version {'x' * 40} ("),
        ({"version": __version__}, "report of `cascadezoo verify` (machines: Field required): make it again"),
    ],
)
def test_V5_a_report_of_another_version_says_so(tmp_path: Path, change: dict, words: str) -> None:
    data = {**json.loads(text_of(sample())), **change}
    del data["machines"]
    (tmp_path / "old.json").write_text(json.dumps(data))
    with pytest.raises(FileError, match=re.escape(words)):
        read_report(tmp_path / "old.json")


def test_V5_a_report_from_before_given_weights_were_named_is_read(tmp_path: Path) -> None:
    data = json.loads(text_of(sample()))
    for entry in data["entries"]:
        del entry["given"]
    (tmp_path / "old.json").write_text(json.dumps(data))
    assert read_report(tmp_path / "old.json") == sample()


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
    monkeypatch.setattr(digest, "sources", lambda room: digest._sources(tmp_path, room))
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


def test_the_page_shows_every_entry_and_needs_no_network() -> None:
    text = html(sample())
    page = Page(text)
    assert page.links == ["data:,"]  # no icon is asked for
    assert not {"script", "img", "iframe"} & set(page.tags)
    assert "url(" not in text
    assert "@import" not in text
    for entry in sample().entries:
        assert page.text.count(entry.name) >= 2  # in a table and in its details
    for shown in ("41.25 (41.2)", "1 FAIL, 1 PASS", "12.50", "16.1 on V100", "no <weights> & no data", "AMD EPYC"):
        assert shown in page.text
    assert "<weights>" not in text


def test_V9_counts_are_worded() -> None:
    one = sample().model_copy(update={"entries": sample().entries[:1], "settings": Settings(limit=1, shard=(3, 8))})
    text = html(one)
    assert "<title>Verification of 1 model</title>" in text
    assert "<title>Verification of 2 models</title>" in html(sample())
    for shown in ("the first image, shard 3/8", "AMD EPYC, 2 cores, 2 threads"):
        assert shown in Page(text).text
    single = MACHINE.model_copy(update={"cores": 1, "threads": 1})
    two = sample().model_copy(update={"machines": (MACHINE, single)})
    assert "## Machine 2, 0 entries" in markdown(two)
    assert "AMD EPYC, 1 core, 1 thread" in markdown(two)
    split = two.entries[0].model_copy(update={"machine": 1})
    assert "## Machine 2, 1 entry\n" in markdown(two.model_copy(update={"entries": (split, two.entries[1])}))


def test_V9_a_narrow_page_shows_each_cell_under_its_heading() -> None:
    text = html(sample())
    heads = [
        "entry",
        "evaluation",
        "verdict",
        "box AP (published)",
        "mask AP (published)",
        "why",
    ]
    assert re.findall('<th scope="col">(.+?)</th>', text)[:6] == heads
    assert re.findall('<td data-label="(.+?)">', text)[:6] == heads
    assert "td::before { content: attr(data-label);" in text
    for hiding in ("overflow-x", "text-overflow", "nowrap; }\ntd"):
        assert hiding not in text
    long = "damaged: /a/folder/" + "x" * 2000
    part = sample().entries[0].accuracy[0].model_copy(update={"reason": long})
    assert long in Page(html(report_of(part))).text


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
