"""Publishing and loading back, with the real client, against a hub in this process."""

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hub.fake_hub import READER, FakeHub, FakeRepo
from hub.publishing import SOURCE_SHA256, canonical_file, no_sockets, same_weights, shrink, use_hub

import cascadezoo
from cascadezoo.cli import main
from cascadezoo.coco.categories import Categories
from cascadezoo.errors import (
    CorruptCheckpoint,
    DownloadFailed,
    LicenseUnstated,
    NotAllowed,
    Offline,
    UsageError,
    WeightsNotFound,
    WrongEntry,
    WrongPublisher,
)
from cascadezoo.hub.huggingface import fetch_repo
from cascadezoo.hub.sources import parse
from cascadezoo.paths import canonical_path
from cascadezoo.publishing.publish import publish

from tiny import tiny

STATED = "faster_r50_fpn_1x.detectron"  # CC-BY-SA-3.0
UNSTATED = "cascade_mask_r50_fpn_1x.mmdet"
REPO = "org/faster"


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch, STATED, UNSTATED, "mask_r50_fpn_1x.detectron")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with FakeHub() as running:
        use_hub(monkeypatch, running, tmp_path / "hf")
        yield running


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return canonical_file(tmp_path, STATED)


def test_a_repository_is_created_and_filled_by_one_commit(hub: FakeHub, weights: Path) -> None:
    done = publish(STATED, REPO, weights=weights)
    repo = hub.repos[REPO]
    files = repo.commits[repo.branches["main"]]
    assert sorted(files) == [".gitattributes", "README.md", "config.json", "model.safetensors"]
    assert files["model.safetensors"] == weights.read_bytes()
    assert repo.messages == ["initial commit", "Publish faster_r50_fpn_1x.detectron with cascadezoo 0.1.0"]
    assert not repo.private
    assert done.commit == repo.branches["main"]
    assert done.changed
    assert done.files == {name: len(files[name]) for name in ("README.md", "config.json", "model.safetensors")}
    assert files["README.md"].decode() == done.card


def test_weights_go_the_lfs_way_and_text_in_the_commit(hub: FakeHub, weights: Path) -> None:
    publish(STATED, REPO, weights=weights)
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert list(hub.stored) == [sha256]
    assert f"PUT /lfs/{sha256}" in hub.requests
    assert f"POST /{REPO}.git/info/lfs/objects/batch" in hub.requests


def test_the_config_is_strict_json_of_the_network_and_its_categories(hub: FakeHub, weights: Path) -> None:
    publish(STATED, REPO, weights=weights)
    repo = hub.repos[REPO]

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    config = json.loads(repo.commits[repo.branches["main"]]["config.json"], parse_constant=refuse)
    assert (config["library"], config["entry"], config["publisher"]) == ("cascadezoo", STATED, "detectron")
    assert config["architecture"] == "faster_r50_fpn"
    assert config["spec"]["stages"][0]["log_scale"][0] == "-Infinity"  # Detectron clamps the upper side only
    assert config["categories"]["names"] == [f"class {label}" for label in range(5)]


def test_what_was_published_loads_back(hub: FakeHub, weights: Path) -> None:
    done = publish(STATED, REPO, weights=weights)
    repo = fetch_repo(parse(f"hf-hub:{REPO}"))
    assert repo.weights.read_bytes() == weights.read_bytes()
    assert repo.config.spec == tiny("faster_r50_fpn", "detectron")
    assert repo.commit == done.commit
    # the storage is another host: the token stays at home
    assert hub.storage_headers
    assert not any("authorization" in (key.lower() for key in headers) for headers in hub.storage_headers)


def test_it_loads_by_its_name_on_the_hub_and_from_an_organisation(hub, weights, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path / "home"))
    own = cascadezoo.load(STATED, weights=weights)
    done = publish(STATED, f"org/{STATED}", weights=weights)
    for name in (f"hf-hub:org/{STATED}", f"hf-hub:org/{STATED}@{done.commit}"):
        model = cascadezoo.load(name)
        assert same_weights(model, own)
        assert model.spec == own.spec
        assert model.origin.started_from == f"hf-hub:org/{STATED}@{done.commit}"
        assert (model.origin.entry, model.origin.source_sha256) == (STATED, SOURCE_SHA256)
    monkeypatch.setenv("CASCADEZOO_HUB", "org")
    assert same_weights(cascadezoo.load(STATED, pretrained=True), own)

    no_sockets(monkeypatch)
    monkeypatch.setenv("CASCADEZOO_OFFLINE", "1")
    assert same_weights(cascadezoo.load(f"hf-hub:org/{STATED}"), own)


def test_a_damaged_copy_is_fetched_once_more_and_wrong_content_refused(hub, weights, caplog, monkeypatch) -> None:
    publish(STATED, REPO, weights=weights)
    cached = fetch_repo(parse(f"hf-hub:{REPO}")).weights.resolve()
    damaged = bytearray(cached.read_bytes())
    damaged[-1] ^= 1
    cached.write_bytes(damaged)
    with monkeypatch.context() as offline:
        offline.setenv("CASCADEZOO_OFFLINE", "1")
        with pytest.raises(CorruptCheckpoint, match="content digest"):
            cascadezoo.load(f"hf-hub:{REPO}")
    cascadezoo.load(f"hf-hub:{REPO}")
    assert "content digest" in caplog.text
    assert cached.read_bytes() == weights.read_bytes()

    cached.write_bytes(damaged)
    hub.stored = {name: bytes(damaged) for name in hub.stored}
    with pytest.raises(CorruptCheckpoint, match="content digest"):
        cascadezoo.load(f"hf-hub:{REPO}")


def test_publishing_the_same_again_changes_nothing(hub: FakeHub, weights: Path) -> None:
    first, second = publish(STATED, REPO, weights=weights), publish(STATED, REPO, weights=weights)
    assert second.commit == first.commit
    assert not second.changed
    assert len(hub.repos[REPO].commits) == 2
    assert hub.requests.count("POST /api/repos/create") == 1


def test_a_repository_that_exists_is_updated_by_one_commit_and_keeps_its_other_files(hub: FakeHub, tmp_path) -> None:
    there = FakeRepo()
    there.commit("main", {"LICENSE": b"text", "README.md": b"---\nlicense: mit\n---\n"}, "by hand")
    hub.repos[REPO] = there
    done = publish(STATED, REPO, weights=canonical_file(tmp_path, STATED))
    assert there.messages[1:] == ["Publish faster_r50_fpn_1x.detectron with cascadezoo 0.1.0"]
    files = there.commits[done.commit]
    assert files["LICENSE"] == b"text"
    assert files["README.md"].decode() == done.card


def test_a_branch_is_made_for_a_revision(hub: FakeHub, weights: Path) -> None:
    done = publish(STATED, REPO, weights=weights, revision="review")
    repo = hub.repos[REPO]
    assert repo.branches["review"] == done.commit
    assert list(repo.commits[repo.branches["main"]]) == [".gitattributes"]
    assert fetch_repo(parse(f"hf-hub:{REPO}@review")).commit == done.commit


def test_private_is_never_published_into_public(hub: FakeHub, weights: Path) -> None:
    publish(STATED, REPO, weights=weights, private=True)
    assert hub.repos[REPO].private
    hub.repos[REPO].private = False
    with pytest.raises(UsageError, match="is public"):
        publish(STATED, REPO, weights=weights, private=True)


def test_a_dry_run_shows_everything_and_touches_no_socket(hub: FakeHub, weights: Path, monkeypatch) -> None:
    attempts = no_sockets(monkeypatch)
    monkeypatch.delenv("HF_TOKEN")
    done = publish(STATED, REPO, weights=weights, dry_run=True)
    assert not attempts
    assert not hub.requests
    assert done.commit is None
    assert done.files["model.safetensors"] == weights.stat().st_size
    assert f"hf-hub:{REPO}" in done.card


def test_weights_come_from_the_cache_unless_given(hub: FakeHub, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path / "home"))
    with pytest.raises(WeightsNotFound, match=f"cascadezoo download {STATED}"):
        publish(STATED, REPO, dry_run=True)
    cached = canonical_path(STATED)
    cached.parent.mkdir(parents=True)
    canonical_file(cached.parent, STATED)
    assert publish(STATED, REPO, dry_run=True).files["model.safetensors"] == cached.stat().st_size


# licences


def test_an_unstated_licence_must_be_given(hub: FakeHub, tmp_path: Path) -> None:
    weights = canonical_file(tmp_path, UNSTATED)
    with pytest.raises(LicenseUnstated, match=r"states no licence for the weights.*--license"):
        publish(UNSTATED, REPO, weights=weights)
    assert not hub.requests
    done = publish(UNSTATED, REPO, weights=weights, license="Apache-2.0")
    assert done.license.id == "Apache-2.0"
    assert not done.license.stated
    assert yaml.safe_load(done.card.split("---\n")[1])["license"] == "apache-2.0"


def test_a_stated_licence_cannot_be_changed(hub: FakeHub, weights: Path) -> None:
    with pytest.raises(UsageError, match=r"are under CC-BY-SA-3\.0"):
        publish(STATED, REPO, weights=weights, license="MIT")
    assert publish(STATED, REPO, weights=weights, license="cc-by-sa-3.0", dry_run=True).license.id == "CC-BY-SA-3.0"


def test_the_hub_refusing_the_card_is_told(hub: FakeHub, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("hub.fake_hub.LICENSES", {"mit"})
    with pytest.raises(UsageError, match=r"Invalid metadata in README.md"):
        publish(STATED, REPO, weights=canonical_file(tmp_path, STATED))
    assert list(hub.repos[REPO].commits.values()) == [{".gitattributes": b"*.safetensors filter=lfs\n"}]


# weights that are not to be published


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"entries": "faster_r101_fpn_1x.detectron"}, WrongEntry, "holds the weights of faster_r101_fpn_1x.detectron"),
        ({"architecture": "faster_r101_fpn"}, WrongPublisher, "holds faster_r101_fpn"),
        ({"content_digest": "00" * 32}, CorruptCheckpoint, "content digest"),
        ({"content_digest": None}, CorruptCheckpoint, "gives no content_digest"),
        ({"publisher": None}, CorruptCheckpoint, "gives no publisher"),
    ],
)
def test_wrong_weights_are_refused_before_the_network(hub, tmp_path, changes, error, match) -> None:
    with pytest.raises(error, match=match):
        publish(STATED, REPO, weights=canonical_file(tmp_path, STATED, **changes))
    assert not hub.requests


def test_a_publishers_own_file_is_not_published(hub: FakeHub, tmp_path: Path) -> None:
    (file := tmp_path / "model.pkl").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(UsageError, match="cascadezoo convert --from detectron"):
        publish(STATED, REPO, weights=file)
    with pytest.raises(WeightsNotFound):
        publish(STATED, REPO, weights=tmp_path / "none.safetensors")


# the network, and rights


def test_no_token_no_right_no_network(hub: FakeHub, weights: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", READER)
    with pytest.raises(NotAllowed, match=r"403 You don't have the rights"):
        publish(STATED, REPO, weights=weights)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(NotAllowed, match="401 Invalid credentials"):
        publish(STATED, REPO, weights=weights)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(NotAllowed, match="there is no token"):
        publish(STATED, REPO, weights=weights)
    assert not hub.repos

    monkeypatch.setenv("HF_TOKEN", "hf_any")
    monkeypatch.setenv("CASCADEZOO_OFFLINE", "1")
    with pytest.raises(Offline, match="while CASCADEZOO_OFFLINE forbids the network"):
        publish(STATED, REPO, weights=weights)
    monkeypatch.delenv("CASCADEZOO_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(DownloadFailed, match="cannot be reached"):
        publish(STATED, REPO, weights=weights)


def test_a_hub_that_is_down_or_none_at_all(hub: FakeHub, weights: Path) -> None:
    hub.broken = True
    with pytest.raises(DownloadFailed, match="answers 503"):
        publish(STATED, REPO, weights=weights)


def test_a_failed_upload_leaves_the_last_commit(hub: FakeHub, weights: Path) -> None:
    hub.upload_fails = True
    with pytest.raises(DownloadFailed, match=r"the upload broke off \(400 the storage is closed\): run it again"):
        publish(STATED, REPO, weights=weights)
    assert hub.repos[REPO].messages == ["initial commit"]
    hub.upload_fails = False
    assert publish(STATED, REPO, weights=weights).changed


@pytest.mark.parametrize("repo", ["faster", "org/faster/x", "org/faster@main", "hf-hub:org/faster", ""])
def test_malformed_names_of_repositories(repo: str, weights: Path) -> None:
    with pytest.raises(UsageError, match="repository"):
        publish(STATED, repo, weights=weights, dry_run=True)


def test_a_name_that_the_hub_forbids(hub: FakeHub, weights: Path) -> None:
    with pytest.raises(UsageError, match="allows no such name"):
        publish(STATED, "org/double--dash", weights=weights)


# models of one's own


def test_a_trained_model_keeps_its_categories_and_claims_no_figures(hub: FakeHub, tmp_path: Path) -> None:
    shapes = Categories(["disc", "square", "star"], [7, 9, 4])
    changes = {"categories": shapes.to_json(), "source_sha256": None, "source_is_published": None, "source_url": None}
    done = publish(STATED, REPO, weights=canonical_file(tmp_path, STATED, **changes))
    assert done.figures is None
    assert "model-index" not in done.card
    assert "No report of these weights was given." in done.card
    repo = fetch_repo(parse(f"hf-hub:{REPO}"))
    assert repo.config.names == shapes
    assert repo.config.spec.num_classes == 3


# the command line


def run(capsys: pytest.CaptureFixture[str], *args: str) -> SimpleNamespace:
    with pytest.raises(SystemExit) as exit:
        main(["publish", *args])
    out, err = capsys.readouterr()
    return SimpleNamespace(code=exit.value.code, out=out, err=err)


def test_the_command(hub: FakeHub, weights: Path, capsys, caplog) -> None:
    caplog.set_level(logging.ERROR)
    args = (STATED, "--repo", REPO, "--weights", str(weights))
    planned = run(capsys, *args, "--dry-run")
    assert planned.code == 0
    assert "license: cc-by-sa-3.0" in planned.out
    assert "model.safetensors" in planned.out
    assert not hub.repos

    done = run(capsys, *args)
    commit = hub.repos[REPO].branches["main"]
    assert done.code == 0
    assert f'cascadezoo.load("hf-hub:{REPO}@{commit}"' in done.out
    again = run(capsys, *args)
    assert "already" in again.out
    as_json = json.loads(run(capsys, *args, "--json").out)
    assert (as_json["commit"], as_json["changed"]) == (commit, False)


def test_exit_codes(hub: FakeHub, tmp_path: Path, capsys, monkeypatch) -> None:
    weights = str(canonical_file(tmp_path, UNSTATED))
    assert run(capsys, UNSTATED, "--repo", REPO, "--weights", weights).code == 2
    monkeypatch.delenv("HF_TOKEN")
    refused = run(capsys, UNSTATED, "--repo", REPO, "--weights", weights, "--license", "unknown")
    assert refused.code == 3
    assert refused.err.count("\n") == 1


def test_publish_is_public_api() -> None:
    assert cascadezoo.publish is publish
