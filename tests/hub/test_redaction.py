"""No password, token or signature is printed or kept, wherever an address becomes text."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hub.fake_hub import FakeHub, FakeRepo, Sent
from hub.fault_server import Cut, FaultServer, Redirect, Status
from hub.publishing import canonical_file, shrink, use_hub
from hub.standin import PATH, URL, variant

from cascadezoo.errors import CascadezooError, UsageError
from cascadezoo.hub import download, links, transport
from cascadezoo.hub.huggingface import HubSource, canonical_from_hub, fetch_repo
from cascadezoo.hub.mirror import mirrored
from cascadezoo.hub.parts import move
from cascadezoo.hub.redaction import redacted, scrubbed, without_secrets
from cascadezoo.publishing.publish import publish

SECRET = "S3cret-Word"
DATA = bytes(range(256)) * 2000


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/a/b.pth", "https://host/a/b.pth"),
        ("http://host:80/a@b", "http://host:80/a@b"),
        ("https://user:word@host/a", "https://…@host/a"),
        ("https://token@host:443", "https://…@host:443"),
        ("https://user:wo@rd@host/a", "https://…@host/a"),
        ("user:word@host/a", "…@host/a"),
        ("ftp://user:word@host", "ftp://…@host"),
        ("https://host/a?X-Amz-Signature=1&b=2", "https://host/a?…"),
        ("https://host/a#token=1", "https://host/a#…"),
        ("https://user:word@host/a?b#c", "https://…@host/a?…"),
        ("/a/folder", "/a/folder"),
    ],
)
def test_U3_an_address_as_text(url: str, shown: str) -> None:
    assert redacted(url) == shown
    assert without_secrets(f"no: {url}") == f"no: {shown}" or "://" not in url


def test_U3_messages_of_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    told = "HTTPConnectionPool(host='h', port=80): Max retries exceeded with url: /a?token=1 (Caused by X('y'))"
    assert without_secrets(told) == (
        "HTTPConnectionPool(host='h', port=80): Max retries exceeded with url: /a?… (Caused by X('y'))"
    )
    assert without_secrets("Authorization: Bearer abc.def, Basic eA==") == "Authorization: Bearer … Basic …"
    assert without_secrets(f"hf_{'a' * 34} is no token") == "… is no token"
    assert without_secrets("what? a=b, or hf_hub_download") == "what? a=b, or hf_hub_download"
    monkeypatch.setenv("HF_TOKEN", "my-token")
    monkeypatch.setenv("https_proxy", "http://user:p%40ss/word@proxy:80")
    assert without_secrets("my-token, p%40ss/word, p@ss/word, p%2540ss/word") == "…, …, …, …"


def text_of(error: BaseException | None) -> str:
    """All text of an error and of what caused it, in either way."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and one not in seen:
            seen.append(one)
            waiting += [one.__cause__, one.__context__, *(each for each in one.args if isinstance(each, BaseException))]
    return " ".join(f"{one} {one!r}" for one in seen)


def test_U3_causes_are_scrubbed_in_place() -> None:
    inner = OSError(5, f"no https://user:{SECRET}@host")
    middle = ValueError(f"https://host?key={SECRET}", inner)
    outer = RuntimeError(3)
    outer.__context__ = middle
    assert scrubbed(outer) is outer
    assert SECRET not in text_of(outer)
    assert "https://…@host" in text_of(outer)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(transport, "FIRST_WAIT", 0.001)
    monkeypatch.setenv("CASCADEZOO_HOME", str(tmp_path / "home"))
    for name in ("HTTP_PROXY", "http_proxy", "HF_HUB_OFFLINE", "CASCADEZOO_OFFLINE", "CASCADEZOO_MIRROR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


def secret_url(server: FaultServer, path: str = "") -> str:
    return server.url(path).replace("://", f"://user:{SECRET}@")


def kept(folder: Path) -> str:
    """The content of every file, and its name."""
    return "".join(f"{path} {path.read_bytes()!r}" for path in folder.rglob("*") if path.is_file())


PLACES: dict[str, list[Any]] = {
    "a retry": [Status(503)],
    "no luck": [Status(503)] * 6,
    "a refusal": [Status(404)],
    "a cut connection": [Cut(300_000)] + [Cut(0)] * 6,
    "another kind of address": [Redirect(f"ftp://user:{SECRET}@host/?sig={SECRET}")],
    "a circle": [Redirect(f"?token={SECRET}")] * 12,
    "no host": [Redirect(f"http://user:{SECRET}@nowhere.invalid/?sig={SECRET}")],
    "no server": [Redirect(f"http://user:{SECRET}@127.0.0.1:9/?sig={SECRET}")] * 6,
    "no address": [Redirect(f"http://user:{SECRET}@[::/?sig={SECRET}")],
    "no port": [Redirect(f"http://user:{SECRET}@127.0.0.1:99999999/?sig={SECRET}")],
}


@pytest.mark.parametrize("place", PLACES)
def test_U3_a_mirrors_password_is_in_no_message_and_no_file(server, tmp_path, caplog, monkeypatch, place: str) -> None:
    server.put(PATH, DATA, PLACES[place])
    server.put(f"{PATH}?token={SECRET}", DATA, redirect=Redirect(f"?token={SECRET}"))
    monkeypatch.setenv("CASCADEZOO_MIRROR", secret_url(server))
    entry = variant(md5_url=None, sha256=None, sha256_prefix=None, size=None)
    error: BaseException | None = None
    caplog.set_level(logging.WARNING)
    try:
        download.fetch_original(entry)
    except CascadezooError as caught:
        error = caught
    assert (error is None) == (place == "a retry")
    assert error is None or "127.0.0.1" in str(error)
    assert SECRET not in caplog.text
    assert SECRET not in text_of(error)
    assert SECRET not in kept(tmp_path)
    assert server.requests[0].headers["authorization"].startswith("Basic ")  # it was used all the same


def test_U3_a_part_and_its_note_are_for_their_owner_and_go_on_with_another_password(server, tmp_path) -> None:
    server.put("/a.bin", DATA, [Cut(300_000)] + [Cut(0)] * 6)
    part = tmp_path / "parts" / "a.bin"
    with pytest.raises(CascadezooError):
        transport.fetch(secret_url(server, "/a.bin"), part)
    note = part.with_name("a.bin.json")
    assert [path.stat().st_mode & 0o777 for path in (part, note)] == [0o600, 0o600]
    assert "://…@127.0.0.1" in note.read_text()
    got = transport.fetch(secret_url(server, "/a.bin").replace(SECRET, "other"), part)
    assert server.ranges("/a.bin")[-1] == "bytes=300000-"
    assert part.read_bytes() == DATA
    assert got.url == server.url("/a.bin").replace("://", "://…@")
    target = tmp_path / "open" / "a.bin"
    target.parent.mkdir(mode=0o755)
    move(part, target)
    assert target.stat().st_mode & 0o777 == 0o644


def test_U3_other_sentences_of_a_download(server, tmp_path, caplog, monkeypatch) -> None:
    """No room, a wrong file, no md5, a long text, and a mirror that is none."""
    told = []

    def tell(call: Callable[[], object]) -> None:
        with pytest.raises(CascadezooError) as caught:
            call()
        told.append(text_of(caught.value))

    monkeypatch.setenv("CASCADEZOO_MIRROR", secret_url(server))
    server.put(PATH, DATA)
    tell(lambda: download.fetch_original(variant(size=5, md5_url=None)))
    md5 = f"{URL}.md5sum"
    server.put(f"{PATH}.md5sum", b"none")
    tell(lambda: download.fetch_original(variant(md5_url=md5, sha256=None, sha256_prefix=None)))
    server.put("/long", DATA)
    tell(lambda: transport.fetch_text(secret_url(server, "/long")))
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 5})())
    tell(lambda: transport.fetch(secret_url(server, "/long"), tmp_path / "long"))
    monkeypatch.setenv("CASCADEZOO_OFFLINE", "1")
    tell(lambda: transport.fetch(secret_url(server, "/long"), tmp_path / "long"))
    for mirror in (f"ftp://user:{SECRET}@host", f"user:{SECRET}@host/x?key={SECRET}"):
        monkeypatch.setenv("CASCADEZOO_MIRROR", mirror)
        tell(lambda: mirrored(URL))
    assert len(told) == 7
    assert SECRET not in "".join(told) + caplog.text + kept(tmp_path)


@pytest.mark.parametrize(
    "proxy", [f"http://user:{SECRET}@127.0.0.1:9", f"http://user:{SECRET}@bad host", f"x:{SECRET}@"]
)
def test_U3_a_proxys_password_is_in_no_message(tmp_path, caplog, monkeypatch, proxy: str) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, proxy)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    told = ""
    calls = (
        lambda: transport.fetch("http://example.invalid/a", tmp_path / "a"),
        lambda: fetch_repo(HubSource("org/model")),
        lambda: print(links.audit([variant(md5_url=None, size=None)])),
    )
    use_hub(monkeypatch, type("Hub", (), {"url": "http://example.invalid"})(), tmp_path / "hf")
    from huggingface_hub.utils import close_session

    close_session()  # a session reads the proxies once
    for call in calls:
        try:
            call()
        except CascadezooError as error:
            told += text_of(error)
    close_session()
    assert told
    assert SECRET not in told + caplog.text


def test_U3_signatures_of_storage_hosts_are_in_no_verdict_on_a_link(server, monkeypatch) -> None:
    monkeypatch.setattr(links, "PAUSE", 0.0)
    signed = f"/store?X-Amz-Signature={SECRET}"
    server.put("/old.pth", b"", redirect=Redirect(server.url(signed).replace("://", f"://user:{SECRET}@"), 301))
    server.put(signed, b"12345")
    entry = variant(checkpoint_url=server.url("/old.pth"), md5_url=None, size=None, sha256=None, sha256_prefix=None)
    (found,) = (each for each in links.audit([entry]) if each.url.endswith("old.pth"))
    assert found.state == "moved"
    assert found.final_url == server.url("/store?…").replace("://", "://…@")
    assert SECRET not in repr(found)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub whose endpoint has a password."""
    with FakeHub() as running:
        use_hub(monkeypatch, running, tmp_path / "hf", f"hf_{SECRET}")
        monkeypatch.setenv("HF_ENDPOINT", running.url.replace("://", f"://user:{SECRET}@"))
        repo = FakeRepo()
        repo.commit("main", {"config.json": b"{}", "model.safetensors": b"{}"}, "by hand")
        running.repos["org/model"] = repo
        yield running


def broken(hub: FakeHub) -> None:
    hub.broken = True


def gone(hub: FakeHub) -> None:
    hub.repos.clear()


def gated(hub: FakeHub) -> None:
    hub.repos["org/model"].gated = True


def not_a_hub(hub: FakeHub) -> None:
    hub.spoof = lambda method, path, sent: (200, b"{}", {"Content-Length": "2"})


def no_commit(hub: FakeHub) -> None:
    hub.repos["org/model"] = FakeRepo(commits={"../x": {}}, branches={"main": "../x"})


def signed(hub: FakeHub) -> None:
    """The file lies at a storage host that hangs up."""

    def spoof(method: str, path: str, sent: Sent) -> Sent:
        status, body, headers = sent
        if status == 302:
            headers = {**headers, "Location": f"http://user:{SECRET}@127.0.0.1:9/x?sig={SECRET}"}
        return status, body, headers

    hub.spoof = spoof


@pytest.mark.parametrize("fault", [broken, gone, gated, not_a_hub, no_commit, signed], ids=lambda fault: fault.__name__)
def test_U3_a_hubs_password_and_token_are_in_no_message_and_no_file(hub, tmp_path, caplog, monkeypatch, fault) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    fault(hub)
    with pytest.raises(CascadezooError) as caught:
        fetch_repo(HubSource("org/model"))
    assert SECRET not in text_of(caught.value) + caplog.text + kept(tmp_path)


def test_U3_a_hubs_password_is_on_no_page(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "faster_r50_fpn_1x.detectron"
    shrink(monkeypatch, name)
    done = publish(name, "org/other", weights=canonical_file(tmp_path, name), dry_run=True)
    assert done.url.endswith("/org/other")
    assert SECRET not in done.to_json()
    monkeypatch.setenv("CASCADEZOO_HUB", f"https://user:{SECRET}@host")
    with pytest.raises(UsageError) as caught:
        canonical_from_hub(variant(), os.environ["CASCADEZOO_HUB"])
    assert SECRET not in str(caught.value)
