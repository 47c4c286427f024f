"""Published weights end to end: from a publisher's server to a model, and what a user sees when that fails."""

import json
import logging
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hub import standin
from hub.fake_hub import FakeHub
from hub.fault_server import Cut, FaultServer, Short, Status
from hub.publishing import canonical_file, use_hub
from hub.standin import FILE, NAME, PATH, same

import cascadezoo
from cascadezoo import registry
from cascadezoo.checkpoints import weights
from cascadezoo.cli import main
from cascadezoo.errors import CorruptCheckpoint, DownloadFailed, HashMismatch, UnwritableOutput, UsageError
from cascadezoo.hub import memo, transport
from cascadezoo.hub.huggingface import fetch_repo
from cascadezoo.hub.sources import HubSource
from cascadezoo.paths import canonical_path, record_path
from cascadezoo.providers import SPECS
from cascadezoo.publishing.publish import publish

MMDET = "cascade_mask_r50_fpn_1x.mmdet"


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path / "home"))
    for name in ("HF_HUB_OFFLINE", "CASCADEZOO_OFFLINE", "CASCADEZOO_HUB", "CASCADEZOO_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(transport, "FIRST_WAIT", 0.001)
    monkeypatch.setitem(SPECS["paddle"], standin.ARCHITECTURE, standin.small())
    return tmp_path / "home"


@pytest.fixture
def server(monkeypatch):
    with FaultServer() as server:
        monkeypatch.setenv("CASCADEZOO_MIRROR", server.url())
        server.put(PATH, standin.checkpoint())
        yield server


def left(home: Path) -> set[str]:
    """Folders of the cache that hold files."""
    return {path.relative_to(home).parts[0] for path in home.rglob("*") if path.is_file()}


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as done:
        main(list(args))
    return int(done.value.code or 0)


def test_pretrained_is_fetched_converted_and_cached(server, home) -> None:
    server.resources[PATH].faults.extend([Status(503), Cut(100_000)])
    assert same(cascadezoo.load(NAME, pretrained=True), standin.model())
    assert left(home) == {"canonical", "records", "digests", "locks"}
    assert server.ranges(PATH) == [None, None, "bytes=100000-"]

    del server.resources[PATH]
    assert same(cascadezoo.load("cascade_mask_rcnn_r50_fpn_1x_coco.paddle", pretrained=True), standin.model())
    assert len(server.requests) == 3


def test_download_gives_the_file_and_may_keep_the_original(server, home) -> None:
    path = cascadezoo.download(NAME, keep_original=True)
    assert path == canonical_path(NAME)
    kept = home / "originals" / NAME / FILE
    assert kept.read_bytes() == standin.checkpoint()
    path.unlink()
    assert same(cascadezoo.load(NAME, pretrained=True), standin.model())  # made again from the original
    assert len(server.requests) == 1


def test_the_digest_is_hashed_once_only(server, monkeypatch) -> None:
    path = cascadezoo.download(NAME)
    digests = iter([])
    monkeypatch.setattr(memo.canonical, "require_digest", lambda *args: next(digests))
    cascadezoo.load(NAME, pretrained=True)  # conversion has hashed it
    os.utime(path)
    with pytest.raises(StopIteration):
        cascadezoo.load(NAME, pretrained=True)


def test_first_use_is_trusted_and_from_then_on_enforced(server, home) -> None:
    cascadezoo.download(NAME)
    assert json.loads(record_path(NAME).read_text())["basis"] == "first use"
    canonical_path(NAME).unlink()
    server.put(PATH, standin.checkpoint() + b"\n")
    with pytest.raises(HashMismatch, match="the file trusted on"):
        cascadezoo.load(NAME, pretrained=True)
    assert "canonical" not in left(home)


@pytest.mark.parametrize("fault", [Short(200_000), None], ids=["short", "page"])
def test_a_file_that_is_no_checkpoint_is_neither_trusted_nor_kept_in_use(server, home, fault) -> None:
    server.put(PATH, standin.checkpoint() if fault else b"<html>gone</html>", [fault] if fault else [])
    with pytest.raises(CorruptCheckpoint, match=r"the downloaded file is kept in .*/quarantine/.* for inspection"):
        cascadezoo.load(NAME, pretrained=True)
    assert left(home) == {"quarantine", "locks"}
    server.put(PATH, standin.checkpoint())
    assert same(cascadezoo.load(NAME, pretrained=True), standin.model())


def test_a_cached_file_that_was_damaged_is_made_again(server, home, caplog) -> None:
    path = cascadezoo.download(NAME)
    damaged = bytearray(path.read_bytes())
    damaged[-5] ^= 1
    path.write_bytes(damaged)
    assert same(cascadezoo.load(NAME, pretrained=True), standin.model())
    assert "content digest" in caplog.text
    assert "set aside as" in caplog.text
    assert len(server.requests) == 2


def test_a_damaged_file_that_another_process_has_set_aside_is_no_fault(server) -> None:
    cascadezoo.download(NAME).unlink()
    weights.set_aside_damaged(registry.info(NAME), CorruptCheckpoint("damaged"))
    ours = registry.info("cascade_mask_r18_fpn_shapes.cascadezoo")
    with pytest.raises(CorruptCheckpoint, match="damaged"):  # what is in the package stays there
        weights.set_aside_damaged(ours, CorruptCheckpoint("damaged"))


@pytest.fixture
def organisation(tmp_path, monkeypatch):
    """``org`` on a hub, which has the entry; the real client talks to it."""
    with FakeHub() as hub:
        use_hub(monkeypatch, hub, tmp_path / "hf")
        publish(NAME, f"org/{NAME}", weights=canonical_file(tmp_path, NAME), license="apache-2.0")
        hub.requests.clear()
        monkeypatch.setenv("CASCADEZOO_HUB", "org")
        yield hub


def test_the_organisation_on_the_hub_comes_before_the_publisher(server, organisation, home, caplog) -> None:
    assert same(cascadezoo.load(NAME, pretrained=True), standin.model())
    assert organisation.requests
    organisation.requests.clear()
    assert same(cascadezoo.load(NAME, pretrained=True), standin.model())
    assert not organisation.requests  # from our own cache
    assert not server.requests

    canonical_path(NAME).unlink()
    organisation.repos.clear()
    shutil.rmtree(os.environ["HF_HOME"])
    assert same(cascadezoo.load(NAME, pretrained=True), standin.model())
    assert "org has no repository of that name; asking the publisher" in caplog.text
    assert len(server.requests) == 1


def test_a_damaged_file_of_the_organisation_is_fetched_once_more(server, organisation, home, caplog) -> None:
    path = cascadezoo.download(NAME)
    with path.open("r+b") as file:  # the copy in Hugging Face's cache is this very file
        file.seek(-5, os.SEEK_END)
        file.write(b"\xff")
    assert same(cascadezoo.load(NAME, pretrained=True), standin.model())
    assert "fetching it once more" in caplog.text
    assert left(home) == {"canonical", "quarantine", "digests", "locks"}
    assert not server.requests


def test_a_repository_as_the_name(server, organisation, home) -> None:
    model = cascadezoo.load(f"hf-hub:org/{NAME}", min_size=40, max_size=70)
    assert same(model, standin.model())
    assert model.spec.preprocess.min_size == 40
    folder = fetch_repo(HubSource(f"org/{NAME}")).weights.parent
    model = cascadezoo.load(f"local-dir:{folder}", pretrained=True, num_classes=3)
    assert model.spec.num_classes == 3
    with pytest.raises(UsageError, match="brings its own weights"):
        cascadezoo.load(f"local-dir:{folder}", weights="a.safetensors")
    assert left(home) <= {"digests"}
    assert not server.requests


def restricted(code: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run code as a user whom permissions hold: root without its powers."""
    setpriv = ["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []
    if setpriv and not shutil.which("setpriv"):
        pytest.skip("running as root, without setpriv")
    return subprocess.run([*setpriv, *standin.command(code)], env=env, capture_output=True, text=True, check=False)


def test_a_read_only_cache_serves_what_it_has(server, home) -> None:
    cascadezoo.download(NAME)
    shutil.rmtree(home / "digests")
    shutil.rmtree(home / "locks")
    folders = [home, *(path for path in home.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    code = (
        "import cascadezoo; assert same(cascadezoo.load(NAME, pretrained=True), model()); print('loaded')\n"
        "cascadezoo.load('cascade_r50_fpn_1x.paddle', pretrained=True)"
    )
    try:
        done = restricted(code, standin.environment(home, server.url()))
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert done.stdout == "loaded\n", done.stderr
    sentence = done.stderr.strip().splitlines()[-1]
    assert "cascade_r50_fpn_1x.paddle is not in the cache" in sentence
    assert "which cannot be written (Permission denied): set CASCADEZOO_HOME to a folder of your own" in sentence


def test_a_file_of_the_mirrors_folder_that_may_not_be_read(home, tmp_path) -> None:
    file = tmp_path / "mirror" / PATH.lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_bytes(standin.checkpoint())
    file.chmod(0)
    done = restricted("import cascadezoo; cascadezoo.download(NAME)", standin.environment(home, tmp_path / "mirror"))
    assert f"WeightsNotFound: the mirror has no {file} for {NAME} that can be read" in done.stderr


@pytest.fixture
def small_disk(tmp_path):
    """A disk that holds the original and little more."""
    disk = tmp_path / "disk"
    disk.mkdir()
    size = len(standin.checkpoint()) + 200_000
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_leaves_no_broken_entry(server, small_disk, monkeypatch) -> None:
    monkeypatch.setenv("CASCADEZOO_HOME", str(small_disk))
    with pytest.raises(UnwritableOutput, match=r"No space left on device; nothing was left"):
        cascadezoo.load(NAME, pretrained=True)
    assert not list((small_disk / "canonical").iterdir())
    assert left(small_disk) == {"originals", "locks"}

    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    assert same(cascadezoo.load(NAME, pretrained=True), standin.model())
    assert len(server.requests) == 1  # from the original that was there


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "unannounced"])
def test_a_disk_too_small_for_the_download(server, small_disk, monkeypatch, chunked) -> None:
    monkeypatch.setenv("CASCADEZOO_HOME", str(small_disk))
    (small_disk / "other").write_bytes(bytes(500_000))
    server.resources[PATH].chunked = chunked
    with pytest.raises(UnwritableOutput, match=r"No space left|bytes more, and .* has .* left: make room"):
        cascadezoo.load(NAME, pretrained=True)
    (small_disk / "other").unlink()
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    assert same(cascadezoo.load(NAME, pretrained=True), standin.model())


def test_command(server, home, capsys) -> None:
    assert run("download", NAME) == 0
    out, err = capsys.readouterr()
    assert out == f"{NAME}  {canonical_path(NAME)}\n"
    (line,) = err.splitlines()  # no bars where nobody watches
    assert f"{NAME}: its publisher states no hash of this file, so it is trusted on first use" in line
    assert run("download", "--json", "--keep-original", NAME) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"name": NAME, "state": "ready", "path": str(canonical_path(NAME)), "reason": None}
    ]


def test_command_goes_on_after_failures_and_exits_by_the_worst(server, capsys) -> None:
    server.put("/" + str(registry.info(MMDET).download_url).removeprefix("https://"), standin.checkpoint())
    missing, never = "cascade_r50_fpn_1x.paddle", "cascade_x101_64x4d_fpn_1x.detectron"
    assert run("download", "--json", missing, NAME, never) == 3
    out, err = capsys.readouterr()
    assert [(one["name"], one["state"]) for one in json.loads(out)] == [
        (missing, "failed"),
        (NAME, "ready"),
        (never, "failed"),
    ]
    assert f"{missing}: failed: http" in err
    assert run("download", missing, MMDET, NAME) == 4
    out, err = capsys.readouterr()
    assert out.split() == [NAME, str(canonical_path(NAME))]
    assert "sha256 starts with 9d4dcb24 expected" in err


def test_command_for_all(server, monkeypatch, capsys) -> None:
    names = (NAME, "cascade_x101_64x4d_fpn_1x.detectron", "cascade_r50_fpn_1x.paddle")
    some = tuple(registry.info(name) for name in names)
    monkeypatch.setattr(registry, "entries", lambda *data: () if data else some)
    assert run("download", "--all", "--jobs", "2") == 3
    out, err = capsys.readouterr()
    assert out.split()[0] == NAME
    assert f"{names[1]}: skipped: never published" in err
    assert f"{names[2]}: failed: " in err
    assert err.endswith("1 ready, 1 skipped, 1 failed\n")


def test_a_folder_that_is_in_the_way_stops_only_its_entry(server, home, capsys) -> None:
    (home / "originals").mkdir(parents=True)
    (home / "originals" / NAME).write_text("")
    assert run("download", NAME, "cascade_mask_r18_fpn_shapes.cascadezoo") == 4
    out, err = capsys.readouterr()
    assert out.startswith("cascade_mask_r18_fpn_shapes.cascadezoo  ")
    assert f"{NAME}: failed: {NAME}: {home}/originals/{NAME}" in err


@pytest.mark.parametrize("wrong", [[], ["--all", NAME], ["nonsense"], [NAME, "--jobs", "0"]])
def test_command_used_wrongly(wrong) -> None:
    assert run("download", *wrong) == 2


def test_downloads_at_a_time_are_bounded(server, monkeypatch) -> None:
    import threading
    import time

    running, most, lock = 0, 0, threading.Lock()

    def obtain(entry, **options):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        raise DownloadFailed("no")

    monkeypatch.setattr(weights, "obtain", obtain)
    assert run("download", "--all", "--jobs", "3") == 3
    assert most == 3


def test_moved_files_say_so(server, caplog) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(DownloadFailed):
        cascadezoo.load("mask_r50_fpn_1x.detectron", pretrained=True)
    assert "the publisher's file has moved to https://dl.fbaipublicfiles.com/detectron/" in caplog.text


def test_our_own_entry_is_in_the_package(server, home, capsys) -> None:
    name = "cascade_mask_r18_fpn_shapes.cascadezoo"
    assert run("download", name) == 0
    path = Path(capsys.readouterr().out.split()[1])
    assert path.is_file()
    assert not path.is_relative_to(home)
    assert not server.requests
