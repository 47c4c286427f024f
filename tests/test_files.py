"""JSON from anyone, and files that appear whole or not at all."""

import json
import os

import pytest

from cascadezoo.errors import UnwritableOutput
from cascadezoo.files import parse_json, whole_file, write_json


@pytest.mark.parametrize("text", ['{"a": [1, 2.5, null, "é"]}', '"\\ud83d\\ude00"', '"\\\\ud800"', "[]", " 1 "])
def test_json_is_read_as_text_and_as_bytes(text: str) -> None:
    assert parse_json(text) == parse_json(text.encode()) == json.loads(text)


NO_JSON = ["", "{", "{'a': 1}", '"\\ud800"', '{"a\\uDFFF": 1}', '["\\udc00\\ud800"]', "[" * 100_000, "9" * 5000]


@pytest.mark.parametrize("text", NO_JSON, ids=lambda text: text[:12])
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    for data in (text, text.encode()):
        with pytest.raises(ValueError, match=r"."):
            parse_json(data)


def test_text_that_no_utf8_can_hold_is_a_value_error() -> None:
    for data in ('"\ud800"', b'"\xed\xa0\x80"', b'"\xff"', b"\x80"):
        with pytest.raises(ValueError, match=r"."):
            parse_json(data)


def test_a_whole_file_takes_the_place_of_an_older_one(tmp_path) -> None:
    path = tmp_path / "a.json"
    path.write_text("older and longer")
    assert write_json(path, {"b": "é", "a": 1}) == path
    assert path.read_bytes() == '{"b": "é", "a": 1}\n'.encode()
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
def test_what_breaks_off_leaves_the_older_one(tmp_path, error) -> None:
    path = tmp_path / "a.txt"
    path.write_text("older")

    def write() -> None:
        with whole_file(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text() == "older"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_where_no_file_can_be_is_said_and_nothing_is_left(tmp_path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    reasons = {"folder": "Is a directory", "none/a": "No such file or directory", "file/a": "Not a directory"}
    for name, reason in reasons.items():
        with pytest.raises(UnwritableOutput) as caught, whole_file(tmp_path / name) as file:
            file.write(b"a")
        assert str(caught.value) == f"{tmp_path / name} cannot be written: {reason}; nothing was left"
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
