"""Items of JSON lists, wherever the bytes happen to be cut."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from cascadezoo.coco import stream
from cascadezoo.coco.stream import Begin, JsonLists, NotAList
from cascadezoo.errors import BadAnnotations, MissingResource

DOCUMENT = {
    "info": {"year": 2026, "nested": [1, [2, {"a": []}]]},
    "numbers": [0, -1, 1.5, -2.25e-3, 10**30, 1e300],
    "words": ["", "\\", '"', "é", "\U0001f600", "]", "}, {"],
    "empty": [],
    "mixed": [True, False, None, [], {}, [[[]]], {"a": {"b": [1]}}],
    "last": None,
}


def items(path: Path) -> dict[str, Any]:
    """What the stream gives, as lists again."""
    found: dict[str, Any] = {}
    for key, item in JsonLists(path):
        if isinstance(item, Begin):
            found[key] = []
        elif isinstance(item, NotAList):
            found[key] = "no list"
        else:
            found[key].append(item)
    return found


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 7, 64, 2**20])
@pytest.mark.parametrize("indent", [None, 3])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_items_are_those_of_the_document(tmp_path: Path, monkeypatch, chunk: int, indent, encoding: str) -> None:
    monkeypatch.setattr(stream, "_CHUNK", chunk)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(DOCUMENT, indent=indent, ensure_ascii=False), encoding=encoding)
    lists = {key: value if isinstance(value, list) else "no list" for key, value in DOCUMENT.items()}
    assert items(path) == lists


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(" " * 3_000_000 + json.dumps(DOCUMENT) + "\n")
    lists = JsonLists(path)
    for _ in range(2):
        assert len(list(lists)) == 26  # 6 + 7 + 0 + 7 items, 4 beginnings, 2 values that are no lists
        assert lists.digest == hashlib.sha256(path.read_bytes()).hexdigest()


DEEP = "[" * 200_000
BROKEN = {
    "": "begins with",
    "   ": "begins with",
    "5": "begins with",
    "[1]": "holds a list",
    "{": "is the file whole",
    '{"a"': "is the file whole",
    '{"a": [1, 2': "is the file whole",
    '{"a": [1 2]}': "is missing",
    '{"a": [1,]}': "is no JSON",
    '{"a": [1]]}': "is missing",
    '{"a": [1], }': "is no JSON",
    "{1: [2]}": "an object's key is a text",
    '{"a": [tru]}': "is no JSON",
    '{"a": [1]} {': "something follows its end",
    '{"a": ' + DEEP: "nested too deeply",
    '{"a": [' + "9" * 5000 + "]}": "too many digits",
}


@pytest.mark.parametrize("chunk", [1, 2**20])
@pytest.mark.parametrize("text", BROKEN, ids=[text[:12] for text in BROKEN])
def test_what_is_no_json_is_refused_with_the_place(tmp_path: Path, monkeypatch, text: str, chunk: int) -> None:
    monkeypatch.setattr(stream, "_CHUNK", chunk)
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(BadAnnotations, match=rf"a\.json .*{BROKEN[text]}"):
        items(path)


def test_what_is_no_text_or_no_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'{"a": ["\xff\xfe\xfa"]}')
    with pytest.raises(BadAnnotations, match="no text in a UTF encoding"):
        items(path)
    with pytest.raises(MissingResource, match="no such annotation file"):
        items(tmp_path / "none.json")
    with pytest.raises(MissingResource, match="cannot be read"):
        items(tmp_path)


def test_an_item_without_end_is_given_up_before_the_file_is_in_memory(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(stream, "_CHUNK", 100)
    monkeypatch.setattr(stream, "_LONGEST", 1000)
    path = tmp_path / "a.json"
    path.write_text('{"a": ["' + "x" * 100_000 + '"]}')
    with pytest.raises(BadAnnotations, match="Unterminated string"):
        items(path)
    path.write_text('{"a": [' + ", ".join(["1"] * 100_000) + "]}")
    assert items(path) == {"a": [1] * 100_000}
