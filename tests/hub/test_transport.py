"""Files over http from a server that misbehaves in every ordinary way."""

import hashlib
import logging
import os
import random
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from hub.fault_server import Cut, FaultServer, Redirect, Reset, Short, Stall, Status, self_signed

from cascadezoo.errors import DownloadFailed, Offline, UnsafeRedirect, UnwritableOutput
from cascadezoo.hub import parts, transport
from cascadezoo.hub.transport import fetch, fetch_text

DATA = random.Random(0).randbytes(1_000_000)
OTHER = random.Random(1).randbytes(1_000_000)
URL = "/host/a.bin"


@pytest.fixture
def server():
    with FaultServer() as server:
        yield server


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(transport, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(transport, "READ_TIMEOUT", 0.4)
    for name in ("HF_HUB_OFFLINE", "CASCADEZOO_OFFLINE", "CASCADEZOO_MIRROR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def part(tmp_path) -> Path:
    return tmp_path / "parts" / "a.bin"


def test_a_whole_file_and_its_hashes(server, part) -> None:
    server.put(URL, DATA)
    seen = []
    got = fetch(server.url(URL), part, md5=True, progress=lambda done, total: seen.append((done, total)))
    assert part.read_bytes() == DATA
    assert (got.path, got.size, got.etag) == (part, 1_000_000, server.resources[URL].etag)
    assert got.sha256 == hashlib.sha256(DATA).hexdigest()
    assert got.md5 == hashlib.md5(DATA).hexdigest()
    assert seen[-1] == (1_000_000, 1_000_000)
    assert fetch(server.url(URL), part.with_name("b")).md5 is None
    assert server.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("faults", "ranges"),
    [
        ([Status(503)], [None, None]),
        ([Status(500), Status(502), Status(504), Status(429), Status(408)], [None] * 6),
        ([Status(501), Status(520), Status(599)], [None] * 4),
        ([Cut(0)], [None, None]),
        ([Cut(600_000)], [None, "bytes=600000-"]),
        ([Cut(600_000), Cut(100_000), Status(503)], [None, "bytes=600000-", "bytes=700000-", "bytes=700000-"]),
        ([Stall(524_288)], [None, "bytes=524288-"]),
    ],
    ids=str,
)
def test_what_breaks_off_goes_on_where_it_stopped(server, part, faults, ranges) -> None:
    server.put(URL, DATA, faults)
    got = fetch(server.url(URL), part)
    assert part.read_bytes() == DATA
    assert got.sha256 == hashlib.sha256(DATA).hexdigest()
    assert server.ranges(URL) == ranges


def test_reset_in_the_middle(server, part) -> None:
    server.put(URL, DATA, [Reset(600_000)])
    assert fetch(server.url(URL), part).sha256 == hashlib.sha256(DATA).hexdigest()
    assert len(server.ranges(URL)) == 2


def test_a_server_without_ranges_sends_everything_again(server, part) -> None:
    server.put(URL, DATA, [Cut(600_000)], ranges=False)
    fetch(server.url(URL), part)
    assert part.read_bytes() == DATA


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_nothing_is_resumed_that_cannot_be_told_from_another_version(server, part, etag) -> None:
    server.put(URL, DATA, [Cut(600_000)], etag=etag)
    fetch(server.url(URL), part)
    assert part.read_bytes() == DATA
    assert server.ranges(URL) == [None, None]


def test_a_date_serves_where_there_is_no_etag(server, part) -> None:
    server.put(URL, DATA, [Cut(600_000)], etag='W/"weak"', last_modified="Sat, 01 Jan 2022 00:00:00 GMT")
    fetch(server.url(URL), part)
    assert part.read_bytes() == DATA
    assert server.requests[-1].headers["if-range"] == "Sat, 01 Jan 2022 00:00:00 GMT"
    assert server.ranges(URL) == [None, "bytes=600000-"]


def interrupted(server, part, after: int = 600_000) -> None:
    """An earlier run got the beginning of DATA."""
    server.put(URL, DATA)

    def stop(done: int, total: int | None) -> None:
        if done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(server.url(URL), part, progress=stop)
    assert DATA.startswith(part.read_bytes())
    assert after <= part.stat().st_size < len(DATA)
    server.requests.clear()


def test_ctrl_c_leaves_what_the_next_run_goes_on_from(server, part) -> None:
    interrupted(server, part)
    had = part.stat().st_size
    got = fetch(server.url(URL), part)
    assert part.read_bytes() == DATA
    assert got.sha256 == hashlib.sha256(DATA).hexdigest()
    assert server.ranges(URL) == [f"bytes={had}-"]


def test_a_whole_part_is_not_fetched_again(server, part) -> None:
    server.put(URL, DATA)
    fetch(server.url(URL), part)
    assert fetch(server.url(URL), part).sha256 == hashlib.sha256(DATA).hexdigest()
    assert len(server.requests) == 1


@pytest.mark.parametrize("checks_if_range", [True, False])
@pytest.mark.parametrize("new", [OTHER, OTHER + b"longer", OTHER[:300_000]], ids=["same", "longer", "shorter"])
def test_a_file_that_changed_upstream_is_never_spliced(server, part, new, checks_if_range) -> None:
    interrupted(server, part)
    server.put(URL, new, checks_if_range=checks_if_range)
    got = fetch(server.url(URL), part)
    assert part.read_bytes() == new
    assert got.sha256 == hashlib.sha256(new).hexdigest()
    assert server.requests[0].headers["if-range"] == f'"{hashlib.sha256(DATA).hexdigest()[:16]}"'


def test_a_part_of_another_url_or_unknown_version_is_dropped(server, part) -> None:
    interrupted(server, part)
    server.put("/host/b.bin", OTHER)
    fetch(server.url("/host/b.bin"), part)
    assert part.read_bytes() == OTHER
    assert server.ranges("/host/b.bin") == [None]

    part.unlink()
    interrupted(server, part)
    part.with_name("a.bin.json").write_text('{"url"')
    fetch(server.url(URL), part)
    assert part.read_bytes() == DATA
    assert server.ranges(URL) == [None]


def test_steady_progress_is_never_given_up_on(server, part, monkeypatch) -> None:
    monkeypatch.setattr(transport, "TRIES", 2)
    server.put(URL, DATA * 4, [Cut(300_000)] * 10)
    fetch(server.url(URL), part)
    assert part.read_bytes() == DATA * 4


def test_a_server_that_never_gets_further_is_given_up_on(server, part, caplog) -> None:
    server.put(URL, DATA, [Cut(600_000), *[Cut(0)] * 20])
    with pytest.raises(DownloadFailed, match=r"6 times in a row; 600,000 bytes are kept, and the next run goes on"):
        fetch(server.url(URL), part)
    assert part.read_bytes() == DATA[:600_000]
    assert len(server.requests) == 6  # the first of them got further
    assert "the connection ended before the file did; trying again in" in caplog.text
    server.put(URL, DATA, [Status(503)] * 20)
    with pytest.raises(DownloadFailed, match="the server answers 503 Service Unavailable, 6 times in a row"):
        fetch(server.url(URL), part.with_name("b"))


def test_waits_grow_with_jitter_and_obey_retry_after(server, part, monkeypatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(transport, "time", SimpleNamespace(sleep=waits.append))
    monkeypatch.setattr(transport, "FIRST_WAIT", 1.0)
    server.put(URL, DATA, [Status(503)] * 5)
    fetch(server.url(URL), part)
    assert all(2**k / 2 <= wait <= 2**k for k, wait in enumerate(waits))
    assert len(waits) == 5

    waits.clear()
    in_30_s = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    asked = ["7", in_30_s, "86400", "soon"]
    server.put(URL, DATA, [Status(429, retry_after) for retry_after in asked])
    fetch(server.url(URL), part.with_name("b"))
    assert waits[0] == 7
    assert 25 < waits[1] <= 30
    assert waits[2] == transport.LONGEST_WAIT
    assert waits[3] <= 8


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
def test_a_refusal_is_final(server, part, code) -> None:
    server.put(URL, DATA, [Status(code)])
    with pytest.raises(DownloadFailed, match=f"the server answers {code} .*CASCADEZOO_MIRROR"):
        fetch(server.url(URL), part)
    assert len(server.requests) == 1


@pytest.mark.parametrize("url", ["http://", "http://a..b/x.jpg", f"http://{'a' * 64}.test/", "https://%zz/"])
def test_U5_a_url_that_is_no_address(part, url) -> None:
    with pytest.raises(DownloadFailed, match=r"is no address on the web: check it, or CASCADEZOO_MIRROR$"):
        fetch(url, part)


def test_no_server_at_all(part) -> None:
    with FaultServer() as gone:
        url = gone.url(URL)
    with pytest.raises(DownloadFailed, match="connection refused, 6 times in a row"):
        fetch(url, part)


def test_no_such_host_is_final(part, monkeypatch, caplog) -> None:
    def getaddrinfo(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(DownloadFailed, match="there is no such host"):
        fetch("https://publisher.test/a.bin", part)
    assert not caplog.text


def test_a_length_that_is_too_short_looks_whole(server, part) -> None:
    """Why a hash, or at least the conversion, must follow: no client can see this."""
    server.put(URL, DATA, [Short(500_000)])
    assert fetch(server.url(URL), part).sha256 == hashlib.sha256(DATA[:500_000]).hexdigest()


@pytest.mark.parametrize("faults", [[], [Cut(600_000)]], ids=["good", "cut"])
@pytest.mark.parametrize("chunked", [False, True])
def test_gzip_on_the_way_is_undone_and_not_resumed(server, part, faults, chunked) -> None:
    server.put(URL, DATA, faults, gzip=True, chunked=chunked)
    got = fetch(server.url(URL), part)
    assert part.read_bytes() == DATA
    assert got.size == len(DATA)
    assert server.ranges(URL) == [None] * (1 + len(faults))


def test_a_length_that_is_not_announced(server, part) -> None:
    server.put(URL, DATA, [Cut(600_000)], chunked=True)
    fetch(server.url(URL), part)
    assert part.read_bytes() == DATA
    assert len(server.ranges(URL)) == 2
    fetch(server.url(URL), part)  # killed before the file was moved away
    assert len(server.ranges(URL)) == 2


def test_redirects_are_followed(server, part) -> None:
    server.put("/moved", b"", redirect=Redirect("/host/again", 301))
    server.put("/host/again", b"", redirect=Redirect(server.url(URL), 307))
    server.put(URL, DATA, [Cut(600_000)])
    fetch(server.url("/moved"), part)
    assert part.read_bytes() == DATA
    assert server.ranges(URL) == [None, "bytes=600000-"]


def test_redirects_in_a_circle_end(server, part) -> None:
    server.put("/a", b"", redirect=Redirect("/b"))
    server.put("/b", b"", redirect=Redirect("/a"))
    with pytest.raises(UnsafeRedirect, match="more than 10 times"):
        fetch(server.url("/a"), part)
    assert len(server.requests) == 11


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/a", "file:///etc/passwd"])
def test_redirects_lead_to_http_only(server, part, location) -> None:
    server.put(URL, b"", redirect=Redirect(location))
    with pytest.raises(UnsafeRedirect, match="not https or http"):
        fetch(server.url(URL), part)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return self_signed(tmp_path_factory.mktemp("tls"))


def test_https_with_a_certificate_of_ones_own_never_leads_to_http(server, part, certificate, monkeypatch) -> None:
    server.put(URL, DATA)
    with FaultServer(certificate) as secure:
        secure.put(URL, DATA)
        secure.put("/https", b"", redirect=Redirect(secure.url(URL)))
        secure.put("/http", b"", redirect=Redirect(server.url(URL)))
        with pytest.raises(DownloadFailed, match=r"certificate is not trusted.*REQUESTS_CA_BUNDLE"):
            fetch(secure.url(URL), part)
        assert not secure.requests

        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
        fetch(secure.url("/https"), part)
        assert part.read_bytes() == DATA
        with pytest.raises(UnsafeRedirect, match="which is not https"):
            fetch(secure.url("/http"), part.with_name("b"))
        assert not server.requests

        server.put("/up", b"", redirect=Redirect(secure.url(URL)))  # the other way is welcome
        fetch(server.url("/up"), part.with_name("c"))


def test_a_proxy_is_asked_where_one_is_set(server, part, monkeypatch) -> None:
    monkeypatch.setenv("http_proxy", server.url())
    monkeypatch.delenv("no_proxy", raising=False)
    server.put("http://publisher.test/a.bin", DATA)
    fetch("http://publisher.test/a.bin", part)
    assert part.read_bytes() == DATA


def test_a_full_disk_is_seen_before_the_download(server, part, monkeypatch) -> None:
    server.put(URL, DATA)
    monkeypatch.setattr(parts.shutil, "disk_usage", lambda path: SimpleNamespace(free=999_999))
    with pytest.raises(UnwritableOutput, match=r"needs 1,000,000 bytes more, and .* has 999,999 left"):
        fetch(server.url(URL), part)
    assert not list(part.parent.iterdir())  # what holds nothing is not left


def test_a_disk_that_fills_up_keeps_what_arrived(server, part) -> None:
    """A limit on file sizes stands in for the disk: 700,000 bytes, of which the last block does not fit whole."""
    server.put(URL, DATA)
    code = (
        "import resource, sys; from pathlib import Path; from cascadezoo.hub.transport import fetch\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, 700_000))\n"
        "fetch(sys.argv[1], Path(sys.argv[2]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, server.url(URL), str(part)], capture_output=True, text=True, check=False
    )
    assert "UnwritableOutput: " in done.stderr
    assert "cannot be written" in done.stderr
    assert 0 < part.stat().st_size <= 700_000
    fetch(server.url(URL), part)
    assert part.read_bytes() == DATA
    assert server.ranges(URL)[1] is not None


def test_a_folder_that_cannot_be_written(server, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    server.put(URL, DATA)
    with pytest.raises(UnwritableOutput, match="cannot be written"):
        fetch(server.url(URL), tmp_path / "file" / "a.bin")


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "CASCADEZOO_OFFLINE"])
def test_offline_asks_nobody(server, part, monkeypatch, name) -> None:
    monkeypatch.setenv(name, "1")
    server.put(URL, DATA)
    for ask in (lambda: fetch(server.url(URL), part), lambda: fetch_text(server.url(URL))):
        with pytest.raises(Offline, match=name):
            ask()
    assert not server.requests


def test_small_texts(server, caplog) -> None:
    caplog.set_level(logging.ERROR)
    server.put("/t", b"0123 name\n", [Status(503), Cut(3)])
    assert fetch_text(server.url("/t")) == "0123 name\n"
    assert fetch_text(server.url("/nothing")) is None
    server.put("/forbidden", b"", [Status(403)])  # so S3 says that a file is not there
    assert fetch_text(server.url("/forbidden")) is None
    server.put("/page", DATA)
    with pytest.raises(DownloadFailed, match="no small text file"):
        fetch_text(server.url("/page"))
    server.put("/t", b"", [Status(503)] * 6)
    with pytest.raises(DownloadFailed, match="6 times in a row"):
        fetch_text(server.url("/t"))


def test_memory_does_not_grow_with_the_file(server, tmp_path) -> None:
    code = (
        "import sys; from pathlib import Path; from cascadezoo.hub.transport import fetch\n"
        "fetch(sys.argv[1], Path(sys.argv[2]))\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )

    def peak(size: int) -> int:
        server.put(URL, DATA * size)
        command = [sys.executable, "-c", code, server.url(URL), str(tmp_path / str(size))]
        return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)

    assert abs(peak(150) - peak(5)) < 8 * 1024  # KiB: twenty blocks, or noise, but not 145 MB
    os.truncate(tmp_path / "150", 0)
