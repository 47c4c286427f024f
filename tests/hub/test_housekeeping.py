"""What the cache holds, is rid of, and is found to be."""

import hashlib
import json
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from cascadezoo.converters.canonical import content_digest, write_canonical
from cascadezoo.hub.housekeeping import KINDS, FileVerdict, check_files, items, prune
from cascadezoo.ops.building import folder

PADDLE = "cascade_mask_r50_fpn_1x.paddle"
PADDLE_FILE = "cascade_mask_rcnn_r50_fpn_1x_coco.pdparams"
PADDLE_URL = f"https://paddledet.bj.bcebos.com/models/{PADDLE_FILE}"
MMDET = "cascade_r50_fpn_1x.mmdet"
MMDET_FILE = "cascade_rcnn_r50_fpn_1x_coco_20200316-3dc56deb.pth"
TENSORS = {"a": torch.ones(4)}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path))
    return tmp_path


def put(path: Path, data: bytes = b"x", days_ago: float = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (time.time() - 86400 * days_ago,) * 2)
    return path


@pytest.fixture
def full(cache: Path) -> dict[str, Path]:
    put(cache / "records" / f"{PADDLE}.json", b"{}")
    put(cache / "ops" / "library.so")
    return {
        "canonical": put(cache / "canonical" / f"{PADDLE}.safetensors", b"12345", days_ago=10),
        "original": put(cache / "originals" / PADDLE / PADDLE_FILE, b"123", days_ago=40),
        "part": put(cache / "parts" / MMDET / MMDET_FILE, b"12"),
        "killed": put(cache / "canonical" / f".{MMDET}.safetensors.0a1b2c3d.part", b"1"),
        "quarantine": put(cache / "quarantine" / MMDET / f"0123456789abcdef-{MMDET_FILE}", b"1234", days_ago=1),
    }


def test_every_file_is_listed_under_its_kind_and_entry(full: dict[str, Path]) -> None:
    found = [(item.kind, item.entry, item.path, item.size) for item in items()]
    assert found == [
        ("canonical", PADDLE, full["canonical"], 5),
        ("original", PADDLE, full["original"], 3),
        ("part", MMDET, full["killed"], 1),
        ("part", MMDET, full["part"], 2),
        ("quarantine", MMDET, full["quarantine"], 4),
    ]
    assert abs(items(("original",))[0].used.timestamp() - (time.time() - 40 * 86400)) < 60


def test_no_cache_holds_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCADEZOO_HOME", str(cache / "nowhere"))
    assert items() == []
    assert prune(KINDS).removed == ()
    assert check_files() == []
    assert not (cache / "nowhere").exists()


@pytest.mark.parametrize(
    ("kinds", "gone"),
    [
        (["original"], {"original"}),
        (["part"], {"part", "killed"}),
        (["quarantine"], {"quarantine"}),
        (KINDS, {"canonical", "original", "part", "killed", "quarantine"}),
    ],
)
def test_only_the_kinds_asked_for_go(cache: Path, full: dict[str, Path], kinds: list, gone: set[str]) -> None:
    pruned = prune(kinds)
    assert {item.path for item in pruned.removed} == {full[name] for name in gone}
    assert {name for name, path in full.items() if not path.exists()} == gone
    assert (cache / "records" / f"{PADDLE}.json").exists()
    assert (cache / "ops" / "library.so").exists()


def test_folders_of_entries_go_with_their_last_file(cache: Path, full: dict[str, Path]) -> None:
    prune(KINDS)
    assert not full["original"].parent.exists()
    assert (cache / "canonical").is_dir()


def test_what_was_used_lately_stays(full: dict[str, Path]) -> None:
    pruned = prune(KINDS, timedelta(days=20))
    assert [item.path for item in pruned.removed] == [full["original"]]
    os.utime(full["canonical"], (time.time(), time.time() - 86400 * 10))  # read now, written long ago
    assert prune(KINDS, timedelta(days=5)).removed == ()


def test_a_dry_run_removes_nothing(full: dict[str, Path]) -> None:
    assert len(prune(KINDS, dry_run=True).removed) == 5
    assert all(path.exists() for path in full.values())


def test_what_another_process_is_working_on_stays(cache: Path, full: dict[str, Path]) -> None:
    (cache / "locks").mkdir()
    with FileLock(cache / "locks" / f"{MMDET}.lock"):
        program = (
            "import json; from cascadezoo.hub.housekeeping import KINDS, prune; done = prune(KINDS); "
            "print(json.dumps([[i.path.name for i in done.removed], [i.path.name for i in done.busy]]))"
        )
        removed, busy = json.loads(subprocess.check_output([sys.executable, "-c", program], text=True))
    assert removed == [full["canonical"].name, full["original"].name]
    assert busy == [full["killed"].name, full["part"].name, full["quarantine"].name]
    assert full["part"].exists()


def test_unfinished_files_are_known_by_their_entry(cache: Path) -> None:
    """So that they are left alone while their entry's lock is held; a library that is being built is none of ours."""
    unfinished = [
        put(cache / "canonical" / f".{PADDLE}.safetensors.0a1b2c3d.part"),
        put(cache / "parts" / PADDLE / f".{PADDLE_FILE}.json.0a1b2c3d.part"),
        put(cache / "records" / f".{PADDLE}.json.0a1b2c3d.part"),
    ]
    built = put(cache / "ops" / ".library.so.0a1b2c3d.part")
    memo = put(cache / "digests" / ".0123.json.0a1b2c3d.part")
    assert [(item.entry, item.path) for item in items(("part",))] == [(PADDLE, path) for path in unfinished]
    prune(["part"])
    assert not any(path.exists() for path in (*unfinished, memo))
    assert built.exists()


@pytest.fixture
def folders(cache: Path) -> dict[str, Path]:
    """Drawn images, and operators of these sources and of others."""
    found = {
        "data": cache / "data" / "shapes-v1-3",
        "operators": folder(),
        "outdated": cache / "ops" / "linux-x86_64-00",
    }
    put(found["data"] / "val" / "000001.png", b"123", days_ago=10)
    put(found["data"] / "annotations" / "instances_val.json", b"12", days_ago=20)
    put(found["operators"] / "cascadezoo_cpu.so", b"1234")
    put(found["outdated"] / "cascadezoo_cpu.so", b"12345", days_ago=40)
    put(found["outdated"] / "obj" / "nms.o", b"1", days_ago=50)
    return found


def test_C9_drawn_data_and_operators_are_listed_as_folders(folders: dict[str, Path]) -> None:
    assert [(item.kind, item.entry, item.path, item.size) for item in items()] == [
        ("data", "shapes-v1-3", folders["data"], 5),
        ("operators", folders["operators"].name, folders["operators"], 4),
        ("outdated", "linux-x86_64-00", folders["outdated"], 6),
    ]
    data, _, outdated = items()
    assert abs(data.used.timestamp() - (time.time() - 10 * 86400)) < 60
    assert abs(outdated.used.timestamp() - (time.time() - 40 * 86400)) < 60


@pytest.mark.parametrize("kind", ["data", "operators", "outdated"])
def test_C9_drawn_data_and_operators_are_pruned_kind_by_kind(folders: dict[str, Path], kind: Any) -> None:
    assert prune([kind], timedelta(days=60)).removed == ()
    assert [item.path for item in prune([kind]).removed] == [folders[kind]]
    assert {name for name, path in folders.items() if not path.exists()} == {kind}


@pytest.mark.parametrize("kind", ["data", "operators", "outdated"])
def test_C9_folders_that_another_process_writes_stay(cache: Path, folders: dict[str, Path], kind: Any) -> None:
    own = cache / "locks" / "shapes-v1-3.lock"
    own.parent.mkdir()
    with FileLock(own if kind == "data" else folders[kind] / ".cuda.lock"):
        program = (
            "import sys; from cascadezoo.hub.housekeeping import prune; done = prune([sys.argv[1]]); "
            "print(len(done.removed), len(done.busy))"
        )
        counts = subprocess.check_output([sys.executable, "-c", program, kind], text=True)
    assert counts.split() == ["0", "1"]
    assert folders[kind].exists()


def test_notes_go_with_what_they_speak_of(cache: Path, full: dict[str, Path], tmp_path: Path) -> None:
    from cascadezoo.hub import memo

    elsewhere = put(tmp_path / "elsewhere" / "fine_tuned.safetensors")
    for path in (full["canonical"], elsewhere):
        memo.remember(path, "0" * 64)
    put(cache / "digests" / "broken.json", b"{")
    prune(["part"])
    notes = [json.loads(note.read_text())["path"] for note in (cache / "digests").glob("*")]
    assert sorted(notes) == sorted([str(full["canonical"]), str(elsewhere)])
    elsewhere.unlink()
    prune(KINDS)
    assert not list((cache / "digests").glob("*"))


def canonical(cache: Path, name: str = PADDLE, tensors: dict[str, torch.Tensor] = TENSORS, **metadata: str) -> Path:
    path = cache / "canonical" / f"{name}.safetensors"
    path.parent.mkdir(exist_ok=True)
    write_canonical(path, tensors, {"content_digest": content_digest(TENSORS), "entries": PADDLE, **metadata})
    return path


def record(cache: Path, sha256: str) -> None:
    note = {"url": PADDLE_URL, "size": 3, "sha256": sha256, "basis": "first use", "when": "2026-11-21T00:00:00Z"}
    put(cache / "records" / f"{PADDLE}.json", json.dumps(note).encode())


def only() -> FileVerdict:
    (verdict,) = check_files()
    return verdict


def test_a_canonical_file_that_holds(cache: Path) -> None:
    path = canonical(cache, source_sha256="a" * 64)
    record(cache, "a" * 64)
    assert only() == FileVerdict("canonical", PADDLE, path, "ok", "content digest holds")


def test_a_canonical_file_with_another_bit(cache: Path) -> None:
    canonical(cache, tensors={"a": torch.tensor([1.0, 1.0, 1.0, 1.0000001])})
    assert only().state == "damaged"
    assert "content digest" in only().detail


def test_a_memo_does_not_hide_rot(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cascadezoo.hub import memo

    path = canonical(cache)
    monkeypatch.setattr(memo, "_fingerprint", lambda path: [1, 1, 1, 1])  # nothing is seen to change
    memo.remember(path, content_digest(TENSORS))
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert memo.known_good(path, content_digest(TENSORS))
    assert only().state == "damaged"


def test_a_canonical_file_cut_short(cache: Path) -> None:
    path = canonical(cache)
    path.write_bytes(path.read_bytes()[:-3])
    assert only().state == "damaged"
    assert "no whole safetensors file" in only().detail


def test_a_canonical_file_of_another_entry(cache: Path) -> None:
    canonical(cache, MMDET)
    assert (only().state, only().detail) == ("damaged", f"holds the weights of {PADDLE}")


def test_a_canonical_file_made_from_a_file_that_was_not_trusted(cache: Path) -> None:
    canonical(cache, source_sha256="a" * 64)
    record(cache, "b" * 64)
    assert only().state == "damaged"
    assert "a" * 64 in only().detail
    assert "b" * 64 in only().detail


def test_a_canonical_file_without_digest(cache: Path) -> None:
    path = cache / "canonical" / f"{PADDLE}.safetensors"
    path.parent.mkdir()
    write_canonical(path, TENSORS, {})
    assert only().state == "unproven"


def test_an_original_is_held_to_its_record(cache: Path) -> None:
    put(cache / "originals" / PADDLE / PADDLE_FILE, b"123")
    assert only().state == "unproven"
    record(cache, hashlib.sha256(b"123").hexdigest())
    assert only().state == "ok"
    record(cache, "0" * 64)
    assert only().state == "damaged"
    assert hashlib.sha256(b"123").hexdigest() in only().detail
    assert "0" * 64 in only().detail


def test_an_original_is_held_to_the_published_digits(cache: Path) -> None:
    put(cache / "originals" / MMDET / MMDET_FILE, b"123")
    assert only().state == "damaged"
    assert "3dc56deb" in only().detail


def test_an_original_is_held_to_the_digits_of_an_md5(cache: Path) -> None:
    name, file = "cascade_mask_r50_fpn_1x.detectron2", "model_final_e9d89b.pkl"
    path = put(cache / "originals" / name / file, b"123")
    assert only().state == "damaged"
    assert "md5 starts with e9d89b expected" in only().detail
    path.write_bytes(b"30041748")  # whose md5 begins so: found in minutes
    assert (only().state, only().detail) == ("ok", "agrees with the weak 6 digits of md5 in the published name")


def test_files_that_belong_to_nothing_are_unproven(cache: Path) -> None:
    put(cache / "originals" / PADDLE / "of_an_older_address.pdparams")
    put(cache / "originals" / "no_such_entry" / "x.pth")
    assert [verdict.state for verdict in check_files()] == ["unproven", "unproven"]


def test_a_record_that_cannot_be_read(cache: Path) -> None:
    put(cache / "originals" / PADDLE / PADDLE_FILE, b"123")
    put(cache / "records" / f"{PADDLE}.json", b"{")
    assert only().state == "damaged"
    assert f"{PADDLE}.json" in only().detail


def test_each_verdict_is_told_as_it_comes(cache: Path) -> None:
    canonical(cache)
    put(cache / "originals" / PADDLE / PADDLE_FILE)
    told: list[FileVerdict] = []
    assert check_files(told.append) == told
    assert [verdict.kind for verdict in told] == ["canonical", "original"]
