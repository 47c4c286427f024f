"""Repositories read with the real client from a hub in this process, and folders laid out like one."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub.fake_hub import READER, FakeHub
from hub.publishing import canonical_file, no_sockets, shrink, use_hub

from cascadezoo import registry
from cascadezoo.coco.categories import Categories
from cascadezoo.errors import (
    CorruptCheckpoint,
    DownloadFailed,
    NotAllowed,
    Offline,
    RepoNotFound,
    UnusableRepo,
    UsageError,
    WeightsNotFound,
)
from cascadezoo.hub.client import cache_folder
from cascadezoo.hub.huggingface import canonical_from_hub, fetch_repo
from cascadezoo.hub.sources import HubSource, LocalSource, parse
from cascadezoo.publishing.publish import publish

from tiny import tiny

NAME = "faster_r50_fpn_1x.detectron"
REPO = f"org/{NAME}"


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch, NAME)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub that holds one published entry; the reader's cache is empty."""
    with FakeHub() as running:
        use_hub(monkeypatch, running, tmp_path / "hf")
        publish(NAME, REPO, weights=canonical_file(tmp_path, NAME))
        running.requests.clear()
        yield running


def head(hub: FakeHub) -> dict[str, bytes]:
    repo = hub.repos[REPO]
    return repo.commits[repo.branches["main"]]


def source() -> HubSource:
    found = parse(f"hf-hub:{REPO}")
    assert isinstance(found, HubSource)
    return found


def alter(hub: FakeHub, name: str, content: bytes | None) -> None:
    """A commit by hand that writes or removes one file."""
    files = {**head(hub), name: content}
    hub.repos[REPO].commit("main", {path: data for path, data in files.items() if data is not None}, "by hand")
    if content is not None and hub.is_large(name):
        hub.stored[hashlib.sha256(content).hexdigest()] = content


# names


def test_names() -> None:
    assert parse("hf-hub:org/repo") == HubSource("org/repo")
    assert parse("hf-hub:org/repo.mmdet@v1.0") == HubSource("org/repo.mmdet", "v1.0")
    assert parse("hf-hub:org/repo@refs/pr/3") == HubSource("org/repo", "refs/pr/3")
    assert parse("local-dir:some/folder") == LocalSource(Path("some/folder"))
    assert parse("cascade_r50_fpn_1x.mmdet") is None
    assert parse("org/repo") is None
    for name in ("hf-hub:org/repo@v1", "local-dir:some/folder"):
        assert str(parse(name)) == name


@pytest.mark.parametrize("name", ["hf-hub:", "hf-hub:repo", "hf-hub:a/b/c", "hf-hub:org/repo@", "local-dir:"])
def test_names_of_nothing(name: str) -> None:
    with pytest.raises(UsageError):
        parse(name)


# the Hub


def test_bytes_are_told_and_the_clients_bars_never_shown(hub: FakeHub, monkeypatch, capfd) -> None:
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS")
    told: list[tuple[int, int | None]] = []
    fetch_repo(source(), lambda done, total: told.append((done, total)))
    size = sum(len(head(hub)[name]) for name in ("config.json", "model.safetensors"))
    assert told[-1] == (size, size)
    assert capfd.readouterr() == ("", "")


def test_files_come_from_the_hub_once(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = fetch_repo(source())
    assert repo.weights.read_bytes() == head(hub)["model.safetensors"]
    assert repo.config.spec == tiny("faster_r50_fpn", "detectron")
    assert repo.config.names == Categories.numbered(5)
    assert repo.weights.is_relative_to(cache_folder())
    assert "GET /stored/" in "".join(hub.requests)
    assert not any("README" in request for request in hub.requests)

    hub.requests.clear()
    assert fetch_repo(source()) == repo
    assert hub.requests == [f"GET /api/models/{REPO}/revision/main"]  # which commit it is now, and no more


@pytest.mark.parametrize("switch", ["HF_HUB_OFFLINE", "CASCADEZOO_OFFLINE"])
def test_offline_it_comes_from_the_cache_without_a_socket(hub, monkeypatch, switch: str) -> None:
    online = fetch_repo(source())
    attempts = no_sockets(monkeypatch)
    monkeypatch.setenv(switch, "1")
    assert fetch_repo(source()) == online
    assert not attempts


def test_other_processes_read_their_environment_themselves(hub: FakeHub, tmp_path: Path) -> None:
    code = (
        "from cascadezoo.hub.huggingface import *; from cascadezoo.hub.sources import parse;"
        f"print(fetch_repo(parse('hf-hub:{REPO}')).commit)"
    )
    keep = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "CASCADEZOO_"))}
    env = {**keep, "HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "elsewhere"), "HF_HUB_DISABLE_XET": "1"}
    for more in ({}, {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}):
        done = subprocess.run([sys.executable, "-c", code], env={**env, **more}, capture_output=True, text=True)
        assert done.stdout.strip() == hub.repos[REPO].branches["main"], done.stderr
    assert (tmp_path / "elsewhere").is_dir()


def test_offline_and_not_in_the_cache(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = no_sockets(monkeypatch)
    monkeypatch.setenv("CASCADEZOO_OFFLINE", "1")
    with pytest.raises(Offline, match="not in the Hugging Face cache"):
        fetch_repo(source())
    with pytest.raises(Offline):
        canonical_from_hub(registry.info(NAME), "org")
    assert not attempts


def test_an_unreachable_hub_is_an_error_unless_the_cache_has_it(hub: FakeHub, monkeypatch) -> None:
    endpoint = "http://127.0.0.1:9"  # nobody listens there
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(DownloadFailed, match=r"hf-hub:org/faster.* cannot be reached \(ConnectError"):
        fetch_repo(source())
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    online = fetch_repo(source())
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert fetch_repo(source()) == online


def test_a_hub_that_answers_with_errors(hub: FakeHub) -> None:
    hub.broken = True
    with pytest.raises(DownloadFailed, match="503"):
        fetch_repo(source())


def test_a_revision_is_pinned(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = hub.repos[REPO].branches["main"]
    config = json.loads(head(hub)["config.json"])
    config["version"] = "0.0.9"
    alter(hub, "config.json", json.dumps(config).encode())
    second = hub.repos[REPO].branches["main"]
    assert fetch_repo(source()).config.version == "0.0.9"
    assert fetch_repo(source()).commit == second
    pinned = fetch_repo(HubSource(REPO, first))
    assert (pinned.commit, pinned.config.version) == (first, "0.1.0")

    no_sockets(monkeypatch)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch_repo(HubSource(REPO, first)) == pinned


def test_unknown_repository_revision_and_gated(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RepoNotFound, match=r"hf-hub:org/none: .* has no such repository"):
        fetch_repo(HubSource("org/none"))
    with pytest.raises(RepoNotFound, match="no such branch, tag or commit"):
        fetch_repo(HubSource(REPO, "v9"))
    hub.repos[REPO].gated = True
    monkeypatch.setenv("HF_TOKEN", READER)
    with pytest.raises(NotAllowed, match="is gated: accept its terms"):
        fetch_repo(source())


def test_a_private_repository_wants_its_token(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repos[REPO].private = True
    for token in (READER, None):
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        else:
            monkeypatch.delenv("HF_TOKEN")
        with pytest.raises(RepoNotFound, match="or not for you"):
            fetch_repo(source())


def test_an_endpoint_that_is_no_hub(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{hub.url}/api/elsewhere")
    with pytest.raises((RepoNotFound, DownloadFailed)):
        fetch_repo(source())


# an organisation of one's own


def test_an_organisation_that_has_the_entry_or_not(hub: FakeHub) -> None:
    entry = registry.info(NAME)
    found = canonical_from_hub(entry, "org")
    assert found is not None
    assert found.weights.read_bytes() == head(hub)["model.safetensors"]
    assert canonical_from_hub(registry.info("faster_r101_fpn_1x.detectron"), "org") is None


@pytest.mark.parametrize("organisation", ["org/", "hf-hub:org", "my org"])
def test_what_is_no_organisation(hub: FakeHub, organisation: str) -> None:
    with pytest.raises(UsageError, match=f"CASCADEZOO_HUB={organisation} names no organisation"):
        canonical_from_hub(registry.info(NAME), organisation)
    assert not hub.requests


def test_an_organisation_with_another_entry_under_that_name(hub: FakeHub) -> None:
    other = "faster_r101_fpn_1x.detectron"
    hub.repos[f"org/{other}"] = hub.repos[REPO]
    with pytest.raises(UnusableRepo, match=f"holds {NAME}"):
        canonical_from_hub(registry.info(other), "org")


def test_an_organisation_on_a_broken_hub_is_an_error(hub: FakeHub) -> None:
    hub.broken = True
    with pytest.raises(DownloadFailed):
        canonical_from_hub(registry.info(NAME), "org")


# what is in a repository


@pytest.fixture
def folder(hub: FakeHub, tmp_path: Path) -> Path:
    """The published files, copied into a folder by hand."""
    target = tmp_path / "copy"
    shutil.copytree(fetch_repo(source()).weights.parent, target)
    return target


def test_a_folder_serves_as_well(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = no_sockets(monkeypatch)
    repo = fetch_repo(LocalSource(folder))
    assert repo.weights == folder / "model.safetensors"
    assert repo.commit is None
    assert repo.config.entry == NAME
    with pytest.raises(WeightsNotFound, match="no such folder"):
        fetch_repo(LocalSource(folder / "deeper"))
    assert not attempts


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(hub: FakeHub, name: str) -> None:
    alter(hub, name, None)
    with pytest.raises(UnusableRepo, match=f"has no {name}"):
        fetch_repo(source())


def test_pickles_are_never_fetched(hub: FakeHub) -> None:
    alter(hub, "pytorch_model.bin", b"\x80\x02cos\nsystem\n.")
    repo = fetch_repo(source())
    assert sorted(path.name for path in repo.weights.parent.iterdir()) == ["config.json", "model.safetensors"]
    assert not any("pytorch_model" in request for request in hub.requests)


def changed(folder: Path, **fields: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"library": "timm"}, "not one of cascadezoo's"),
        ({"sparkle": 1, "version": "9.9", "entry": 3}, "a field sparkle that .* does not know; 9.9 wrote it"),
        ({"spec": {}}, "config.json: spec.backbone: Field required"),
        ({"categories": {"names": ["one"], "ids": [1]}}, "1 categories for 5 classes"),
        ({"categories": {"names": ["same"] * 5, "ids": [1, 2, 3, 4, 5]}}, "one of them twice"),
        ({"content_digest": "00" * 32}, "were not published together"),
        ({"publisher": "mmdet"}, "config.json says publisher mmdet, model.safetensors says detectron"),
        ({"architecture": "faster_r101_fpn"}, "says architecture"),
    ],
)
def test_a_config_that_will_not_do(folder: Path, fields: dict[str, object], match: str) -> None:
    changed(folder, **fields)
    with pytest.raises(UnusableRepo, match=match):
        fetch_repo(LocalSource(folder))


def test_a_field_of_the_network_that_only_a_newer_version_knows(folder: Path) -> None:
    spec = json.loads((folder / "config.json").read_text())["spec"]
    spec["backbone"]["holes"] = True
    changed(folder, spec=spec, version="1.2.0")
    with pytest.raises(UnusableRepo, match=r"field spec\.backbone\.(resnet\.)?holes .* 1\.2\.0 wrote it"):
        fetch_repo(LocalSource(folder))


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00\xff", "[" * 100_000, "1" * (2 << 20)])
def test_a_config_that_is_no_config(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text, "latin-1")
    with pytest.raises(UnusableRepo, match=r"config\.json is not"):
        fetch_repo(LocalSource(folder))


def test_weights_that_are_cut_short_are_seen(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(CorruptCheckpoint, match="no whole safetensors file"):
        fetch_repo(LocalSource(folder))
