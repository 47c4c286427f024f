"""Text from anyone on a card and in a report: one line, no markup.  Read by a Markdown and a YAML library."""

import dataclasses
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub.publishing import canonical_file, shrink
from markdown_it import MarkdownIt
from sample_report import MACHINE, sample

from cascadezoo import registry
from cascadezoo.benchmarks.reports.html import html
from cascadezoo.benchmarks.reports.markdown import link, markdown, plain
from cascadezoo.errors import UsageError
from cascadezoo.publishing.figures import Figures, Row
from cascadezoo.publishing.licensing import license_of
from cascadezoo.publishing.package import pack
from cascadezoo.publishing.publish import publish

NAME = "mask_r50_fpn_1x.detectron"
HOSTILE = [
    "a\n# Heading\n\n<script>alert(1)</script>",
    "a\r\n---\r\nlicense: mit\r\n---\r\nb",
    "[free](javascript:alert(1)) ![x](http://evil/x.png)",
    "<a href='javascript:alert(1)'>x</a> <img src=x onerror=alert(1)> <!-- ",
    "x | y | z |\n|---|---|",
    "`code ``` more\n```\n~~~",
    "<javascript:alert(1)> <http://evil> &lt;b&gt;",
    "*bold* _it_ __b__ ~~gone~~ \\| \\[x](javascript:y) $x$",
    "[x]: javascript:alert(1)\n[x]",
    "a\u2028b\u2029c\x1b[2Jd\x00e\u202ef\x85g",
    "- item\n  - [ ] more\n1. one",
    "': {a: b}\n- *x &y !!python/object:os.system \"",
    "]](javascript:a) )](b",
]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch, NAME)
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")


def parsed(text: str) -> tuple[Counter[str], list[str]]:
    """How many tokens of each kind a Markdown text has, and where its links lead."""
    kinds: Counter[str] = Counter()
    links = []
    for block in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text):
        for token in (block, *(block.children or ())):
            kinds[token.type] += 1
            links += [str(value) for name, value in token.attrs.items() if name in ("href", "src")]
    return kinds, links


def front(card: str) -> tuple[dict[str, Any], str]:
    _, matter, body = card.split("---\n", 2)
    return yaml.safe_load(matter), body


def require_same_form(card: str, benign: str) -> None:
    """A hostile text changed no more than the words."""
    (matter, body), (other, plain_body) = front(card), front(benign)
    assert matter.keys() == other.keys()
    kinds, links = parsed(body)
    wanted, wanted_links = parsed(plain_body)
    ignored = ("text", "text_special", "softbreak")
    assert {k: n for k, n in kinds.items() if k not in ignored} == {k: n for k, n in wanted.items() if k not in ignored}
    assert links == wanted_links
    assert "html_inline" not in kinds
    assert "html_block" not in kinds
    assert "<script" not in card
    assert not any(ord(each) < 32 and each != "\n" for each in card)
    assert "\u202e" not in card
    assert "\u2028" not in card


METADATA = ["source_sha256", "converter", "key_map", "started_from", "data", "trained_by", "attribution"]
TRAINED = {"categories": '{"ids":[1,2],"names":["a","b"]}', "source_sha256": None, "weights_license": "MIT"}


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_U8_every_field_of_metadata_stands_on_the_card_as_text(tmp_path: Path, text: str) -> None:
    def card(value: str, fields: list[str]) -> str:
        weights = canonical_file(tmp_path, NAME, **{**TRAINED, **dict.fromkeys(fields, value)})
        return publish(NAME, "org/model", weights=weights, dry_run=True).card

    benign = card("words", METADATA)
    require_same_form(card(text, METADATA), benign)


@pytest.mark.parametrize("field", [*METADATA, "entries", "source_url"])
def test_U8_each_field_of_metadata(tmp_path: Path, field: str) -> None:
    def card(value: str) -> str:
        if field == "entries":
            value = f"{NAME},{value.replace(',', ' ')}"
        weights = canonical_file(tmp_path, NAME, **{**TRAINED, field: value})
        return publish(NAME, "org/model", weights=weights, dry_run=True).card

    benign = card("https://host/words" if field == "source_url" else "words")
    for text in HOSTILE:
        shown = card(f"{text},https://host/words" if field == "source_url" else text)
        require_same_form(shown, benign)
        assert field != "source_url" or "javascript" not in shown


def card_of(tmp_path: Path, **changes: Any) -> str:
    package = pack(
        registry.info(NAME), "org/model", "main", tmp_path / f"{NAME}.safetensors", license=None, report=None
    )
    return dataclasses.replace(package.card, **changes).text()


ENTRY = ["name", "backbone", "schedule", "code_license"]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_U8_every_other_field_of_the_card(tmp_path: Path, text: str) -> None:
    canonical_file(tmp_path, NAME)

    def card(value: str, url: str) -> str:
        entry = registry.info(NAME).model_copy(update={**dict.fromkeys(ENTRY, value), "citation": (value,)})
        rows = (Row(tta=False, values={"box_ap": Decimal("40.1")}),)
        figures = Figures(basis="measured", dataset=value, rows=rows, source_name=value, source_url=url)
        return card_of(tmp_path, entry=entry, attribution=value, figures=figures)

    shown = card(text, "https://host/report")
    require_same_form(shown, card("words", "https://host/report"))
    for url in ("javascript:alert(1)", "data:text/html,x", "https://host/a b", "https://host/)\n# x", "//host", text):
        card_without = card("words", url)
        assert "Source: words." in card_without
        assert url not in card_without


def test_U8_the_licence_of_metadata_is_held_to_the_same_form_as_one_that_is_given(tmp_path: Path) -> None:
    for text in [*HOSTILE, "my own licence", "Apache-2.0; MIT", "", "x" * 65, "MIT\n"]:
        for stated, given in ((text, None), (None, text), ("unstated", text), (text, "MIT")):
            with pytest.raises(UsageError, match=r"no (licence )?identifier") as caught:
                license_of(stated, given, NAME)
            assert "\n" not in str(caught.value)
        weights = canonical_file(tmp_path, NAME, **{**TRAINED, "weights_license": text})
        with pytest.raises(UsageError, match="no identifier of SPDX's"):
            publish(NAME, "org/model", weights=weights, dry_run=True)
    assert license_of("CC-BY-4.0", None, NAME).id == "CC-BY-4.0"


def test_U8_a_branch_is_quoted_in_the_address_of_its_report(tmp_path: Path) -> None:
    from cascadezoo.benchmarks.reports.schema import text_of

    weights = canonical_file(tmp_path, NAME)
    digest = publish(NAME, "org/model", weights=weights, dry_run=True).card.rpartition(
        "content digest of its tensors | "
    )[2]
    report = sample()
    entry = report.entries[0].model_copy(update={"name": NAME, "weights_digest": digest[:64]})
    path = tmp_path / "report.json"
    path.write_text(text_of(report.model_copy(update={"entries": (entry,)})))
    done = publish(NAME, "org/model", weights=weights, dry_run=True, report=path, revision="a) [b](javascript:c)\n# d")
    assert "/blob/a%29%20%5Bb%5D%28javascript%3Ac%29%0A%23%20d/report.json)" in done.card


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_U8_every_text_of_a_report_stands_in_markdown_and_html_as_text(text: str) -> None:
    def report(value: str) -> Any:
        machine = MACHINE.model_copy(
            update={
                **dict.fromkeys(("device", "cpu", "driver", "cuda", "system", "python", "decoder", "evaluator"), value),
                "packages": {"torch": value},
            }
        )
        made = sample()
        entry = made.entries[0]
        accuracy = entry.accuracy[0].model_copy(update={"reason": value, "dataset": value})
        entry = entry.model_copy(update={"name": value, "accuracy": (accuracy,)})
        settings = made.settings.model_copy(update={"precision": value, "evaluator": value})
        words = dict.fromkeys(("version", "commit", "code_sha256", "manifest_sha256"), value)
        return made.model_copy(update={**words, "entries": (entry,), "machines": (machine,), "settings": settings})

    ignored = ("text", "text_special", "softbreak")
    shown, wanted = parsed(markdown(report(text))), parsed(markdown(report("words")))
    assert {k: n for k, n in shown[0].items() if k not in ignored} == {
        k: n for k, n in wanted[0].items() if k not in ignored
    }
    assert shown[1] == []
    page, plain_page = html(report(text)), html(report("words"))
    for tag in ("<script", "<a ", "<img", "<b>", "<!-- "):
        assert page.count(tag) == plain_page.count(tag)


def test_U8_words_and_links_by_hand() -> None:
    assert plain("a_b cascade_mask_r50 _c_") == "a_b cascade_mask_r50 &#95;c&#95;"
    assert plain("x | <y>\n[z]") == "x \\| &#60;y&#62; &#91;z&#93;"
    assert link("a", "https://host/x_y?z=1#k") == "[a](https://host/x_y?z=1#k)"
    for url in ("javascript:x", "HTTPS://h/(x)", "http://h/<x>", "ftp://h/x", "", "https://h/\n", None):
        assert link("a", url) == "a"
