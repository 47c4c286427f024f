"""An image out of a request: raw bytes or a form's file, within the limits, decoded."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple

from fastapi import HTTPException, Request
from python_multipart.exceptions import FormParserError

from cascadezoo.errors import TooManyPixels, UnreadableImage
from cascadezoo.images import Pixels, decode
from cascadezoo.serving.settings import Settings

FIELD = "image"
"""The form's field that holds the image."""

_FORM = "multipart/form-data"
_MOST_FIELDS = 16  # of a form, beside the file: all are ignored

_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Sent(NamedTuple):
    """An image file as it came, and the client's name for it, where it has one."""

    data: bytes
    file_name: str | None


async def received(request: Request, settings: Settings) -> Sent:
    """The image file in a request's body.

    Raises HTTPException: 408, 413, 415, 422, or 400 for a malformed form.  Raises ``ClientDisconnect`` where the
    client leaves before the end.
    """
    media_type = _media_type(request)
    _refuse_large(int(request.headers.get("content-length", "0")), settings.max_body)
    limited = Request(request.scope, _limited(request.receive, settings.max_body))
    try:
        async with asyncio.timeout(settings.body_seconds):
            return await (_of_form(limited) if media_type == _FORM else _of_body(limited))
    except TimeoutError as error:
        raise HTTPException(408, f"the body took longer than {settings.body_seconds:g} seconds") from error


def decoded(data: bytes, most_pixels: int) -> Pixels:
    """The image, uint8 (H, W, 3) RGB; raises HTTPException: 413 for too many pixels, 422 for what is no image."""
    try:
        return decode("the image sent", data, most_pixels)
    except TooManyPixels as error:
        raise HTTPException(413, str(error)) from error
    except UnreadableImage as error:
        raise HTTPException(422, str(error)) from error


def _media_type(request: Request) -> str:
    if request.headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
        raise HTTPException(415, "the body has a content encoding: send the image file as it is")
    media_type: str = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type in ("", "application/octet-stream", _FORM) or media_type.startswith("image/"):
        return media_type
    raise HTTPException(
        415,
        f"a body of type {media_type} is not taken: send the bytes of an image file as image/jpeg, image/png or "
        f"application/octet-stream, or {_FORM} with the file in the field {FIELD}",
    )


def _limited(receive: _Receive, most: int) -> _Receive:
    """``receive`` of ASGI, which stops where more than ``most`` bytes have come, whatever length was announced."""
    so_far = 0

    async def message() -> MutableMapping[str, Any]:
        nonlocal so_far
        got = await receive()
        so_far += len(got.get("body", b""))
        _refuse_large(so_far, most)
        return got

    return message


def _refuse_large(size: int, most: int) -> None:
    if size > most:
        raise HTTPException(413, f"the body has more than the {most:,} bytes allowed: send a smaller file")


async def _of_body(request: Request) -> Sent:
    return Sent(await request.body(), None)


async def _of_form(request: Request) -> Sent:
    try:
        async with request.form(max_files=1, max_fields=_MOST_FIELDS) as form:
            file = form.get(FIELD)
            if file is None or isinstance(file, str):
                raise HTTPException(422, f"the form has no file in a field {FIELD}")
            return Sent(await file.read(), file.filename or None)
    except FormParserError as error:  # of a Starlette that does not answer it with 400 itself
        raise HTTPException(400, f"the form is malformed: {error}") from error
    except UnicodeError as error:  # of a charset that decodes nothing, such as Python's "undefined"
        raise HTTPException(400, "the form's charset cannot be read: leave it out") from error
