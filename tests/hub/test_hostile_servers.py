"""Answers that no sound server gives: each is one DownloadFailed, within bounds of time, memory and disk."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub.fault_server import FaultServer, Partial, Status, self_signed
from hub.raw_server import OK, Answer, RawServer

from cascadezoo.errors import DownloadFailed, UsageError
from cascadezoo.hub import pace, transport
from cascadezoo.hub.transport import fetch, fetch_text

BODY = b"0123456789"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(transport, "LONGEST_WAIT", 0.01)
    monkeypatch.setattr(transport, "READ_TIMEOUT", 2.0)
    monkeypatch.setattr(transport, "TRIES", 2)
    for name in ("HF_HUB_OFFLINE", "CASCADEZOO_OFFLINE", "CASCADEZOO_MIRROR", "CASCADEZOO_MAX_DOWNLOAD_BYTES"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "parts" / "a.bin"


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


def forever(block: bytes, first: bytes = b"") -> Callable[[], Iterator[bytes]]:
    def blocks() -> Iterator[bytes]:
        yield first
        while True:
            yield block

    return blocks


def left(part: Path) -> list[str]:
    return [path.name for path in part.parent.iterdir()] if part.parent.exists() else []


LOCATIONS = [
    "http://[",
    "http://[::1",
    "http://host:port/",
    "http://host:99999/",
    "http://",
    "http:///a",
    "//",
    "http://..",
]
LOCATIONS += ["http://a..b/", f"http://{'a' * 70}.test/", "http://*/", "http://\x80\xff/", "http://a b/", "http://%zz/"]
LOCATIONS += ["http://user:pass@:80/", "http://xn--a/", "https://[v1.x]/"]


@pytest.mark.parametrize("location", LOCATIONS)
def test_U5_a_location_that_is_no_address(part: Path, location: str) -> None:
    answer = b"HTTP/1.1 302 Found\r\nLocation: " + location.encode("latin-1") + b"\r\nContent-Length: 0\r\n\r\n"
    with RawServer(answer) as server:
        for ask in (lambda: fetch(server.url(), part), lambda: fetch_text(server.url())):
            with pytest.raises(DownloadFailed, match=r"127\.0\.0\.1"):
                ask()
    assert not left(part)


LENGTHS = ["abc", "-5", "+5", "1e3", "0x10", "5, 6", "5.0", "", "9" * 5000, "9" * 19, "1_0", "\xb2", " ", "10 bytes"]


@pytest.mark.parametrize("length", LENGTHS)
def test_U5_a_length_that_is_no_size(part: Path, length: str) -> None:
    with RawServer(OK + b"Content-Length: " + length.encode("latin-1") + b"\r\n\r\n" + BODY) as server:
        for ask in (lambda: fetch(server.url(), part), lambda: fetch_text(server.url())):
            with pytest.raises(DownloadFailed):
                ask()
    assert not left(part)


def test_U5_a_length_given_twice_alike_is_one(part: Path) -> None:
    with RawServer(OK + b"Content-Length: 10, 10\r\n\r\n" + BODY) as server:
        assert fetch(server.url(), part).size == 10


RETRY_AFTER = ["soon", "-1", "9" * 5000, "1e400", "nan", "inf", "\xb3", "Mon, 01 Jan 99999 00:00:00 GMT"]
RETRY_AFTER += ["Mon, 99 Foo 2022 99:99:99 +9999999999", "Mon, 01 Jan 2022 00:00:00 -0000", ", ,", "1, 2", "0 0 0 0 0"]


@pytest.mark.parametrize("value", RETRY_AFTER)
def test_U5_a_pause_that_is_none(server: FaultServer, part: Path, value: str) -> None:
    server.put("/a.bin", BODY, [Status(503, value)])
    assert fetch(server.url("/a.bin"), part).size == 10
    server.put("/a.bin", BODY, [Status(429, value)] * 9)
    with pytest.raises(DownloadFailed, match="429"):
        fetch(server.url("/a.bin"), part.with_name("b"))


CHUNKS = [b"zz\r\n", b"-5\r\n12345\r\n", b"\r\n", b"5", b"f" * 5000, b"5" * 70_000 + b"\r\n"]
CHUNKS += [b"ffffffffffffffffffff\r\n12345", b"5\r\n12345", b"5\r\n123", b"a b\r\n12345"]


@pytest.mark.parametrize("body", CHUNKS, ids=lambda body: repr(body[:20]))
def test_U5_a_chunk_of_no_size(part: Path, body: bytes) -> None:
    with RawServer(OK + b"Transfer-Encoding: chunked\r\n\r\n" + body) as server:
        for ask in (lambda: fetch(server.url(), part), lambda: fetch_text(server.url())):
            with pytest.raises(DownloadFailed, match="2 times in a row"):
                ask()


HEADERS = [
    b"HTTP/1.1 200 OK\r\nContent-Le",
    b"HTTP/1.1 200 OK\r\nETag: 1\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 200 OK",
    b"",
]
HEADERS += [b"HTTP/1.1 200 OK\r\nETag: 1", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n", b"HTTP/1.1 20"]


@pytest.mark.parametrize("answer", HEADERS)
def test_U5_a_connection_that_ends_within_the_headers_is_no_empty_file(part: Path, answer: bytes) -> None:
    with RawServer(answer) as server:
        for ask in (lambda: fetch(server.url(), part), lambda: fetch_text(server.url())):
            with pytest.raises(DownloadFailed, match="2 times in a row"):
                ask()
    assert not left(part)


def test_U5_a_cut_within_the_headers_is_tried_again(part: Path) -> None:
    whole = OK + b"Content-Length: 10\r\n\r\n" + BODY
    with RawServer(OK + b"Content-Le", whole) as server:
        assert fetch(server.url(), part).size == 10
        assert server.connections == 2


def test_U5_a_file_without_a_length_ends_with_its_connection(part: Path) -> None:
    for answer in (OK + b"\r\n" + BODY, b"HTTP/1.0 200 OK\r\n\r\n" + BODY, b"HTTP/1.0 200 OK\n\n" + BODY):
        with RawServer(answer) as server:
            assert fetch(server.url(), part).size == 10
            assert part.read_bytes() == BODY


NONSENSE = [
    b"nonsense",
    b"HTTP/1.1 abc OK\r\n\r\n",
    b"HTTP/9.9\r\n\r\n",
    b"\x16\x03\x01\x02\x00",
    b"<html>not http</html>\n",
]
NONSENSE += [OK + b"A: b\r\n" * 200 + b"\r\n", OK + b"A: " + b"b" * 70_000 + b"\r\n\r\n", OK + b"no colon\r\n\r\n"[:4]]
NONSENSE += [b"HTTP/1.1 99999 OK\r\n\r\n", b"HTTP/1.1 -1 OK\r\n\r\n"]


@pytest.mark.parametrize("answer", NONSENSE, ids=lambda answer: repr(answer[:20]))
def test_U5_what_is_no_answer_at_all(part: Path, answer: bytes) -> None:
    with RawServer(answer) as server:
        for ask in (lambda: fetch(server.url(), part), lambda: fetch_text(server.url())):
            with pytest.raises(DownloadFailed):
                ask()
    assert not left(part)


def test_U5_a_packed_body_that_cannot_be_unpacked(part: Path) -> None:
    with (
        RawServer(OK + b"Content-Encoding: gzip\r\nContent-Length: 10\r\n\r\n" + BODY) as server,
        pytest.raises(DownloadFailed, match="2 times in a row"),
    ):
        fetch(server.url(), part)


@pytest.mark.parametrize("head", [OK + b"\r\n", OK + b"Transfer-Encoding: chunked\r\n\r\n"], ids=["bare", "chunked"])
def test_U5_an_endless_body_is_bounded_by_the_known_size(part: Path, head: bytes) -> None:
    block = b"10000\r\n" + bytes(65536) + b"\r\n" if b"chunked" in head else bytes(65536)
    with RawServer(forever(block, head)) as server:
        with pytest.raises(DownloadFailed, match="beyond 1,000,000 bytes"):
            fetch(server.url(), part, size=1_000_000)
        assert server.connections == 1
    assert not left(part)


def test_U5_an_endless_body_is_bounded_by_the_configured_size(part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCADEZOO_MAX_DOWNLOAD_BYTES", "2000000")
    with (
        RawServer(forever(bytes(65536), OK + b"ETag: 1\r\n\r\n")) as server,
        pytest.raises(DownloadFailed, match=r"beyond 2,000,000 bytes.*CASCADEZOO_MAX_DOWNLOAD_BYTES"),
    ):
        fetch(server.url(), part)
    assert not left(part)
    with (
        RawServer(OK + b"Content-Length: 2000001\r\n\r\n") as server,
        pytest.raises(DownloadFailed, match="beyond 2,000,000 bytes"),
    ):
        fetch(server.url(), part)
    with RawServer(OK + b"Content-Length: 10\r\n\r\n" + BODY) as server:
        assert fetch(server.url(), part).size == 10
        for wrong in ("-1", "0", "many", "9" * 30, "1e9"):
            monkeypatch.setenv("CASCADEZOO_MAX_DOWNLOAD_BYTES", wrong)
            with pytest.raises(UsageError, match="CASCADEZOO_MAX_DOWNLOAD_BYTES"):
                fetch(server.url(), part)


def test_U5_an_endless_packed_body_is_bounded(part: Path) -> None:
    import zlib

    packer = zlib.compressobj(wbits=31)
    first = packer.compress(bytes(10**6)) + packer.flush(zlib.Z_SYNC_FLUSH)
    block = packer.compress(bytes(10**6)) + packer.flush(zlib.Z_SYNC_FLUSH)
    with (
        RawServer(forever(block, OK + b"Content-Encoding: gzip\r\n\r\n" + first)) as server,
        pytest.raises(DownloadFailed, match="beyond 5,000,000 bytes"),
    ):
        fetch(server.url(), part, size=5_000_000)
    assert not left(part)


def test_U5_the_rest_of_a_file_may_not_be_longer_than_the_file(server: FaultServer, part: Path) -> None:
    server.put("/a.bin", bytes(600_000))

    def stop(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(server.url("/a.bin"), part, progress=stop)
    etag, had = str(server.resources["/a.bin"].etag), part.stat().st_size
    headers = {"Content-Range": f"bytes {had}-599999/600000", "ETag": etag}
    server.put("/a.bin", bytes(900_000), [Partial(had, headers)], etag=etag)
    with pytest.raises(DownloadFailed, match="beyond 600,000 bytes"):
        fetch(server.url("/a.bin"), part)
    assert not left(part)


RANGES = ["bytes 9-10/" + "9" * 5000, "bytes " + "9" * 5000 + "-9/9", "bytes x-y/z", "", "bytes */*"]


@pytest.mark.parametrize("value", RANGES, ids=lambda value: value[:20])
def test_U5_a_range_that_is_none_starts_again(server: FaultServer, part: Path, value: str) -> None:
    part.parent.mkdir()
    part.write_bytes(BODY[:5])
    url = server.url("/a.bin")
    part.with_name("a.bin.json").write_text(f'{{"url": "{url}", "etag": "\\"1\\"", "size": 10}}')
    server.put("/a.bin", BODY, [Partial(5, {"Content-Range": value})], etag='"1"')
    assert fetch(url, part).size == 10
    assert part.read_bytes() == BODY


@pytest.mark.parametrize("etag", [b"\x01", b"\xff\xfe", b"x" * 5000, b" "])
def test_U5_an_etag_that_cannot_be_sent_back_is_none(part: Path, etag: bytes) -> None:
    cut = OK + b"ETag: " + etag + b"\r\nContent-Length: 10\r\n\r\n" + BODY[:5]
    with RawServer(cut, OK + b"Content-Length: 10\r\n\r\n" + BODY) as server:
        assert fetch(server.url(), part).size == 10
        assert b"Range" not in server.requests[1]


def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "WINDOW", 0.3)


DRIPS: dict[str, Callable[[], Iterator[bytes]]] = {
    "body": forever(b"x", OK + b"Content-Length: 1000000\r\n\r\n"),
    "body without a length": forever(b"x", OK + b"\r\n"),
    "chunks": forever(b"1\r\nx\r\n", OK + b"Transfer-Encoding: chunked\r\n\r\n"),
    "the size of a chunk": forever(b"0", OK + b"Transfer-Encoding: chunked\r\n\r\n"),
    "trailers": forever(b"a: b\r\n", OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"),
    "headers": forever(b"a", OK),
    "status": forever(b"a", b"HTTP/1.1 "),
    "answers on the way": forever(b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("drip", DRIPS.values(), ids=DRIPS)
def test_U5_what_drips_is_given_up_on(part: Path, drip: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    slow(monkeypatch)
    with RawServer(drip, pause=0.05) as server:
        for ask in (lambda: fetch(server.url(), part), lambda: fetch_text(server.url())):
            with pytest.raises(
                DownloadFailed, match=r"less than 1,024 bytes a second came for 0\.3 s, 2 times in a row"
            ):
                ask()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "answer",
    [
        forever(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
        forever(b"A: b\r\n" * 10_000, b"HTTP/1.1 100 Continue\r\n"),
        forever(b"a: b\r\n" * 10_000, OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"),
    ],
    ids=["answers", "headers", "trailers"],
)
def test_U5_headers_without_end_are_bounded(part: Path, answer: Answer) -> None:
    with RawServer(answer) as server:
        for ask in (lambda: fetch(server.url(), part, size=10), lambda: fetch_text(server.url())):
            with pytest.raises(DownloadFailed, match="2 times in a row"):
                ask()


def test_U5_a_slow_reader_is_no_slow_server(server: FaultServer, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk's time is not the server's."""
    import time

    slow(monkeypatch)
    server.put("/a.bin", bytes(2_000_000))
    fetch(server.url("/a.bin"), part, progress=lambda done, total: time.sleep(0.15))
    assert part.stat().st_size == 2_000_000


def test_U5_certificates_that_are_not_there(part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = self_signed(tmp_path)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("no certificate")
    with FaultServer(certificate) as secure:
        secure.put("/a.bin", BODY)
        for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            for name, said in (("missing", "is not there"), ("empty", "holds no cert"), ("text", "holds no cert")):
                monkeypatch.setenv(variable, str(tmp_path / name))
                for ask in (lambda: fetch(secure.url("/a.bin"), part), lambda: fetch_text(secure.url("/a.bin"))):
                    with pytest.raises(
                        DownloadFailed, match=f"{variable} names .*{name}, which {said}.*correct or unset"
                    ):
                        ask()
            monkeypatch.delenv(variable)
    assert not left(part)


PROXIES = [
    "socks5://127.0.0.1:9",
    "socks5h://127.0.0.1:9",
    "http://127.0.0.1:9",
    "http://",
    "nonsense://127.0.0.1:9",
    "http://[",
    "http://a:b",
]


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_U5_a_proxy_that_is_none(part: Path, proxy: str, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{scheme}_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(DownloadFailed, match=r"(?i)proxy"):
        fetch(f"{scheme}://publisher.test/a.bin", part)


def test_U5_a_proxy_that_wants_a_password(part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    with RawServer(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n") as proxy:
        for scheme in ("http", "https"):
            monkeypatch.setenv(f"{scheme}_proxy", proxy.url(""))
            with pytest.raises(DownloadFailed, match=r"(?i)proxy"):
                fetch(f"{scheme}://publisher.test/a.bin", part)


@pytest.mark.parametrize(("name", "said"), [("missing", "is not there"), ("text", "holds no certificates")])
def test_U5_certificates_of_the_hub_that_are_not_there(
    tmp_path: Path, name: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cascadezoo.hub.huggingface import fetch_repo
    from cascadezoo.hub.sources import HubSource

    (tmp_path / "text").write_text("no certificate")
    monkeypatch.setenv("HF_ENDPOINT", "https://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / name))
    hub_client_anew(monkeypatch)
    with pytest.raises(DownloadFailed, match=f"SSL_CERT_FILE names .*{name}, which {said}"):
        fetch_repo(HubSource("a/b"), None)


def test_U5_a_socks_proxy_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cascadezoo.hub.huggingface import fetch_repo
    from cascadezoo.hub.sources import HubSource

    monkeypatch.setenv("HF_ENDPOINT", "https://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    hub_client_anew(monkeypatch)
    with pytest.raises(DownloadFailed):
        fetch_repo(HubSource("a/b"), None)


def hub_client_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client keeps its session: a new one reads the environment, and goes with the test."""
    from huggingface_hub.utils import close_session

    close_session()
    monkeypatch.setattr("huggingface_hub.utils._http._GLOBAL_CLIENT", None)
