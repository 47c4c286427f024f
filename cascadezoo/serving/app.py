"""The routes of the server."""

import asyncio
import logging
import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import Annotated, Any, Literal, TypeVar

import torch
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import ClientDisconnect

from cascadezoo.detecting import is_out_of_memory
from cascadezoo.detections import Detections
from cascadezoo.errors import OutOfMemory
from cascadezoo.images import Pixels
from cascadezoo.serving.answers import FORMATS, Asked, acceptable, answer, refusal
from cascadezoo.serving.batching import Batcher, Closed
from cascadezoo.serving.models import Models
from cascadezoo.serving.openapi import HEALTH, METADATA, PREDICT, READY
from cascadezoo.serving.places import Full, Places
from cascadezoo.serving.pools import started
from cascadezoo.serving.received import decoded, received
from cascadezoo.serving.settings import Settings
from cascadezoo.version import __version__

T = TypeVar("T")

_log = logging.getLogger("cascadezoo")
_GONE = 499  # the client left before its answer: a number for the log, since nobody is there to read it
_MOST_HELPERS = 8  # threads that decode images and write answers


class App:
    """The server's routes over models that are ready.

    Attributes:
        asgi: what a server of ASGI runs.
        settings: the limits.
    """

    def __init__(self, models: Models, settings: Settings) -> None:
        self._models, self.settings = models, settings
        self._places = Places(settings.max_requests)
        self._description = f"cascadezoo {__version__} serve {models.facts['name']}"
        self._batcher: Batcher[Pixels, Detections]
        self._helpers: ThreadPoolExecutor
        self.asgi = FastAPI(
            title="cascadezoo serve",
            version=__version__,
            description=f"Detections of {models.facts['name']} on the images sent.",
            lifespan=self._running,
            redoc_url=None,
            redirect_slashes=False,  # a 307 is taken for an answer by who does not follow it
            exception_handlers=_HANDLERS,
        )
        self.asgi.add_api_route("/predict", self._predict, methods=["POST"], **PREDICT)
        self.asgi.add_api_route("/healthz", self._health, methods=["GET"], **HEALTH)
        self.asgi.add_api_route("/healthz/ready", self._ready, methods=["GET"], **READY)
        self.asgi.add_api_route("/metadata", self._metadata, methods=["GET"], **METADATA)

    @asynccontextmanager
    async def _running(self, _: FastAPI) -> AsyncIterator[None]:
        limits = self.settings
        threads = min(_MOST_HELPERS, os.cpu_count() or 1)
        helpers = started(threads, "helper", torch.set_num_threads, 1)
        with suppress(asyncio.CancelledError), helpers as self._helpers:  # a second SIGINT cancels this too
            batcher = Batcher(self._models.works(), max_batch=limits.max_batch, max_wait=limits.max_wait)
            async with batcher as self._batcher:
                yield

    async def _predict(
        self,
        request: Request,
        format: Annotated[
            Literal["coco", "polygons", "png", "jpeg"] | None,
            Query(description="COCO's JSON with run-length encodings or polygons, or a picture; default: by Accept"),
        ] = None,
        score: Annotated[
            float | None, Query(ge=0, le=1, description="Lowest score; default, and least: the server's own")
        ] = None,
        image_id: Annotated[int, Query(description="The image's id in COCO's records")] = 1,
    ) -> Response:
        chosen = format or acceptable(",".join(request.headers.getlist("accept")))
        if chosen is None:
            types = ", ".join(dict.fromkeys(FORMATS.values()))
            raise HTTPException(406, f"no answer fits this Accept: there are {types}")
        if score is not None and score < self.settings.score:
            raise HTTPException(422, f"score {score:g}: this server finds nothing below {self.settings.score:g}")
        try:
            with self._places.one():
                sent = await received(request, self.settings)
                asked = Asked(chosen, image_id, sent.file_name, score)
                body = await _while_connected(request, self._answer(sent.data, asked))
        except Full as error:
            seconds = str(self._seconds_until_free())
            raise HTTPException(503, "too many requests at once: try again later", {"Retry-After": seconds}) from error
        except Exception as error:
            if is_out_of_memory(error):
                raise OutOfMemory("no memory for a request") from error
            raise
        return Response(body, media_type=FORMATS[chosen])

    async def _answer(self, data: bytes, asked: Asked) -> bytes:
        image = await self._helped(decoded, data, self.settings.max_pixels)
        if why := refusal(asked.format, image):
            raise HTTPException(422, why)
        detections = await self._batcher.submit(self._models.padded(image), image)
        return await self._helped(answer, detections, image, asked, self._description)

    async def _helped(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._helpers, function, *arguments)

    def _seconds_until_free(self) -> int:
        """In which about as many requests as there are will have been answered."""
        seconds = self._places.taken * self._batcher.seconds_per_item / len(self._models.workers)
        return max(1, math.ceil(seconds))

    async def _health(self, response: Response) -> dict[str, Any]:
        live = self._batcher.live
        if not live:
            response.status_code = 503
        return {
            "live": live,
            "ready": live and self._places.are_free,
            "requests": self._places.taken,
            "waiting": self._batcher.waiting,
            "images": self._batcher.items,
            "batches": self._batcher.batches,
        }

    async def _ready(self, response: Response) -> dict[str, Any]:
        health = await self._health(response)
        if not health["ready"]:
            response.status_code = 503
        return health

    async def _metadata(self) -> dict[str, Any]:
        return {**self._models.facts, "limits": asdict(self.settings)}


async def _while_connected(request: Request, work: Awaitable[T]) -> T:
    """The result of ``work``, which is cancelled where the client leaves; then raises ClientDisconnect."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_has_left(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        for task in (working, leaving):
            task.cancel()


async def _has_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _refusal(request: Request, status: int, sentence: str, headers: Any = None) -> JSONResponse:
    content = {"error": sentence, "request_id": request.state.request_id}
    return JSONResponse(content, status, headers=headers)


async def _on_http_error(request: Request, error: Any) -> Response:
    return _refusal(request, error.status_code, error.detail, error.headers)


async def _on_bad_parameter(request: Request, error: Any) -> Response:
    first = error.errors()[0]
    return _refusal(request, 422, f"{first['loc'][-1]}: {first['msg']}")


async def _on_no_memory(request: Request, error: Any) -> Response:
    _log.warning("%s: no memory: %s", request.state.request_id, error.__cause__ or error)
    return _refusal(request, 503, "the server has no memory for this image now", {"Retry-After": "1"})


async def _on_closed(request: Request, error: Any) -> Response:
    return _refusal(request, 503, "the server computes no more: try again when it has been restarted")


async def _on_leaving(request: Request, error: Any) -> Response:
    return Response(status_code=_GONE)


async def _on_unexpected(request: Request, error: Any) -> Response:
    return _refusal(request, 500, "an unexpected error, which the server's log describes under this request_id")


_HANDLERS: dict[Any, Any] = {
    AnyHTTPException: _on_http_error,
    RequestValidationError: _on_bad_parameter,
    OutOfMemory: _on_no_memory,
    Closed: _on_closed,
    ClientDisconnect: _on_leaving,
    Exception: _on_unexpected,
}
