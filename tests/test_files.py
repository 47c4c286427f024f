"""JSON from anyone, and files that appear whole or not at all."""

import hashlib
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from cascadezoo.errors import OutputExists, UnwritableOutput
from cascadezoo.files import can_be_written, is_same_output, parse_json, protect, whole_file, write_json, written_sha256


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


# what is no file of its own


def test_V1_of_a_link_the_target_is_replaced(tmp_path) -> None:
    (tmp_path / "kept").mkdir()
    target = tmp_path / "kept" / "a.json"
    (tmp_path / "relative").symlink_to("kept/a.json")
    (tmp_path / "absolute").symlink_to(target)
    (tmp_path / "twice").symlink_to("relative")
    (tmp_path / "folder").symlink_to("kept")
    for number, link in enumerate(("relative", "absolute", "twice", "folder/a.json")):  # the first one leads nowhere
        write_json(tmp_path / link, number)
        assert target.read_bytes() == b"%d\n" % number
        assert not target.is_symlink()
    assert os.listdir(tmp_path / "kept") == ["a.json"]
    assert {path.name for path in tmp_path.iterdir() if path.is_symlink()} == {
        "relative", "absolute", "twice", "folder",
    }  # fmt: skip


def test_V1_links_that_lead_nowhere_are_said(tmp_path) -> None:
    (tmp_path / "round").symlink_to("about")
    (tmp_path / "about").symlink_to("round")
    (tmp_path / "gone").symlink_to("none/a.json")
    (tmp_path / "to_folder").symlink_to(".")
    reasons = {"round": "Too many levels of symbolic links", "gone": "No such file", "to_folder": "Is a directory"}
    for name, reason in reasons.items():
        assert not can_be_written(tmp_path / name)
        with pytest.raises(UnwritableOutput, match=rf"/{name} cannot be written: {reason}.*; nothing was left$"):
            write_json(tmp_path / name, 1)
    assert len(os.listdir(tmp_path)) == 4


def device(folder: Path, name: str, minor: int) -> Path:
    """A device of Linux; of one's own where this user could replace the system's."""
    if not os.access("/dev", os.W_OK):
        return Path("/dev", name)
    try:
        os.mknod(folder / name, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
        (folder / name).open("wb").close()
    except OSError:
        pytest.skip("no devices can be made here")
    return folder / name


def test_V1_devices_are_written_into(tmp_path) -> None:
    null = device(tmp_path, "null", 3)
    (tmp_path / "link").symlink_to(null)
    before = os.stat(null)
    for path in (null, tmp_path / "link"):
        assert can_be_written(path)
        write_json(path, 1)
    assert stat.S_ISCHR(os.stat(null).st_mode)
    assert os.path.samestat(before, os.stat(null))
    assert not [name for name in os.listdir(null.parent) if name.startswith(".null")]
    assert not is_same_output(null, null)


def test_V1_a_device_that_takes_nothing_is_said(tmp_path) -> None:
    full = device(tmp_path, "full", 7)
    with pytest.raises(UnwritableOutput, match=f"^{full} cannot be written: No space left on device$"):
        write_json(full, 1)
    assert stat.S_ISCHR(os.stat(full).st_mode)


@pytest.mark.parametrize("link", [False, True], ids=["itself", "a link to it"])
def test_V1_a_fifo_gets_all_of_it_and_stays(tmp_path, link: bool) -> None:
    fifo = path = tmp_path / "fifo"
    os.mkfifo(fifo)
    if link:
        path = tmp_path / "link"
        path.symlink_to("fifo")
    assert can_be_written(path)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()), daemon=True)
    reader.start()
    with whole_file(path) as file:
        file.write(b"a" * 100_000)
        file.seek(0)
        file.write(b"b")
        assert written_sha256(file) == hashlib.sha256(b"b" + b"a" * 99_999).hexdigest()
    reader.join(60)
    assert got == [b"b" + b"a" * 99_999]
    assert fifo.is_fifo()
    assert path.is_symlink() == link


def test_V1_a_fifo_gets_nothing_of_what_broke_off(tmp_path) -> None:
    os.mkfifo(tmp_path / "fifo")

    def write() -> None:
        with whole_file(tmp_path / "fifo") as file:
            file.write(b"half")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):  # nor does it wait for a reader
        write()
    assert os.listdir(tmp_path) == ["fifo"]


def test_V1_a_socket_is_refused_first(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket may not be long
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        assert not can_be_written(Path("socket"))
        with pytest.raises(UnwritableOutput, match="socket cannot be written"):
            write_json("socket", 1)
        assert stat.S_ISSOCK(os.stat("socket").st_mode)


@pytest.mark.parametrize("name", ["/proc/self/fd/1", "/proc/thread-self/fd/1", "link", "twice"])
def test_V1_a_descriptor_goes_on_from_where_it_is(tmp_path, name: str) -> None:
    if not os.path.exists("/proc/self/fd"):
        pytest.skip("descriptors with names are Linux's")
    (tmp_path / "link").symlink_to("/proc/self/fd/1")  # as /dev/stdout is
    (tmp_path / "twice").symlink_to("link")
    code = "import os, sys; from cascadezoo.files import write_json\n"
    code += f"print('before', flush=True); write_json({name!r}, 1); print('after')"
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, cwd=tmp_path, check=True)
    assert (tmp_path / "out").read_text() == "before\n1\nafter\n"
    piped = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=tmp_path, check=True)
    assert piped.stdout == b"before\n1\nafter\n"
    assert sorted(os.listdir(tmp_path)) == ["link", "out", "twice"]


def test_V1_outputs_that_would_replace_each_other_are_known(tmp_path) -> None:
    (tmp_path / "link").symlink_to("a")
    os.mkfifo(tmp_path / "fifo")
    same = is_same_output
    assert same(tmp_path / "a", tmp_path / "link")
    assert same(tmp_path / "a", tmp_path / "." / "a")
    assert not same(tmp_path / "a", tmp_path / "b")
    assert not same(tmp_path / "fifo", tmp_path / "fifo")


def test_V1_no_force_is_needed_for_what_is_not_replaced(tmp_path) -> None:
    source = tmp_path / "source"
    source.touch()
    os.mkfifo(tmp_path / "fifo")
    protect(tmp_path / "fifo", source, force=False)
    (tmp_path / "there").symlink_to("source")
    for force in (False, True):
        with pytest.raises(OutputExists, match="is the input itself"):
            protect(tmp_path / "there", source, force)
    (tmp_path / "other").touch()
    with pytest.raises(OutputExists, match="already there"):
        protect(tmp_path / "other", source, force=False)
