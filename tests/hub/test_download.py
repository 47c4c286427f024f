"""A publisher's file brought into the cache: the right one, or an error that says why not."""

import hashlib
import logging
import random

import pytest
from hub.fault_server import Cut, FaultServer, Redirect, Short, Wrong
from hub.standin import FILE, NAME, PATH, URL, variant

from cascadezoo import registry
from cascadezoo.errors import CorruptCheckpoint, DownloadFailed, HashMismatch, UsageError, WeightsNotFound
from cascadezoo.hub import integrity, transport
from cascadezoo.hub.download import fetch_original
from cascadezoo.hub.mirror import mirrored

DATA = random.Random(0).randbytes(500_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
MD5 = hashlib.md5(DATA).hexdigest()
MD5_URL = "https://dl.fbaipublicfiles.com/a/model.pkl.md5sum"
MD5_PATH = "/dl.fbaipublicfiles.com/a/model.pkl.md5sum"


@pytest.fixture
def server(monkeypatch):
    with FaultServer() as server:
        monkeypatch.setenv("CASCADEZOO_MIRROR", server.url())
        server.put(PATH, DATA)
        yield server


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path / "home"))
    for name in ("HF_HUB_OFFLINE", "CASCADEZOO_OFFLINE", "CASCADEZOO_HUB", "CASCADEZOO_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(transport, "FIRST_WAIT", 0.001)
    return tmp_path / "home"


def left(home) -> dict[str, int]:
    """Files in the cache, except for locks."""
    return {str(p.relative_to(home)): p.stat().st_size for p in home.rglob("*") if p.is_file()}


def test_a_mirror_stands_in_for_every_host(monkeypatch, tmp_path) -> None:
    assert mirrored("https://host/a%3Ab/c.pkl?x=1") == "https://host/a%3Ab/c.pkl?x=1"
    monkeypatch.setenv("CASCADEZOO_MIRROR", "http://own:8080/zoo/")
    assert mirrored("https://host/a%3Ab/c.pkl?x=1") == "http://own:8080/zoo/host/a%3Ab/c.pkl?x=1"
    monkeypatch.setenv("CASCADEZOO_MIRROR", str(tmp_path))
    assert mirrored("https://host/a%3Ab/c.pkl?x=1") == tmp_path / "host" / "a:b" / "c.pkl"
    monkeypatch.setenv("CASCADEZOO_MIRROR", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="neither a folder nor an http"):
        mirrored(URL)


def test_the_file_is_fetched_once_and_kept(server, home) -> None:
    entry = registry.info(NAME)
    original = fetch_original(entry)
    assert original.file.path == home / "originals" / NAME / FILE
    assert original.file.path.read_bytes() == DATA
    assert (original.file.sha256, original.checks) == (SHA256, ())
    assert fetch_original(entry).file.sha256 == SHA256
    assert len(server.requests) == 1
    assert list(left(home)) == [f"originals/{NAME}/{FILE}"]


def test_a_folder_as_a_mirror(home, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CASCADEZOO_MIRROR", str(tmp_path / "mirror"))
    (tmp_path / "mirror").mkdir()
    with pytest.raises(WeightsNotFound, match=f"the mirror has no {tmp_path}/mirror{PATH}"):
        fetch_original(registry.info(NAME))
    file = tmp_path / "mirror" / PATH.lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_bytes(DATA)
    assert fetch_original(registry.info(NAME)).file.sha256 == SHA256
    assert file.read_bytes() == DATA
    assert left(home) == {f"originals/{NAME}/{FILE}": len(DATA)}


def test_wrong_bytes_once_are_set_aside_and_fetched_again(server, home, caplog) -> None:
    server.put(PATH, DATA, [Wrong(b"<html>please log in</html>")])
    original = fetch_original(variant(sha256=SHA256))
    assert original.file.path.read_bytes() == DATA
    assert server.ranges(PATH) == [None, None]
    assert "fetching it once more" in caplog.text
    assert sum(name.startswith("quarantine/") for name in left(home)) == 1


@pytest.mark.parametrize(
    "source",
    [{"sha256": "0" * 64}, {"sha256_prefix": "0" * 8}, {"md5_prefix": "0" * 6}, {"size": 499_999}],
    ids=["sha256", "prefix", "md5", "size"],
)
def test_a_file_that_is_wrong_twice_is_refused_naming_both(server, home, source) -> None:
    with pytest.raises(HashMismatch) as caught:
        fetch_original(variant(**source))
    expected = str(next(iter(source.values())))
    found = {"size": "500000", "md5_prefix": MD5}.get(next(iter(source)), SHA256)
    assert f"{expected} expected" in str(caught.value)
    assert f"{found} found" in str(caught.value)
    assert len(server.requests) == 2
    assert list(left(home)) == [f"quarantine/{NAME}/{SHA256[:16]}-{FILE}"]  # neither part nor original


def test_a_length_that_is_too_short_does_not_pass_for_the_file(server, home) -> None:
    server.put(PATH, DATA, [Short(300_000)])
    assert fetch_original(variant(sha256_prefix=SHA256[:8])).file.size == 500_000


def test_a_wrong_part_of_an_earlier_run_does_not_spoil_the_next(server, home) -> None:
    """Bytes that the disk has lost since: the hash over all tells, and the second try starts at the beginning."""
    server.put(PATH, DATA, [Cut(400_000), *[Cut(0)] * 20])
    with pytest.raises(DownloadFailed):
        fetch_original(variant(sha256=SHA256))
    part = home / "parts" / NAME / FILE
    part.write_bytes(bytes(400_000))
    server.put(PATH, DATA)
    assert fetch_original(variant(sha256=SHA256)).file.path.read_bytes() == DATA
    assert server.ranges(PATH)[-2:] == ["bytes=400000-", None]


def test_the_md5_beside_the_file(server, home) -> None:
    entry = variant(md5_url=MD5_URL)
    server.put(MD5_PATH, f"{MD5}  model.pkl\n".encode())
    original = fetch_original(entry)
    assert [(check.kind, check.value) for check in original.checks] == [("md5", MD5)]
    fetch_original(entry)  # the file that was kept is held to it, too
    assert len(server.ranges(PATH)) == 1
    original.file.path.write_bytes(b"spoilt")
    assert fetch_original(entry).file.path.read_bytes() == DATA
    assert len(server.ranges(PATH)) == 2

    server.put(MD5_PATH, b"0" * 32)
    original.file.path.unlink()
    with pytest.raises(HashMismatch, match=f"md5 {'0' * 32} expected .*{MD5} found"):
        fetch_original(entry)
    server.put(MD5_PATH, b"<html>")
    with pytest.raises(CorruptCheckpoint, match="holds no md5"):
        fetch_original(entry)


def test_without_its_md5_file_it_is_trusted_on_first_use_and_says_so(server, caplog) -> None:
    assert fetch_original(variant(md5_url=MD5_URL)).checks == ()
    assert f"there is no {server.url(MD5_PATH)}, so the file is trusted on first use" in caplog.text


def test_what_was_trusted_before_is_enforced(server, home) -> None:
    entry = registry.info(NAME)
    original = fetch_original(entry)
    integrity.record(entry, original.file, original.checks)
    original.file.path.unlink()
    server.put(PATH, b"another file")
    with pytest.raises(HashMismatch, match=f"{SHA256} expected .*the file trusted on 20.*records/"):
        fetch_original(entry)
    server.put(PATH, DATA)
    assert fetch_original(entry).file.sha256 == SHA256


@pytest.mark.parametrize(
    ("name", "host", "said"),
    [
        ("faster_r50_fpn_1x.detectron", "/dl.fbaipublicfiles.com/detectron/35857345/", "has moved to https://dl.fba"),
        ("cascade_r50_fpn_1x.detectron", "/www.svcl.ucsd.edu/projects/", "leads to another model; the right file is"),
        ("cascade_mask_internimage_xl_fpn_3x", "/huggingface.co/OpenGVLab/", "leads to another model; the right file"),
    ],
)
def test_corrected_links_are_taken_and_told(server, caplog, name, host, said) -> None:
    with pytest.raises(DownloadFailed, match="404"), caplog.at_level(logging.WARNING):
        fetch_original(registry.info(name))
    assert said in caplog.text
    assert server.requests
    assert all(request.path.startswith(host) for request in server.requests)  # never what the table prints


def test_what_was_never_published(server) -> None:
    with pytest.raises(WeightsNotFound, match="never published any; convert a file of your own with `cascadezoo conv"):
        fetch_original(registry.info("cascade_x101_64x4d_fpn_1x.detectron"))
    assert not server.requests


def test_redirects_to_a_signed_url_resume_from_the_published_one(server) -> None:
    server.put(PATH, b"", redirect=Redirect("/signed/1"))
    server.put("/signed/1", DATA, [Cut(400_000)])
    assert fetch_original(registry.info(NAME)).file.sha256 == SHA256
    assert server.ranges(PATH) == [None, "bytes=400000-"]
