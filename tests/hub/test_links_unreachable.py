"""What the audit of addresses must not call lost, and what it must not call ok."""

import pytest
from hub.fault_server import FaultServer, Status
from hub.one_link import entry, run, verdict
from hub.raw_server import OK, RawServer

from cascadezoo.hub.links import audit

pytestmark = pytest.mark.usefixtures("quick_audit")


PROXIES = {
    "socks5://127.0.0.1:9": "needs PySocks",
    "socks4a://127.0.0.1:9": "needs PySocks",
    "http://127.0.0.1:9": "the proxy: connection refused",
    "http://[": "the address of the proxy cannot be read",
    "nonsense://127.0.0.1:9": "the address of the proxy cannot be read",
}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(("proxy", "said"), PROXIES.items(), ids=PROXIES)
def test_U2_behind_a_proxy_that_does_not_work_nothing_is_dead(
    scheme: str, proxy: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{scheme}_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    found = verdict(entry(f"{scheme}://publisher.test/m.pth"))
    assert (found.state, found.is_loss) == ("unreachable", False)
    assert said in found.detail
    code, _, err = run(monkeypatch, [entry(f"{scheme}://publisher.test/m.pth")])
    assert code == 3
    assert said in err


@pytest.mark.parametrize("answer", ["407 Proxy Authentication Required", "403 Forbidden", "404 Not Found"])
def test_U2_a_proxy_that_refuses_a_tunnel(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    with RawServer(f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n".encode()) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url(""))
        found = verdict(entry("https://publisher.test/m.pth"))
    assert (found.state, found.is_loss) == ("unreachable", False)
    assert f"the proxy: tunnel connection failed: {answer}".lower() in found.detail.lower()


@pytest.mark.parametrize("code", [401, 402, 407, 408, 421, 425, 429, 451, 500, 511])
def test_U2_what_says_nothing_of_the_file_is_no_loss(server: FaultServer, code: int) -> None:
    server.put("/m.pth", b"", redirect=Status(code))  # type: ignore[arg-type]
    found = verdict(entry(server.url("/m.pth")))
    assert (found.state, found.status, found.is_loss) == ("unreachable", code, False)
    assert str(code) in found.detail


@pytest.mark.parametrize("code", [204, 205, 300, 304])
def test_U2_an_answer_without_a_file_is_not_ok(server: FaultServer, code: int) -> None:
    server.put("/m.pth", b"", redirect=Status(code))  # type: ignore[arg-type]
    assert verdict(entry(server.url("/m.pth"))).state == "dead"


@pytest.mark.parametrize(
    "body",
    [
        OK + b"Content-Le",
        b"nonsense\r\n\r\n",
        OK + b"Content-Length: 5, 6\r\n\r\n",
        b"",
    ],
)
def test_U2_a_server_that_talks_nonsense_is_unreachable(body: bytes) -> None:
    with RawServer(body) as server:
        assert verdict(entry(server.url("/m.pth"))).state == "unreachable"


def test_U2_a_redirect_to_what_is_no_address_is_dead() -> None:
    for location in (b"http://[", b"http://", b"http://host:port/"):
        with RawServer(b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n") as server:
            found = verdict(entry(server.url("/m.pth")))
            assert (found.state, found.is_loss) == ("dead", True)
            assert "which is no address" in found.detail


def test_U2_certificates_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file")
    found = verdict(entry("https://127.0.0.1:9/m.pth"))
    assert (found.state, found.is_loss) == ("unreachable", False)
    assert "REQUESTS_CA_BUNDLE names /no/such/file, which is not there" in found.detail


def page(kind: str, body: bytes) -> bytes:
    return OK + f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


PAGES = {
    "text/html": b"<!DOCTYPE html><html></html>",
    "text/html; charset=utf-8": b"\n  <html><body>log in</body></html>",
    "TEXT/HTML": b"\xef\xbb\xbf<html>",
    "application/xhtml+xml": b"<?xml version='1.0'?><html/>",
    "application/xml": b"<Error><Code>AccessDenied</Code></Error>",
    "text/plain": b"<html></html>",
}


@pytest.mark.parametrize(("kind", "body"), PAGES.items(), ids=PAGES)
def test_U2_a_page_in_place_of_weights_is_not_ok(kind: str, body: bytes) -> None:
    with RawServer(page(kind, body)) as server:
        found = verdict(entry(server.url("/m.pth")))
        assert (found.state, found.detail, found.is_loss) == ("changed", "a web page in place of the file", True)
        md5 = audit([entry("./m.pth", md5_url=server.url("/m.md5sum"))])[1]
        assert (md5.state, md5.is_loss) == ("changed", True)


def test_U2_weights_that_a_server_calls_text_are_ok() -> None:
    for kind in ("text/html", "text/plain", "application/json"):
        with RawServer(page(kind, b"\x80\x04\x95" + bytes(600))) as server:
            assert verdict(entry(server.url("/m.pth"))).state == "ok"


def test_U2_a_configuration_may_be_shown_as_a_page() -> None:
    with RawServer(page("text/html", b"<html></html>")) as server:
        config, log = audit([entry("./m.pth", config_url=server.url("/c"), log_url=server.url("/l"))])[1:]
    assert (config.state, log.state) == ("ok", "ok")
