"""What a server does with clients that hold a connection, and with the requests that its end finds."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
import requests
from fastapi import FastAPI, Response

from cascadezoo.errors import MissingResource, UsageError
from cascadezoo.serving import server
from cascadezoo.serving.server import address, bound, run
from cascadezoo.serving.settings import Settings

pytestmark = pytest.mark.serve
LIMIT, LARGE = 1.0, 40_000_000  # seconds of a connection; bytes that no buffer of a connection holds


def application() -> FastAPI:
    app, come = FastAPI(), asyncio.Event()

    @app.get("/")
    async def short() -> str:
        return "short"

    @app.get("/large")
    async def large() -> Response:
        return Response(b"a" * LARGE)

    @app.get("/endless")
    async def endless() -> None:
        come.set()
        await asyncio.sleep(600)

    @app.get("/slow")
    async def slow() -> str:
        come.set()
        await asyncio.sleep(1.5)
        return "slow"

    @app.get("/come")
    async def endless_has_come() -> bool:
        return come.is_set()

    return app


def served(client: Callable[[str], object], numbers: tuple[int, ...] = (signal.SIGTERM,)) -> tuple[bool, object]:
    """What ``run`` and a client of its server return; the signals come when the client is done."""
    opened = bound("127.0.0.1", 0)

    def use() -> object:
        try:
            return client(address(opened))
        finally:
            for number in numbers:
                os.kill(os.getpid(), number)
                time.sleep(0.3)

    with opened, ThreadPoolExecutor(1) as thread:
        futures = []
        app = SimpleNamespace(asgi=application(), settings=Settings(body_seconds=LIMIT))
        answered = run(app, opened, lambda: futures.append(thread.submit(use)))
        return answered, futures[0].result(30)


def connected(url: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=20)


def seconds_until_closed(client: socket.socket, dribble: bytes = b"") -> float:
    """Until the server closes a connection, on which these bytes come one at a time."""
    start = time.perf_counter()
    pieces = iter(dribble)
    client.settimeout(0.05)
    while time.perf_counter() - start < 10:
        try:
            if (piece := next(pieces, None)) is not None:
                client.sendall(bytes([piece]))
            if not client.recv(1_000_000):
                break
        except TimeoutError:
            pass
        except ConnectionError:
            break
    return time.perf_counter() - start


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_a_connection_without_a_whole_header_is_closed(sent: bytes) -> None:
    def client(url: str) -> float:
        with connected(url) as held:
            held.sendall(sent)
            return seconds_until_closed(held, b"X-Slow: " + b"a" * 1000 if sent.endswith(b"\n") else b"")

    answered, seconds = served(client)
    assert answered
    assert LIMIT - 0.1 <= seconds < 5


def test_so_is_one_whose_next_header_does_not_come_but_not_one_that_is_used() -> None:
    def client(url: str) -> tuple[int, float]:
        with connected(url) as held:
            answers = 0
            for _ in range(6):
                held.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                answer = b""
                while not answer.endswith(b'"short"'):
                    answer += held.recv(10_000)
                answers += 1
                time.sleep(LIMIT / 4)
            held.sendall(b"GET / HT")
            return answers, seconds_until_closed(held)

    _, (answers, seconds) = served(client)
    assert answers == 6
    assert seconds < 5


def test_what_follows_a_refused_body_is_read_no_longer() -> None:
    def client(url: str) -> float:
        with connected(url) as held:
            held.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900000000\r\n\r\n")
            assert held.recv(10_000).startswith(b"HTTP/1.1 405")
            return seconds_until_closed(held, b"a" * 1000)

    assert LIMIT - 0.1 <= served(client)[1] < 5


def test_an_answer_that_is_not_taken_is_dropped() -> None:
    def client(url: str) -> int:
        with connected(url) as held:
            held.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            time.sleep(2 * LIMIT)
            taken = 0
            try:
                while piece := held.recv(1_000_000):
                    taken += len(piece)
            except ConnectionError:
                pass
            return taken

    start = time.perf_counter()
    _, taken = served(client)
    assert 0 < taken < LARGE
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize("numbers", [(signal.SIGTERM,), (signal.SIGINT, signal.SIGINT)])
def test_requests_that_the_end_cuts_off_are_told_so_and_are_not_called_answered(monkeypatch, numbers) -> None:
    monkeypatch.setattr(server, "_GRACE", 1 if len(numbers) == 1 else 120)
    with ThreadPoolExecutor(1) as thread:
        waiting = []

        def client(url: str) -> None:
            waiting.append(thread.submit(requests.get, f"{url}/endless", timeout=30))
            while not requests.get(f"{url}/come", timeout=30).json():
                time.sleep(0.05)

        start = time.perf_counter()
        assert served(client, numbers) == (False, None)
        assert time.perf_counter() - start < 30
        refusal = waiting[0].result(30)
    assert (refusal.status_code, refusal.headers["connection"]) == (503, "close")
    assert refusal.json() == {
        "error": "the server ends before this is answered",
        "request_id": refusal.headers["x-request-id"],
    }


def test_while_it_ends_answers_say_that_the_connection_does() -> None:
    with ThreadPoolExecutor(1) as thread:
        waiting = []

        def client(url: str) -> requests.Response:
            waiting.append(thread.submit(requests.get, f"{url}/slow", timeout=30))
            while not requests.get(f"{url}/come", timeout=30).json():
                time.sleep(0.05)
            return requests.get(url, timeout=30)

        answered, before = served(client)
        last = waiting[0].result(30)
    assert answered
    assert "connection" not in before.headers
    assert (last.json(), last.headers["connection"]) == ("slow", "close")


def test_what_keeps_it_from_starting_is_raised_and_is_no_traceback(caplog) -> None:
    @asynccontextmanager
    async def failing(_: FastAPI) -> AsyncIterator[None]:
        raise MissingResource("no threads")
        yield

    app = SimpleNamespace(asgi=FastAPI(lifespan=failing), settings=Settings())
    with bound("127.0.0.1", 0) as opened, pytest.raises(MissingResource, match=r"^no threads$"):
        run(app, opened, lambda: None)
    assert "Traceback" not in caplog.text


def test_who_asks_for_a_websocket_is_answered_and_the_log_has_no_advice(caplog) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    _, answer = served(lambda url: requests.get(url, headers=upgrade, timeout=30))
    assert answer.json() == "short"
    assert [record for record in caplog.records if record.name != "cascadezoo"] == []


def test_a_port_that_another_took_while_the_model_was_loaded_is_said() -> None:
    app = SimpleNamespace(asgi=application(), settings=Settings())
    with bound("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        words = rf"^cannot listen on port {port} of 127\.0\.0\.1 \(Address already in use\): give another --port"
        with bound("127.0.0.1", port) as second:  # as long as neither listens
            first.listen()
            with pytest.raises(UsageError, match=words):
                run(app, second, lambda: pytest.fail("nobody can connect"))


@pytest.mark.parametrize("host", ["a..b", "a" * 64, "\udce9", "256.0.0.1"])
def test_what_is_no_host_is_said(host: str) -> None:
    with pytest.raises(UsageError, match=r"^cannot listen on port 80 of "):
        bound(host, 80)
