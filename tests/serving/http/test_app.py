"""The routes called as a server of ASGI calls them, over a model that fails when it is told to."""

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from python_multipart.exceptions import MultipartParseError

from cascadezoo.detections import Detections
from cascadezoo.errors import OutOfMemory
from cascadezoo.images import Pixels
from cascadezoo.serving.app import App
from cascadezoo.serving.request_log import RequestLog
from cascadezoo.serving.settings import Settings

from served import image, png

pytestmark = pytest.mark.serve


Answer = tuple[int, dict, bytes]  # status, headers and body


def size(image: Pixels) -> tuple[int, ...]:
    return image.shape[:2]


def models(work: Callable[[Sequence[Pixels]], list[Detections]], padded: Callable = size) -> SimpleNamespace:
    """In place of ``Models``."""
    return SimpleNamespace(facts={"name": "fake"}, workers=[None], works=lambda: [work], padded=padded)


def nothing(images: Sequence[Pixels]) -> list[Detections]:
    empty = torch.zeros(0)
    return [Detections(torch.zeros(0, 4), empty, empty.long(), each.shape[:2]) for each in images]


def never(images: Sequence[Pixels]) -> list[Detections]:
    pytest.fail("detected on")


def call(
    work: Callable,
    bodies: Sequence[bytes | None],
    settings: Settings | None = None,
    kind: bytes = b"image/png",
    query: bytes = b"",
    padded: Callable = size,
) -> Answer:
    """The answer to a POST in these pieces; None: the client sends nothing more."""
    app = App(models(work, padded), settings or Settings())

    async def main() -> Answer:
        async with app.asgi.router.lifespan_context(app.asgi):
            return await asked(RequestLog(app.asgi), "POST", "/predict", bodies, kind, query)

    return asyncio.run(main())


def answers(app: App, requests: Sequence[tuple[str, str]], body: bytes) -> list[Answer]:
    """The answers to requests by method and path, one after the other."""

    async def main() -> list[Answer]:
        async with app.asgi.router.lifespan_context(app.asgi):
            return [await asked(RequestLog(app.asgi), method, path, [body]) for method, path in requests]

    return asyncio.run(main())


async def asked(
    log: RequestLog,
    method: str,
    path: str,
    bodies: Sequence[bytes | None],
    kind: bytes = b"image/png",
    query: bytes = b"",
) -> Answer:
    pieces, sent = list(bodies), []

    async def receive() -> dict:
        if pieces and pieces[0] is not None:
            body = pieces.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(pieces)}
        return await asyncio.Future()

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
        "raw_path": path.encode(), "root_path": "", "scheme": "http", "query_string": query, "client": ("test", 1),
        "server": ("test", 2), "headers": [(b"content-type", kind), (b"x-request-id", b"mine")],
    }  # fmt: skip
    await log(scope, receive, send)
    start, *rest = sent
    return start["status"], dict(start["headers"]), b"".join(each.get("body", b"") for each in rest)


def test_an_image_without_anything_has_no_annotations() -> None:
    status, headers, body = call(nothing, [png(image(0))])
    assert (status, headers[b"x-request-id"]) == (200, b"mine")
    assert json.loads(body)["annotations"] == []


def test_an_unexpected_error_is_described_in_the_log_alone(caplog) -> None:
    def broken(images: Sequence[Pixels]) -> list[Detections]:
        raise RuntimeError("a secret of the server")

    with caplog.at_level(logging.INFO, "cascadezoo"):
        status, headers, body = call(broken, [png(image(0))])
    assert (status, headers[b"x-request-id"]) == (500, b"mine")
    assert json.loads(body) == {
        "error": "an unexpected error, which the server's log describes under this request_id",
        "request_id": "mine",
    }
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == "mine: an unexpected error"
    assert "a secret of the server" in str(record.exc_info[1])
    assert "mine POST /predict 500" in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemory("no room"),
        MemoryError("std::bad_alloc"),
        RuntimeError("could not create a primitive"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
)
@pytest.mark.parametrize("where", ["worker", "padded", "decoded", "answer", "received"])
def test_want_of_memory_is_a_reason_to_try_again(monkeypatch, caplog, where: str, error: Exception) -> None:
    def full(*_: object) -> object:
        raise error

    if where in ("decoded", "answer", "received"):
        monkeypatch.setattr(f"cascadezoo.serving.app.{where}", full)
    padded = full if where == "padded" else size
    status, headers, body = call(full if where == "worker" else nothing, [png(image(0))], padded=padded)
    assert (status, headers[b"retry-after"]) == (503, b"1")
    assert json.loads(body)["error"] == "the server has no memory for this image now"
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.getMessage() == f"mine: no memory: {error}"
    assert record.exc_info is None


def test_a_decoder_without_memory_is_no_damaged_image(monkeypatch) -> None:
    def full(*_: object) -> None:
        cv2.resize(np.zeros((1, 1), np.uint8), (2**31 - 1, 2**20))

    monkeypatch.setattr(cv2, "imdecode", full)
    status, _, body = call(nothing, [png(image(0))])
    assert (status, json.loads(body)["error"]) == (503, "the server has no memory for this image now")


def test_a_side_that_no_jpeg_has_is_refused_before_it_is_detected_on() -> None:
    wide = png(np.zeros((2, 65_501, 3), np.uint8))
    status, _, body = call(never, [wide], query=b"format=jpeg")
    assert status == 422
    words = "the image has 65501 x 2 pixels, and no side of a JPEG more than 65,500: ask for format=png"
    assert json.loads(body)["error"] == words
    assert call(nothing, [png(np.zeros((2, 65_500, 3), np.uint8))], query=b"format=jpeg")[0] == 200
    assert call(nothing, [wide], query=b"format=png")[0] == 200


def test_a_lost_worker_is_told_to_its_client_and_by_the_servers_health() -> None:
    def stopped(images: Sequence[Pixels]) -> list[Detections]:
        raise SystemExit

    app = App(models(stopped), Settings())
    asked = [("POST", "/predict"), ("GET", "/healthz"), ("GET", "/healthz/ready"), ("POST", "/predict")]
    lost, health, ready, late = answers(app, asked, png(image(0)))
    assert health[0] == ready[0] == 503
    assert json.loads(health[2]) | {"live": False, "ready": False} == json.loads(health[2])
    for status, _, body in (lost, late):
        words = "the server computes no more: try again when it has been restarted"
        assert (status, json.loads(body)["error"]) == (503, words)


def test_a_body_that_does_not_come_is_given_up() -> None:
    status, _, body = call(nothing, [b"\x89PNG", None], Settings(body_seconds=0.05))
    assert status == 408
    assert json.loads(body)["error"] == "the body took longer than 0.05 seconds"


def test_a_malformed_form_is_the_clients_fault_for_any_starlette(monkeypatch) -> None:
    """Older ones hand on what the parser raises."""

    def parse(self: object) -> None:
        raise MultipartParseError("a reason")

    monkeypatch.setattr("starlette.requests.MultiPartParser.parse", parse)
    status, _, body = call(nothing, [b"--"], kind=b"multipart/form-data; boundary=x")
    assert (status, json.loads(body)["error"]) == (400, "the form is malformed: a reason")
