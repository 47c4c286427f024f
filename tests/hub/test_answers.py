"""A Hub that lies: nothing is written where it says, and each lie is one sentence."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hub.fake_hub import FakeHub, FakeRepo, Sent
from hub.publishing import use_hub

from cascadezoo.errors import DownloadFailed, UnsafeRedirect
from cascadezoo.hub.answers import require_sound
from cascadezoo.hub.huggingface import HubSource, fetch_repo

REPO = "org/model"
SHA1, SHA256 = "0123456789" * 4, "0123456789abcdef" * 4


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub with a repository of the two files; what is in them is of no account here."""
    with FakeHub() as running:
        use_hub(monkeypatch, running, tmp_path / "deep" / "hf")
        repo = FakeRepo()
        repo.commit("main", {"config.json": b"{}", "model.safetensors": b"{}"}, "by hand")
        running.repos[REPO] = repo
        yield running


def refused(hub: FakeHub, tmp_path: Path, spoof: Callable[[str, str, Sent], Sent], match: str) -> None:
    """The repository is refused, and nothing of it is in the cache, nor anywhere else."""
    hub.spoof = spoof
    with pytest.raises((DownloadFailed, UnsafeRedirect), match=match) as caught:
        fetch_repo(HubSource(REPO))
    assert "\n" not in str(caught.value)
    allowed = {"deep", "hf", "hub", "models--org--model", "trees", "refs", "main", ".locks"}
    for path in tmp_path.rglob("*"):
        assert path.name in allowed or path.parent.name == "trees", path


def of_file(**headers: str) -> Callable[[str, str, Sent], Sent]:
    """These headers in the answer to HEAD of a file."""

    def spoof(method: str, path: str, sent: Sent) -> Sent:
        status, body, own = sent
        if "/resolve/" in path and method == "HEAD":
            own = {**own, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return status, body, own

    return spoof


def of_api(place: str, change: Callable[[Any], Any]) -> Callable[[str, str, Sent], Sent]:
    """Another JSON in the answer about the repository ("revision") or its files ("tree")."""

    def spoof(method: str, path: str, sent: Sent) -> Sent:
        status, body, own = sent
        if f"/{place}/" in path and status == 200:
            body = json.dumps(change(json.loads(body))).encode()
            own = {**own, "Content-Length": str(len(body))}
        return status, body, own

    return spoof


EVIL = [
    "../../../../evil",
    "/tmp/cascadezoo-evil",
    "..\\..\\evil",
    "C:\\evil",
    f"{SHA1}/../../evil",
    "evil",
    "",
    SHA1[1:],
    SHA1 + "0",
    SHA1.replace("0", "g"),
    "a" * 5000,
    ".",
]


@pytest.mark.parametrize("text", EVIL, ids=lambda text: text[:20] or "empty")
@pytest.mark.parametrize("form", ['"{}"', "{}", 'W/"{}"'])
def test_U1_an_etag_that_is_no_hash_is_refused_before_anything_is_written(hub, tmp_path, text: str, form: str) -> None:
    refused(hub, tmp_path, of_file(X_Linked_Etag=form.format(text) or '""', ETag=form.format(text)), "gives the ETag")


@pytest.mark.parametrize("text", [text for text in EVIL if text], ids=lambda text: text[:20])
def test_U1_a_commit_that_is_no_hash_is_refused_before_anything_is_written(hub, tmp_path, text: str) -> None:
    refused(hub, tmp_path, of_file(X_Repo_Commit=text), "gives the commit")


@pytest.mark.parametrize("sha", [*EVIL, None, 3, ["a"], {"a": 1}, True], ids=lambda sha: str(sha)[:20] or "empty")
def test_U1_a_repository_whose_commit_is_no_hash_is_refused(hub, tmp_path, sha: object) -> None:
    refused(hub, tmp_path, of_api("revision", lambda info: {**info, "sha": sha}), "gives the commit")


def test_U1_an_answer_that_a_file_is_missing_names_no_path_either(hub: FakeHub, tmp_path: Path) -> None:
    """The client notes what is missing under the commit that a 404 names."""

    def spoof(method: str, path: str, sent: Sent) -> Sent:
        if "/resolve/" not in path:
            return sent
        return 404, b"", {"Content-Length": "0", "X-Error-Code": "EntryNotFound", "X-Repo-Commit": "../../../../evil"}

    refused(hub, tmp_path, spoof, "gives the commit")


NAMES = [
    "../evil",
    "a/../../evil",
    "/etc/evil",
    "a\\..\\evil",
    "\\\\host\\share",
    "C:/evil",
    "c:evil",
    "a\x00b",
    "a\nb",
    "x" * 256,
    "/".join(["xy"] * 400),
    "NUL",
    "con.txt",
    "sub/COM1.json",
    "a//b",
    "./a",
    ".. /a",
    "",
    None,
    7,
    ["a"],
    "\ud800",
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:20])
@pytest.mark.parametrize("place", ["revision", "tree"])
def test_U1_a_file_name_that_is_no_relative_path_is_refused(hub, tmp_path, place: str, name: object) -> None:
    def change(answer: Any) -> Any:
        if place == "tree":
            return [*answer, {**answer[0], "path": name}]
        return {**answer, "siblings": [*answer["siblings"], {"rfilename": name}]}

    refused(hub, tmp_path, of_api(place, change), "gives the name of a file")


@pytest.mark.parametrize("answer", [None, 5, "text", [], [[]], {"id": 3}, {}], ids=repr)
def test_U1_a_repository_that_is_described_in_another_form_is_refused(hub, tmp_path, answer: object) -> None:
    refused(hub, tmp_path, of_api("revision", lambda _: answer), "does not answer as a Hub")


@pytest.mark.parametrize(
    "fields",
    [
        {"siblings": 5},
        {"siblings": {"a": 1}},
        {"siblings": [None]},
        {"siblings": [{}]},
        {"lastModified": 5},
        {"safetensors": 3},
        {"inferenceProviderMapping": [3]},
    ],
    ids=repr,
)
def test_U1_fields_of_another_type_are_one_sentence(hub: FakeHub, tmp_path: Path, fields: dict[str, object]) -> None:
    refused(hub, tmp_path, of_api("revision", lambda info: {**info, **fields}), "does not answer as a Hub")


@pytest.mark.parametrize(
    "fields",
    [
        {"size": -1},
        {"size": "12"},
        {"size": 1.5},
        {"size": None},
        {"size": True},
        {"oid": "../x"},
        {"oid": None},
        {"lfs": 3},
        {"lfs": {"oid": "../../x", "size": 1, "pointerSize": 1}},
        {"lfs": {"oid": SHA256, "size": -5, "pointerSize": 1}},
        {"lfs": {"oid": SHA256, "size": 5}},
        {"xetHash": "../x"},
        {"xetHash": 3},
    ],
    ids=repr,
)
def test_U1_a_list_of_files_of_another_form_is_refused(hub, tmp_path, fields: dict[str, object]) -> None:
    refused(hub, tmp_path, of_api("tree", lambda files: [{**file, **fields} for file in files]), "answer as a Hub")


@pytest.mark.parametrize("files", [None, 5, "text", {"a": 1}, [None], [[]], ["a"]], ids=repr)
def test_U1_what_is_no_list_of_files_is_refused(hub: FakeHub, tmp_path: Path, files: object) -> None:
    refused(hub, tmp_path, of_api("tree", lambda _: files), "does not answer as a Hub")


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"<html>"], ids=repr)
def test_U1_what_is_no_json_is_refused(hub: FakeHub, tmp_path: Path, body: bytes) -> None:
    def spoof(method: str, path: str, sent: Sent) -> Sent:
        return (200, body, {"Content-Length": str(len(body))}) if path.startswith("/api/") else sent

    refused(hub, tmp_path, spoof, "its JSON cannot be read")


@pytest.mark.parametrize("size", ["-1", "1.5", "many", "1" * 5000, str(10**15)], ids=lambda size: size[:8])
def test_U1_a_size_that_is_none_is_refused(hub: FakeHub, tmp_path: Path, size: str) -> None:
    refused(hub, tmp_path, of_file(X_Linked_Size=size), "gives the size")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://host/x", "gopher://host"])
def test_U1_a_redirect_to_another_kind_of_address_is_not_followed(hub: FakeHub, tmp_path: Path, target: str) -> None:
    refused(hub, tmp_path, of_file(Location=target), "not followed")


def answer(url: str, status: int = 200, method: str = "HEAD", **headers: str) -> Any:
    request = SimpleNamespace(url=url, method=method)
    return SimpleNamespace(
        status_code=status, request=request, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def test_U1_https_never_leads_to_http() -> None:
    with pytest.raises(UnsafeRedirect, match=r"https://hub/x leads on to http://other/y, which is not https"):
        require_sound(answer("https://hub/x", 302, Location="http://other/y"))
    for url, target in (("https://hub/x", "https://other/y"), ("https://hub/x", "/y"), ("http://hub/x", "http://o/y")):
        require_sound(answer(url, 302, Location=target))


@pytest.mark.parametrize("etag", [f'"{SHA1}"', f'W/"{SHA1}"', SHA1, f'"{SHA256}"', SHA256])
def test_U1_what_the_hub_sends_is_sound(etag: str) -> None:
    sizes = {"X_Linked_Size": "123", "X_Xet_Hash": SHA256}
    require_sound(answer("https://hub/org/model/resolve/main/x", 302, X_Repo_Commit=SHA1, X_Linked_Etag=etag, **sizes))
    require_sound(answer("https://hub/org/model/resolve/main/x", X_Repo_Commit=SHA1, ETag=etag, Content_Length="0"))
    require_sound(answer("https://cdn/x", ETag='"5f3-abc-12"'))  # no answer of a Hub: nothing is named after it


def test_U1_answers_after_a_lost_connection_are_checked_too(hub: FakeHub, tmp_path: Path, monkeypatch) -> None:
    """The client opens a new session then."""
    from huggingface_hub.utils import close_session

    tries = []
    connect = socket.socket.connect

    def unsteady(self: socket.socket, address: Any) -> None:
        tries.append(address)
        if len(tries) == 2:
            raise ConnectionRefusedError("once")
        connect(self, address)

    def closing(method: str, path: str, sent: Sent) -> Sent:
        status, body, own = of_file(X_Linked_Etag='"../../../../evil"', ETag='"../../../../evil"')(method, path, sent)
        return status, body, {**own, "Connection": "close"}

    close_session()
    monkeypatch.setattr(socket.socket, "connect", unsteady)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    refused(hub, tmp_path, closing, "gives the ETag")
    assert len(tries) > 2


def test_U1_a_note_in_the_cache_that_leads_elsewhere_is_not_followed(hub, tmp_path, monkeypatch) -> None:
    folder = tmp_path / "deep" / "hf" / "hub" / "models--org--model"
    (folder / "refs").mkdir(parents=True)
    (folder / "snapshots").mkdir()
    (folder / "refs" / "main").write_text("../../../../../elsewhere")
    os.makedirs(tmp_path / "elsewhere")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadFailed, match="which is no commit"):
        fetch_repo(HubSource(REPO))
