"""Which answers to a request for the rest of a file are taken for it: any other would splice two files."""

import hashlib
import random
from pathlib import Path

import pytest
from hub.fault_server import Cut, FaultServer, Partial

from cascadezoo.errors import DownloadFailed
from cascadezoo.hub import transport
from cascadezoo.hub.transport import fetch

DATA = random.Random(0).randbytes(1_000_000)
URL = "/host/a.bin"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(transport, "FIRST_WAIT", 0.001)
    for name in ("HF_HUB_OFFLINE", "CASCADEZOO_OFFLINE", "CASCADEZOO_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    with FaultServer() as server:
        yield server


@pytest.fixture
def part(tmp_path) -> Path:
    return tmp_path / "parts" / "a.bin"


RANGE = "bytes 600000-999999/1000000"


@pytest.mark.parametrize(
    ("start", "headers"),
    [
        (0, {"Content-Range": "bytes 0-999999/1000000"}),
        (599_999, {"Content-Range": "bytes 599999-999999/1000000"}),
        (600_001, {"Content-Range": "bytes 600001-999999/1000000"}),
        (600_000, {"Content-Range": "bytes 600000-999999/1000001"}),  # the whole has another size
        (600_000, {"Content-Range": "bytes 600000-999998/999999"}),
        (600_000, {"Content-Range": "bytes */1000000"}),
        (600_000, {"Content-Range": "600000-999999/1000000"}),
        (600_000, {"Content-Range": f"{RANGE}, bytes"}),
        (600_000, {"Content-Range": RANGE, "ETag": '"other"'}),
        (600_000, {"Content-Range": RANGE, "ETag": '"e"', "Last-Modified": "Sun, 02 Jan 2022 00:00:00 GMT"}),
        (600_000, {"Content-Range": RANGE, "Content-Encoding": "gzip"}),
        (600_000, {}),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else ",".join(value.values()) or "no headers",
)
def test_a_partial_answer_that_does_not_go_on_where_the_part_ends_is_refused(server, part, start, headers) -> None:
    modified = "Sat, 01 Jan 2022 00:00:00 GMT"
    server.put(URL, DATA, [Cut(600_000), Partial(start, headers)], etag='"e"', last_modified=modified)
    got = fetch(server.url(URL), part)
    assert server.ranges(URL) == [None, "bytes=600000-", None]  # refused, and everything asked for anew
    assert part.read_bytes() == DATA
    assert got.sha256 == hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": RANGE},
        {"Content-Range": "bytes 600000-999999/*"},
        {"Content-Range": RANGE, "ETag": '"e"', "Last-Modified": "Sat, 01 Jan 2022 00:00:00 GMT"},
    ],
    ids=["bare", "size not told", "same version"],
)
def test_a_partial_answer_that_goes_on_is_taken(server, part, headers) -> None:
    modified = "Sat, 01 Jan 2022 00:00:00 GMT"
    server.put(URL, DATA, [Cut(600_000), Partial(600_000, headers)], etag='"e"', last_modified=modified)
    got = fetch(server.url(URL), part)
    assert server.ranges(URL) == [None, "bytes=600000-"]
    assert part.read_bytes() == DATA
    assert got.size == 1_000_000


def test_a_range_that_is_refused_is_no_partial_answer(server, part) -> None:
    """Whatever its headers claim: an answer 416 carries a page, not the file."""
    server.put(URL, DATA, [Cut(600_000), Partial(0, {"Content-Range": RANGE}, code=416)])
    fetch(server.url(URL), part)
    assert part.read_bytes() == DATA
    assert server.ranges(URL) == [None, "bytes=600000-", None]


def test_a_partial_answer_that_nobody_asked_for_is_refused(server, part) -> None:
    server.put(URL, DATA, [Partial(0, {"Content-Range": "bytes 0-999999/1000000"})])
    with pytest.raises(DownloadFailed, match="the server answers 206"):
        fetch(server.url(URL), part)
    assert len(server.requests) == 1
