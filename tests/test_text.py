"""Text made printable (case C1)."""

import json
import logging
import unicodedata

import pytest
import torch

from cascadezoo.coco.categories import Categories
from cascadezoo.detections import Detections
from cascadezoo.errors import BuildError, CorruptCheckpoint
from cascadezoo.loading import build
from cascadezoo.spec.origin import Origin
from cascadezoo.text import printable, printable_json

from tiny import tiny


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x9b31m", "\\x9b31m"),
        ("\x7f\x00", "\\x7f\\x00"),
        ("\x85\u2028\u2029", "\\x85\\u2028\\u2029"),
        ("\u202eevil\u202c", "\\u202eevil\\u202c"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("x\udcff", "x\\udcff"),
        ("\ufeff\u200b\xad", "\\ufeff\\u200b\\xad"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_C1_what_acts_on_a_terminal_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown  # once is enough, and twice does no harm


@pytest.mark.parametrize(
    "text", ["Größe 3 µm", "日本語　名前", "naïve\u00a0point", "👩‍🚒", "می‌خواهم", "C:\\new\\x1b", ""]
)
def test_C1_text_for_people_stays(text: str) -> None:
    assert printable(text) == text


def test_C1_every_control_character_of_unicode_is_covered() -> None:
    controls = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in ("Cc", "Cs", "Zl", "Zp")]
    directions = [chr(code) for code in range(0x110000) if unicodedata.bidirectional(chr(code)) in
                  ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")]  # fmt: skip
    assert len(controls) == 65 + 2048 + 2
    assert len(directions) == 9
    assert all(printable(character)[0] == "\\" for character in controls + directions)


def test_C1_lines_stay_where_they_are_wanted() -> None:
    assert printable("a\n\tb\r\n\x1b", lines=True) == "a\n\tb\\r\n\\x1b"


def test_C1_json_keeps_its_value() -> None:
    value = {"a\x1b\u202e": ["\x9b\u2028\udc80", "日本語", "\U000e0041", "line\nbreak"]}
    text = printable_json(json.dumps(value, indent=2, ensure_ascii=False))
    assert json.loads(text) == value
    assert "日本語" in text
    assert '"a\\u001b\\u202e"' in text
    assert "\\udb40\\udc41" in text


def test_C1_messages_of_errors_are_printable_for_everyone() -> None:
    assert str(CorruptCheckpoint("x.pth\x1b[2J\nFORGED")) == "x.pth\\x1b[2J\\nFORGED"
    assert str(BuildError("it fails:\nx.cpp:1: \x1b[31merror")) == "it fails:\nx.cpp:1: \\x1b[31merror"


def test_C1_log_messages_are_printable_for_everyone(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("cascadezoo")
    log.warning("%s: %d tensors", "x\x1b[2J\nFORGED", 3)
    log.warning("100 % sure")
    assert caplog.messages == ["x\\x1b[2J\\nFORGED: 3 tensors", "100 % sure"]


def test_C1_what_python_prints_of_an_object_is_printable() -> None:
    evil = "\x1b[2J"
    categories = Categories((evil, "b"))
    found = Detections(torch.zeros(1, 4), torch.ones(1), torch.zeros(1, dtype=torch.int64), (4, 4), categories)
    model = build(tiny(num_classes=2))
    model.categories, model.origin = categories, Origin(started_from=evil, entry=evil)
    for shown in (repr(categories), repr(found), repr(model)):
        assert "\x1b" not in shown
        assert "\\x1b" in shown
