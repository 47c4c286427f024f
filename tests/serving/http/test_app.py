"""The routes called as a server of ASGI calls them, over a model that fails when it is told to."""

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from types import SimpleNamespace

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


def models(work: Callable[[Sequence[Pixels]], list[Detections]]) -> SimpleNamespace:
    """In place of ``Models``."""
    return SimpleNamespace(
        facts={"name": "fake"}, workers=[None], works=lambda: [work], padded=lambda image: image.shape[:2]
    )


def nothing(images: Sequence[Pixels]) -> list[Detections]:
    empty = torch.zeros(0)
    return [Detections(torch.zeros(0, 4), empty, empty.long(), each.shape[:2]) for each in images]


def call(
    work: Callable, bodies: Sequence[bytes | None], settings: Settings | None = None, kind: bytes = b"image/png"
) -> tuple[int, dict, bytes]:
    """Status, headers and body of the answer to a POST in these pieces; None: the client sends nothing more."""
    app = App(models(work), settings or Settings())
    pieces, sent = list(bodies), []

    async def receive() -> dict:
        if pieces and pieces[0] is not None:
            body = pieces.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(pieces)}
        return await asyncio.Future()

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": "/predict",
        "raw_path": b"/predict", "root_path": "", "scheme": "http", "query_string": b"", "client": ("test", 1),
        "server": ("test", 2), "headers": [(b"content-type", kind), (b"x-request-id", b"mine")],
    }  # fmt: skip

    async def main() -> None:
        async with app.asgi.router.lifespan_context(app.asgi):
            await RequestLog(app.asgi)(scope, receive, send)

    asyncio.run(main())
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


def test_want_of_memory_is_a_reason_to_try_again() -> None:
    def full(images: Sequence[Pixels]) -> list[Detections]:
        raise OutOfMemory("no room")

    status, headers, body = call(full, [png(image(0))])
    assert (status, headers[b"retry-after"]) == (503, b"1")
    assert "no memory" in json.loads(body)["error"]


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
