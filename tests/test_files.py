"""JSON from anyone, and files that appear whole or not at all."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

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


# left-over part files

HALF = """
import sys, time
from pathlib import Path
from cascadezoo.files import whole_file
with whole_file(Path(sys.argv[1])) as file:
    file.write(b"half"); file.flush()
    print("writing", flush=True)
    time.sleep(60)
"""


@contextmanager
def writer(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that is in the middle of writing ``path``."""
    with subprocess.Popen([sys.executable, "-c", HALF, str(path)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "writing\n"
            yield process
        finally:
            process.kill()


def test_C9_what_a_killed_writer_left_is_cleared_by_the_next_of_the_same_target(tmp_path) -> None:
    path = tmp_path / "a.json"
    with writer(path):
        pass
    assert [(left.name, left.read_bytes()) for left in tmp_path.iterdir()] == [(".a.json.0.part", b"half")]
    write_json(tmp_path / "b.json", 1)  # another target
    assert sorted(os.listdir(tmp_path)) == [".a.json.0.part", "b.json"]
    write_json(path, 2)
    assert sorted(os.listdir(tmp_path)) == ["a.json", "b.json"]
    assert path.read_bytes() == b"2\n"


def test_C9_a_living_writer_keeps_its_file_and_several_that_were_killed_are_cleared(tmp_path) -> None:
    path = tmp_path / "a.json"
    with writer(path) as first, writer(path), writer(path):
        assert sorted(os.listdir(tmp_path)) == [f".a.json.{number}.part" for number in range(3)]
        write_json(path, 1)
        assert len(os.listdir(tmp_path)) == 4
        first.kill()
        first.wait()
        write_json(path, 2)
        assert sorted(os.listdir(tmp_path)) == [".a.json.1.part", ".a.json.2.part", "a.json"]
    write_json(path, 3)
    assert os.listdir(tmp_path) == ["a.json"]


def test_C9_two_writers_at_once_both_end_well(tmp_path) -> None:
    path = tmp_path / "a.txt"
    with whole_file(path) as one:
        one.write(b"one")
        with whole_file(path) as two:
            two.write(b"two")
        assert path.read_bytes() == b"two"
    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_C9_many_writers_at_once_leave_one_whole_file(tmp_path) -> None:
    path = tmp_path / "a.txt"

    def write(number: int) -> None:
        for _ in range(20):
            with whole_file(path) as file:
                file.write(bytes([number]) * 100_000)

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(write, number) for number in range(6)]:
            done.result()
    assert os.listdir(tmp_path) == ["a.txt"]
    assert len(path.read_bytes()) == 100_000
    assert len(set(path.read_bytes())) == 1


def test_C9_part_files_of_targets_with_longer_names_and_links_are_left_alone(tmp_path) -> None:
    (tmp_path / ".a.json.0.part").write_text("of a.json")
    (tmp_path / "kept").write_text("kept")
    (tmp_path / ".a.0.part").symlink_to(tmp_path / "kept")
    with whole_file(tmp_path / "a") as file:
        file.write(b"1")
    assert (tmp_path / ".a.json.0.part").read_text() == "of a.json"
    assert (tmp_path / "kept").read_text() == "kept"
    assert (tmp_path / "a").read_bytes() == b"1"


def test_C9_a_file_may_be_for_its_owner_alone(tmp_path) -> None:
    for name, mode in (("open", 0o666), ("own", 0o600)):
        with whole_file(tmp_path / name, mode) as file:
            file.write(b"1")
    umask = os.umask(0o022)
    os.umask(umask)
    assert (tmp_path / "own").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "open").stat().st_mode & 0o777 == 0o666 & ~umask
