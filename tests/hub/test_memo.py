"""The memo: an unchanged file is hashed once, a changed one always."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from cascadezoo.converters import canonical
from cascadezoo.converters.canonical import content_digest, read_canonical, write_canonical
from cascadezoo.errors import CorruptCheckpoint
from cascadezoo.hub import memo

TENSORS = {"a": torch.arange(6.0).reshape(2, 3)}
DIGEST = content_digest(TENSORS)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def file(tmp_path: Path, cache: Path) -> Path:
    path = tmp_path / "a.safetensors"
    write_canonical(path, TENSORS, {"content_digest": DIGEST})
    return path


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with every content digest that is computed."""
    calls: list[int] = []

    def counted(tensors: object) -> str:
        calls.append(1)
        return content_digest(tensors)  # type: ignore[arg-type]

    monkeypatch.setattr(canonical, "content_digest", counted)
    return calls


def read(path: Path) -> None:
    tensors, _ = read_canonical(path, verify=memo.require_digest)
    assert tensors["a"].tolist() == [[0, 1, 2], [3, 4, 5]]


def notes(cache: Path) -> list[Path]:
    return sorted((cache / "digests").glob("*"))


def test_a_fresh_file_is_hashed_once(file: Path, hashed: list[int], cache: Path) -> None:
    for _ in range(3):
        read(file)
    assert len(hashed) == 1
    (note,) = notes(cache)
    assert json.loads(note.read_text())["digest"] == DIGEST
    read_canonical(file)  # without the memo
    assert len(hashed) == 2


def test_other_bytes_are_noticed_even_with_size_and_time_kept(file: Path, hashed: list[int]) -> None:
    read(file)
    before = file.stat()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)  # in place: the same inode
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_ino, after.st_mtime_ns) == (before.st_size, before.st_ino, before.st_mtime_ns)
    with pytest.raises(CorruptCheckpoint, match="content digest"):
        read_canonical(file, verify=memo.require_digest)
    assert len(hashed) == 2


def test_a_bad_file_is_never_remembered(file: Path, cache: Path) -> None:
    write_canonical(file, TENSORS, {"content_digest": "0" * 64})
    for _ in range(2):
        with pytest.raises(CorruptCheckpoint, match="content digest"):
            read_canonical(file, verify=memo.require_digest)
    assert notes(cache) == []


def test_another_digest_asked_for_is_another_question(file: Path) -> None:
    memo.remember(file, DIGEST)
    assert memo.known_good(file, DIGEST)
    assert not memo.known_good(file, "0" * 64)


def test_a_file_in_its_place_is_not_known(file: Path, tmp_path: Path) -> None:
    memo.remember(file, DIGEST)
    before = file.stat()
    other = tmp_path / "other"
    other.write_bytes(file.read_bytes())
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, file)
    assert not memo.known_good(file, DIGEST)
    assert not memo.known_good(tmp_path / "nowhere", DIGEST)


def test_a_file_changed_while_it_is_hashed_is_not_remembered(file: Path) -> None:
    memo.once(file, DIGEST, lambda: file.touch())
    assert not memo.known_good(file, DIGEST)


def test_hashing_starts_only_when_a_later_change_must_show(file: Path) -> None:
    """A write within the same tick of the clock would leave the times as they are."""
    file.touch()
    started: list[float] = []
    memo.once(file, DIGEST, lambda: started.append(time.time()))
    assert started[0] - file.stat().st_mtime >= 0.02
    assert memo.known_good(file, DIGEST)


@pytest.mark.parametrize("ahead", [0, 3600], ids=["whole seconds", "clock ahead"])
def test_times_that_cannot_be_trusted_yet(file: Path, ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on FAT, whose times are whole seconds, and on a server whose clock is ahead."""
    now = int(time.time()) + ahead
    monkeypatch.setattr(memo, "_fingerprint", lambda path: [100, 1, now * 10**9, now * 10**9])
    memo.remember(file, DIGEST)
    assert not memo.known_good(file, DIGEST)
    monkeypatch.setattr(memo, "_fingerprint", lambda path: [100, 1, (now - 3603) * 10**9, (now - 3603) * 10**9])
    memo.remember(file, DIGEST)
    assert memo.known_good(file, DIGEST)


@pytest.mark.parametrize("note", [b"", b"{", b"[1, 2]", b"\xff"])
def test_a_broken_note_is_no_note(file: Path, cache: Path, note: bytes, hashed: list[int]) -> None:
    read(file)
    notes(cache)[0].write_bytes(note)
    read(file)
    read(file)
    assert len(hashed) == 2


def test_without_a_folder_to_write_to_files_are_hashed_each_time(
    file: Path, hashed: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "occupied").touch()
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path / "occupied"))
    read(file)
    read(file)
    assert len(hashed) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_cache(file: Path, cache: Path, hashed: list[int]) -> None:
    cache.mkdir()
    cache.chmod(0o500)
    read(file)
    read(file)
    cache.chmod(0o700)
    assert len(hashed) == 2


def test_notes_of_a_read_only_cache_are_used(file: Path, cache: Path, hashed: list[int]) -> None:
    read(file)
    notes(cache)[0].parent.chmod(0o500)
    read(file)
    notes(cache)[0].parent.chmod(0o700)
    assert len(hashed) == 1


def test_many_threads_and_processes_at_once(file: Path, cache: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from cascadezoo.hub import memo\n"
        "for _ in range(20): memo.remember(Path(sys.argv[1]), sys.argv[2])"
    )
    other = subprocess.Popen([sys.executable, "-c", program, str(file), DIGEST])
    seen: list[bool] = []

    def work() -> None:
        memo.remember(file, DIGEST)
        while other.poll() is None:
            seen.append(memo.known_good(file, DIGEST))
            time.sleep(0.001)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert other.returncode == 0
    assert all(seen)
    assert len(notes(cache)) == 1  # and no temporary file is left
