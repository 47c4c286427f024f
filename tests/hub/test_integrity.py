"""Which file is believed: by published hashes, by what was trusted before, or on first use."""

import hashlib
import json
from pathlib import Path

import pytest
from hub import standin

from cascadezoo import registry
from cascadezoo.errors import CorruptCheckpoint, HashMismatch
from cascadezoo.hub import integrity
from cascadezoo.hub.parts import Fetched
from cascadezoo.paths import record_path

SHA256 = hashlib.sha256(b"file").hexdigest()
MD5 = hashlib.md5(b"file").hexdigest()


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def file(content: bytes = b"file", path: Path = Path("parts/a.bin")) -> Fetched:
    hashes = hashlib.sha256(content).hexdigest(), hashlib.md5(content).hexdigest()
    return Fetched(path, standin.URL, len(content), *hashes, etag='"e"')


def test_what_the_manifest_knows_of_each_publishers_files() -> None:
    def known(name: str) -> list[tuple[str, str]]:
        return [(check.kind, check.value) for check in integrity.known_checks(registry.info(name))]

    assert known("cascade_r50_caffe_fpn_1x.mmdet") == [("sha256", "b857be87")]
    assert known("cascade_r50_fpn_1x.paddle") == []


@pytest.mark.parametrize(
    ("source", "sound"),
    [
        ({}, True),
        ({"sha256": SHA256}, True),
        ({"sha256": "0" * 64}, False),
        ({"sha256_prefix": SHA256[:8]}, True),
        ({"sha256_prefix": "0" * 8}, False),
        ({"size": 4}, True),
        ({"size": 5}, False),
        ({"sha256": SHA256, "size": 5}, False),
    ],
)
def test_every_published_fact_must_hold(source, sound) -> None:
    entry = standin.variant(**source)
    fault = integrity.fault(entry, file(), integrity.known_checks(entry))
    assert (fault is None) == sound
    if fault:
        expected = str(list(source.values())[-1])
        found = "4" if "size" in source else SHA256
        assert f"{expected} expected" in fault
        assert f"{found} found" in fault


@pytest.mark.parametrize(
    "text", [MD5, f"{MD5}  model_final.pkl\n", MD5.upper(), f"  {MD5} *a"], ids=["bare", "named", "upper", "binary"]
)
def test_md5_files(text) -> None:
    check = integrity.md5_check(text, "https://host/a.md5sum")
    assert check.holds(file())
    assert not check.holds(file(b"other"))


@pytest.mark.parametrize("text", ["", "<html>moved</html>", MD5[:-1], "z" * 32])
def test_what_is_no_md5_file(text) -> None:
    with pytest.raises(CorruptCheckpoint, match=r"a\.md5sum holds no md5"):
        integrity.md5_check(text, "https://host/a.md5sum")


def test_first_use_is_recorded_and_enforced() -> None:
    entry = registry.info(standin.NAME)
    assert integrity.recorded(standin.NAME) is None
    integrity.record(entry, file(), ())
    noted = json.loads(record_path(standin.NAME).read_text())
    assert {key: noted[key] for key in ("url", "size", "sha256", "etag", "basis")} == {
        "url": standin.URL,
        "size": 4,
        "sha256": SHA256,
        "etag": '"e"',
        "basis": "first use",
    }
    checks = integrity.known_checks(entry)
    assert integrity.fault(entry, file(), checks) is None
    fault = integrity.fault(entry, file(b"other"), checks)
    assert fault is not None
    assert SHA256 in fault
    assert hashlib.sha256(b"other").hexdigest() in fault
    assert str(record_path(standin.NAME)) in fault


def test_a_record_keeps_its_date_and_says_its_reason() -> None:
    entry = standin.variant(sha256_prefix=SHA256[:8], size=4)
    integrity.record(entry, file(), integrity.known_checks(entry))
    before = integrity.recorded(standin.NAME)
    integrity.record(entry, file(), integrity.known_checks(entry))
    assert integrity.recorded(standin.NAME) == before
    assert before is not None
    assert before.basis == "the 8 digits of sha256 in the published name and the published size"


def test_a_record_is_of_its_url() -> None:
    entry = registry.info(standin.NAME)
    integrity.record(entry, file(), ())
    moved = entry.model_copy(update={"availability": "moved", "corrected_url": "https://host/new.pdparams"})
    assert integrity.known_checks(moved) == ()
    integrity.record(moved, file(b"other"), ())
    assert integrity.known_checks(entry) == ()
    assert [check.value for check in integrity.known_checks(moved)] == [hashlib.sha256(b"other").hexdigest()]


def test_a_record_that_cannot_be_read_is_not_taken_for_none() -> None:
    path = record_path(standin.NAME)
    path.parent.mkdir(parents=True)
    path.write_text('{"url": ')
    with pytest.raises(CorruptCheckpoint, match="delete it to trust the next one anew"):
        integrity.known_checks(registry.info(standin.NAME))


def test_quarantine_takes_the_same_file_once(home, tmp_path) -> None:
    entry = registry.info(standin.NAME)
    for _ in range(2):
        (tmp_path / "a.bin").write_bytes(b"file")
        kept = integrity.quarantine(entry, file(path=tmp_path / "a.bin"))
        assert not (tmp_path / "a.bin").exists()
    assert [p for p in (home / "quarantine").rglob("*") if p.is_file()] == [kept]
    error = integrity.refuse("it is wrong", kept)
    assert isinstance(error, HashMismatch)
    assert error.exit_code == 4
