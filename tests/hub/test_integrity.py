"""Which file is believed: by published hashes, by what was trusted before, or on first use."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hub import standin
from pydantic import ValidationError

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
    assert known("cascade_mask_r50_fpn_3x.detectron2") == [("md5", "480dd8")]


@pytest.mark.parametrize(
    ("source", "sound"),
    [
        ({}, True),
        ({"sha256": SHA256}, True),
        ({"sha256": "0" * 64}, False),
        ({"sha256_prefix": SHA256[:8]}, True),
        ({"sha256_prefix": "0" * 8}, False),
        ({"md5_prefix": MD5[:6]}, True),
        ({"md5_prefix": "0" * 6}, False),
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
        found = "4" if "size" in source else MD5 if "md5_prefix" in source else SHA256
        assert f"{expected} expected" in fault
        assert f"{found} found" in fault


@pytest.mark.parametrize(
    ("kind", "value", "holds"),
    [
        ("sha256", SHA256, True),
        ("sha256", SHA256[:8], True),
        ("sha256", SHA256[:63], True),
        ("sha256", SHA256[:8] + "0" * 56, False),  # the first 8 digits alone do not make it the file
        ("sha256", SHA256[:32] + "0" * 32, False),
        ("sha256", SHA256[:63] + ("0" if SHA256[63] != "0" else "1"), False),
        ("sha256", SHA256[:8] + "0", SHA256[8] == "0"),
        ("sha256", SHA256[1:9], False),  # digits from the middle
        ("md5", MD5, True),
        ("md5", MD5[:6], True),
        ("md5", MD5[1:7], False),
        ("md5", MD5[:6] + "0" * 26, False),
        ("md5", MD5[:31] + ("0" if MD5[31] != "0" else "1"), False),
        ("size", "4", True),
        ("size", "3", False),
        ("size", "40", False),
        ("size", "", False),
    ],
)
def test_a_check_is_held_to_all_that_is_known(kind: str, value: str, holds: bool) -> None:
    assert integrity.Check(kind=kind, value=value, origin="a test").holds(file()) is holds


def test_a_size_is_compared_as_a_whole() -> None:
    assert not integrity.Check(kind="size", value="4", origin="a test").holds(file(b"f" * 45))


def test_a_fault_names_what_was_expected_and_what_came() -> None:
    def fault(**source: object) -> str | None:
        entry = standin.variant(**source)
        return integrity.fault(entry, file(), integrity.known_checks(entry))

    head = f"{standin.URL} is not the file of {standin.NAME}: "
    zeros = "0" * 64
    assert fault(sha256=zeros) == f"{head}sha256 {zeros} expected (the published sha256), {SHA256} found"
    assert fault(sha256_prefix="00000000") == (
        f"{head}sha256 starts with 00000000 expected (the 8 digits of sha256 in the published name), {SHA256} found"
    )
    nearly = "0" * 63
    assert fault(sha256_prefix=nearly) == (
        f"{head}sha256 starts with {nearly} expected (the 63 digits of sha256 in the published name), {SHA256} found"
    )
    assert fault(size=5) == f"{head}size 5 expected (the published size), 4 found"
    assert fault(md5_prefix="000000") == (
        f"{head}md5 starts with 000000 expected (the weak 6 digits of md5 in the published name), {MD5} found"
    )
    md5 = integrity.md5_check("0" * 32, "https://host/a.md5sum")
    assert integrity.fault(standin.variant(), file(), (md5,)) == (
        f"{head}md5 {'0' * 32} expected (the published md5), {MD5} found"
    )


def test_records_of_trust_are_frozen() -> None:
    now = datetime.now(UTC)
    trusted = integrity.Trusted(url=standin.URL, size=4, sha256=SHA256, basis="first use", when=now)
    assert trusted.etag is None
    with pytest.raises(ValidationError):
        trusted.sha256 = "0" * 64
    with pytest.raises(ValidationError):
        integrity.Check(kind="size", value="4", origin="a test").value = "5"


@pytest.mark.parametrize(
    "text", [MD5, f"{MD5}  model_final.pkl\n", MD5.upper(), f"  {MD5} *a"], ids=["bare", "named", "upper", "binary"]
)
def test_md5_files(text) -> None:
    check = integrity.md5_check(text, "https://host/a.md5sum")
    assert check.holds(file())
    assert not check.holds(file(b"other"))


@pytest.mark.parametrize("text", ["", "<html>moved</html>", MD5[:-1], MD5 + "0", "z" * 32, "x" * 50])
def test_what_is_no_md5_file(text) -> None:
    with pytest.raises(CorruptCheckpoint) as caught:
        integrity.md5_check(text, "https://host/a.md5sum")
    assert str(caught.value) == (
        f"https://host/a.md5sum holds no md5 but {text[:40]!r}: try again later, or set CASCADEZOO_MIRROR"
    )


def test_first_use_is_recorded_and_enforced() -> None:
    entry = registry.info(standin.NAME)
    assert integrity.recorded(standin.NAME) is None
    integrity.record(entry, file(), ())
    text = record_path(standin.NAME).read_text()
    assert text.startswith('{\n  "url": ')  # for people to read
    assert text.endswith("\n}\n")
    noted = json.loads(text)
    when = datetime.fromisoformat(noted["when"])
    assert when.utcoffset() is not None  # a time without its zone would mean another moment elsewhere
    assert abs((datetime.now(UTC) - when).total_seconds()) < 60
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
    other = hashlib.sha256(b"other").hexdigest()
    assert fault == (
        f"{standin.URL} is not the file of {standin.NAME}: sha256 {SHA256} expected (the file trusted on "
        f"{when:%Y-%m-%d}, until you delete the note {record_path(standin.NAME)}), {other} found"
    )


def test_a_record_keeps_its_date_and_says_its_reason() -> None:
    entry = standin.variant(sha256_prefix=SHA256[:8], size=4)
    integrity.record(entry, file(), integrity.known_checks(entry))
    before = integrity.recorded(standin.NAME)
    integrity.record(entry, file(), integrity.known_checks(entry))
    assert integrity.recorded(standin.NAME) == before
    assert before is not None
    assert before.basis == "the 8 digits of sha256 in the published name and the published size"
    integrity.record(entry, file(b"another"), ())  # another file under the same url is noted in its place
    after = integrity.recorded(standin.NAME)
    assert after is not None
    assert (after.sha256, after.basis) == (hashlib.sha256(b"another").hexdigest(), "first use")


@pytest.mark.parametrize(
    ("source", "stated"),
    [
        ({"md5_prefix": MD5[:6]}, "only 6 digits of this file's md5"),
        ({"sha256_prefix": SHA256[:8]}, "only 8 digits of this file's sha256"),
        ({"size": 4}, "no hash of this file"),
        ({"sha256": SHA256}, None),
    ],
)
def test_digits_alone_are_trusted_on_first_use_and_that_is_said(source, stated, caplog) -> None:
    entry = standin.variant(**source)
    checks = integrity.known_checks(entry)
    assert integrity.wants_md5(checks) == ("md5_prefix" in source)
    integrity.record(entry, file(), checks)
    said = [f"{standin.NAME}: its publisher states {stated}, so it is trusted on first use, with sha256 {SHA256}: "]
    assert [text[: len(said[0])] for text in caplog.messages] == (said if stated else [])
    if "md5_prefix" in source:
        assert integrity.recorded(standin.NAME).basis == "the weak 6 digits of md5 in the published name"


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
    with pytest.raises(CorruptCheckpoint) as caught:
        integrity.known_checks(registry.info(standin.NAME))
    assert str(caught.value) == (
        f"{path}, which says what file was trusted before, cannot be read: delete it to trust the next one anew"
    )
    path.unlink()
    path.mkdir()  # an OSError other than that there is none
    with pytest.raises(CorruptCheckpoint):
        integrity.known_checks(registry.info(standin.NAME))


def test_quarantine_takes_the_same_file_once(home, tmp_path) -> None:
    entry = registry.info(standin.NAME)
    for _ in range(2):
        (tmp_path / "a.bin").write_bytes(b"file")
        kept = integrity.quarantine(entry, file(path=tmp_path / "a.bin"))
        assert not (tmp_path / "a.bin").exists()
    assert kept == home / "quarantine" / standin.NAME / f"{SHA256[:16]}-a.bin"
    assert [p for p in (home / "quarantine").rglob("*") if p.is_file()] == [kept]
    assert kept.read_bytes() == b"file"
    error = integrity.refuse("it is wrong", kept)
    assert isinstance(error, HashMismatch)
    assert error.exit_code == 4
    assert str(error) == f"it is wrong; it was fetched twice and is kept in {kept} for inspection"
