"""One line of the log for each request, under an id that the client gets too."""

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]

_HEADER = b"x-request-id"
_OWN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")  # what a client may call its request

_LONGEST = 200  # characters of a path in the log: a client may send 64 Ki

_log = logging.getLogger("cascadezoo")


class RequestLog:
    """An ASGI application round another, which it gives ids and writes about.

    Attributes:
        cut_off: how many requests the end of the server left without an answer of the application.
        failure: why the application could not start; None where it did.
    """

    def __init__(self, app: _App, ending: Callable[[], bool] = lambda: False) -> None:
        """``ending``: whether the server takes no more requests on the connections that it has."""
        self._app, self._ending, self.cut_off = app, ending, 0
        self.failure: Exception | None = None

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """As ASGI calls it; ``scope["state"]["request_id"]`` is the request's id."""
        if scope["type"] != "http":
            await self._live(scope, receive, send)
            return
        name = _id_of(scope)
        scope["state"] = {**scope.get("state", {}), "request_id": name}
        start, status = time.perf_counter(), 0

        async def sent(message: _Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (_HEADER, name.encode())]
                if self._ending():
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except asyncio.CancelledError:
            self.cut_off += 1
            if status == 0:
                await _refuse(sent, name)
        except Exception:  # the client has been told what it may know
            _log.exception("%s: an unexpected error", name)
        milliseconds = 1000 * (time.perf_counter() - start)
        path = scope["path"][:_LONGEST]
        _log.info("%s %s %s %d %.0f ms", name, scope["method"], path, status, milliseconds)

    async def _live(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """The application's life as ASGI has it; that it could not start is told by ``failure``, not as a traceback."""

        async def sent(message: _Message) -> None:
            await send({**message, "message": ""} if message["type"] == "lifespan.startup.failed" else message)

        try:
            await self._app(scope, receive, sent)
        except Exception as error:
            self.failure = error
            raise


async def _refuse(send: _Send, name: str) -> None:
    body = json.dumps({"error": "the server ends before this is answered", "request_id": name}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _id_of(scope: _Message) -> str:
    own = next((value for key, value in scope["headers"] if key == _HEADER), b"")
    return own.decode() if _OWN_ID.fullmatch(own) else uuid.uuid4().hex
