"""What notebooks show: pictures, tables, cards; hostile names in them; a model in a few lines."""

import base64
import io
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageShow
from sample_report import sample

from cascadezoo import notebook, registry
from cascadezoo.coco.categories import Categories
from cascadezoo.detections import Detections
from cascadezoo.errors import MissingResource
from cascadezoo.loading import build
from cascadezoo.spec.origin import Origin

from tiny import tiny

HOSTILE = "<script>alert('a')</script>\"&\u202e\x1b[2J"
PIXELS = np.full((60, 80, 3), 128, np.uint8)


class Page(HTMLParser):
    """The elements that a fragment has, with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}


def found(count: int = 2, **changes) -> Detections:
    boxes = torch.tensor([[5.0, 6.0, 25.0, 20.0]]).repeat(count, 1)
    given = Detections(boxes, torch.linspace(0.9, 0.5, count), torch.zeros(count), (60, 80), Categories([HOSTILE]))
    return replace(given, **changes)


def test_detections_are_a_picture_with_a_table() -> None:
    page = Page(found(source=PIXELS)._repr_html_())
    (image,) = [attributes for tag, attributes in page.elements if tag == "img"]
    kind, data = image["src"].split(",")
    assert kind == "data:image/jpeg;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert picture.size == (80, 60)
    assert np.abs(np.asarray(picture, int) - np.asarray(found().plot(PIXELS), int)).mean() < 8
    assert [tag for tag, _ in page.elements].count("tr") == 3
    assert "0.900" in page.text
    assert "25.0" in page.text
    assert page.tags() == {"div", "p", "strong", "img", "table", "tr", "th", "td"}  # and no script
    assert "\\u202e\\x1b[2J" in page.text
    assert not {"\u202e", "\x1b"} & set(page.text)


def test_the_png_is_the_plot() -> None:
    picture = Image.open(io.BytesIO(found(source=PIXELS)._repr_png_()))
    assert picture.format == "PNG"
    assert np.array_equal(np.asarray(picture), np.asarray(found().plot(PIXELS)))


def test_large_pictures_are_made_smaller() -> None:
    assert Image.open(io.BytesIO(notebook.png(Image.new("RGB", (4000, 1000))))).size == (1024, 256)


def test_without_a_source_there_is_a_table_alone() -> None:
    assert found()._repr_png_() is None
    assert Page(found()._repr_html_()).tags() == {"div", "p", "strong", "table", "tr", "th", "td"}
    assert Page(found()[[]]._repr_html_()).tags() == {"div", "p", "strong"}


def test_a_source_that_is_gone_is_named_above_the_table(tmp_path) -> None:
    gone = found(source=tmp_path / "<gone>.png")
    page = Page(gone._repr_html_())
    assert "<gone>.png" in page.text
    assert "gone" not in page.tags()
    assert "img" not in page.tags()
    assert gone._repr_png_() is None
    other = found(source=PIXELS[:30])
    assert "30x80 (height x width) for detections on 60x80" in Page(other._repr_html_()).text


def test_of_many_rows_the_first_are_shown() -> None:
    page = Page(found(45)._repr_html_())
    assert [tag for tag, _ in page.elements].count("tr") == 21
    assert "… and 25 more" in page.text


@pytest.fixture
def no_notebook(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace()))  # a terminal


def test_show_opens_the_systems_viewer(no_notebook, monkeypatch) -> None:
    shown = []
    monkeypatch.setattr(ImageShow, "show", lambda picture: shown.append(picture) or True)
    found(source=PIXELS).show()
    found().show(PIXELS)
    monkeypatch.delitem(sys.modules, "IPython")
    found().show(PIXELS)
    assert [picture.size for picture in shown] == [(80, 60)] * 3


def test_show_says_where_there_is_no_viewer(no_notebook, monkeypatch) -> None:
    monkeypatch.setattr(ImageShow, "_viewers", [])
    with pytest.raises(MissingResource, match=r"no program that shows pictures: save it"):
        found().show(PIXELS)


def test_show_shows_below_the_cell(monkeypatch) -> None:
    shown = []
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    display = SimpleNamespace(display=lambda data, raw: shown.append((data, raw)))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    found().show(PIXELS)
    ((data, raw),) = shown
    assert raw
    assert Image.open(io.BytesIO(data["image/png"])).size == (80, 60)


@pytest.mark.parametrize("entry", registry.entries(), ids=lambda entry: entry.name)
def test_an_entry_is_a_line_and_a_card(entry) -> None:
    line = repr(entry)
    assert str(entry) == line
    assert "\n" not in line
    assert len(line) < 160
    assert entry.name in line
    assert str(entry.evaluations[0].box_ap) in line
    page = Page(entry._repr_html_())
    assert entry.name in page.text
    assert entry.weights_license in page.text
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert links == ([entry.download_url] if entry.download_url else [])


def test_cards_escape_texts_and_addresses() -> None:
    page = Page(notebook.card(HOSTILE, [("a", 'https://a.b/"onclick="x'), (HOSTILE, "javascript:x"), ("empty", "")]))
    assert page.tags() == {"div", "p", "strong", "table", "tr", "th", "td", "a"}
    (link,) = [attributes for tag, attributes in page.elements if tag == "a"]
    assert link == {"href": 'https://a.b/"onclick="x', "rel": "noreferrer"}
    assert "empty" not in page.text


def test_a_verification_is_a_table_of_its_entries() -> None:
    report = sample()
    page = Page(report._repr_html_())
    assert [tag for tag, _ in page.elements].count("tr") == len(report.entries) + 1
    for entry in report.entries:
        assert entry.name in page.text
        assert entry.verdict in page.text
    measured = next(part for entry in report.entries for part in entry.accuracy if part.checks)
    assert f"({measured.checks[0].published})" in page.text


def test_a_model_prints_in_a_few_lines() -> None:
    model = build(tiny())
    text = repr(model)
    assert len(text.splitlines()) < 15
    assert max(map(len, text.splitlines())) < 120
    assert re.search(r"classes +5: ", text)
    assert re.search(r"weights +random$", text, re.MULTILINE)
    assert re.search(r"computes +on cpu, weights in float32$", text, re.MULTILINE)
    assert re.search(r"mode +evaluation$", text, re.MULTILINE)
    assert re.search(r"mode +training$", repr(model.train()), re.MULTILINE)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert f"{count / 1e6:.1f} million" in text
    model.half()
    assert f"{count / 1e6:.1f} million, " in repr(model)


def test_the_models_weights_have_a_state() -> None:
    model = build(tiny())
    model.origin = Origin(started_from="a file", weights_license="MIT")
    assert "a file; random in the class layers\n" in repr(model)
    assert "weights MIT, code not stated" in repr(model)
    with torch.no_grad():
        for head in model.box_heads:
            head.get_parameter("cls_score.weight").mul_(2)
    assert "a file\n" in repr(model)
    model.origin = Origin.random()
    assert "random at first\n" in repr(model)


def test_names_in_a_models_lines_are_printable_and_short() -> None:
    model = build(tiny())
    model.categories = Categories([HOSTILE, "b" * 5000, *"cde"])
    text = repr(model)
    assert not {"\u202e", "\x1b"} & set(text)
    assert max(map(len, text.splitlines())) < 240


def test_an_optimised_model_prints_too() -> None:
    text = repr(build(tiny()).optimize("cpu"))
    assert text.startswith("OptimizedDetector of ")
    assert len(text.splitlines()) < 15
