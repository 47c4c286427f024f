"""The zoo page as a text: complete, escaped, and asking for nothing; tests/browser looks at it in a browser."""

import base64
import hashlib
import re
from pathlib import Path

import pytest
from html_page import Page
from sample_report import sample, speed

from cascadezoo import registry
from cascadezoo.benchmarks.reports.schema import EntryReport, text_of
from cascadezoo.benchmarks.reports.verdict import Verdict
from cascadezoo.benchmarks.reports.zoo_page import STATES, TITLES, zoo_page
from cascadezoo.cli import main
from cascadezoo.manifest import PUBLISHERS

EVIL = "</script><img src=x onerror=alert(1)>\u202e'\"`{{7*7}}"


@pytest.fixture(scope="module")
def text() -> str:
    return zoo_page({})


def section(text: str, name: str) -> str:
    """The text of an entry's own section."""
    return Page(re.search(rf'<details [^>]*id="{re.escape(name)}">.*?</details>', text, re.DOTALL)[0]).text


def test_every_entry_has_a_row_and_a_section_with_its_figures(text: str) -> None:
    for entry in registry.entries():
        row = re.search(rf'<tr [^>]*data-name="{re.escape(entry.name)}".*?</tr>', text, re.DOTALL)[0]
        plain = next(each for each in entry.evaluations if not each.tta)
        assert f">{plain.box_ap}" in row
        told = section(text, entry.name)
        for shown in (*entry.citation, *entry.aliases, *entry.notes, entry.evidence, entry.attribution):
            assert " ".join(shown.split()) in " ".join(told.split())
        assert entry.availability == "embedded" or (entry.download_url or entry.source.checkpoint_url) in told
        assert entry.weights_license in told


def test_what_is_not_known_is_said(text: str) -> None:
    assert "None of these entries has been measured here yet" in Page(text).text
    assert "no weights were published" in section(text, "cascade_x101_32x8d_fpn_1x.detectron")
    assert "Not measured here." in section(text, "cascade_r50_fpn_1x.mmdet")
    assert "links triednever" in section(text, "cascade_r50_fpn_1x.mmdet")


def test_what_a_report_measured_is_shown_with_its_verdict() -> None:
    text = zoo_page({"night": sample()})
    assert "None of these entries" not in text
    assert "Report night: PASS on 5000 images." in section(text, "cascade_mask_r50_fpn_3x.mmdet")
    assert "images of the data set, decoded before; published weights" in text


def test_publishers_and_states_have_names() -> None:
    assert list(TITLES) == list(PUBLISHERS)
    assert {entry.availability for entry in registry.entries()} == set(STATES)


def test_the_page_asks_for_nothing_and_runs_its_own_script_alone(text: str) -> None:
    page = Page(text)
    assert page.links == ["data:,"]
    (script,) = re.findall("<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [value for tag, name, value in page.attributes if value and value.startswith("default-src")]
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert not any(name.startswith("on") for _, name, _ in page.attributes)
    for asking in ("url(", "@import", "fetch(", "XMLHttpRequest", "innerHTML", "eval("):
        assert asking not in text
    links = [value for tag, name, value in page.attributes if (tag, name) == ("a", "href")]
    assert all(link.startswith(("#", "https://", "http://")) for link in links)


def evil_page() -> str:
    report = sample()
    machine = report.machines[0].model_copy(update={"device": EVIL})
    settings = report.settings.model_copy(update={"evaluator": EVIL})
    stranger = EntryReport(name=EVIL, verdict=Verdict.PASS, speed=speed(1.0))
    report = report.model_copy(
        update={"machines": (machine,), "settings": settings, "entries": (*report.entries, stranger)}
    )
    return zoo_page({EVIL: report})


def test_names_from_anyone_are_text() -> None:
    text = evil_page()
    page = Page(text)
    assert "img" not in page.tags
    assert page.tags.count("script") == 1
    assert "\u202e" not in text
    assert page.text.count(EVIL.replace("\u202e", "\\u202e")) >= 3  # a device, a report, a stranger


def test_the_command_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["report", "zoo", "--html", str(tmp_path / "zoo.html")])
    assert stopped.value.code == 0
    assert (tmp_path / "zoo.html").read_text() == zoo_page({})
    assert capsys.readouterr() == ("", f"written to {tmp_path / 'zoo.html'}\n")


def test_the_command_says_which_report_is_of_other_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "old.json").write_text(text_of(sample()))
    with pytest.raises(SystemExit) as stopped:
        main(["report", "zoo", str(tmp_path / "old.json"), "--html", str(tmp_path / "zoo.html")])
    assert stopped.value.code == 0
    assert "old is stale: the manifest has changed (aaaaaaaaaaaa then" in capsys.readouterr().err
    assert "Report old: PASS" in (tmp_path / "zoo.html").read_text()
