"""What a Hub may answer: the client of the Hugging Face Hub builds paths from answers, so they are checked before.

The client's cache names files by commit and ETag, as the server sends them: those of a real Hub are hexadecimal, 40 or
64 digits.  Every answer passes ``require_sound`` before the client sees it.
"""

import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

from cascadezoo.errors import DownloadFailed, UnsafeRedirect
from cascadezoo.hub.redaction import Redacting, redacted

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # git's sha1; sha256
_ETAG = re.compile(r'(W/)?("?)(?:[0-9a-f]{40}|[0-9a-f]{64})\2')  # of a blob; the sha256 of a large file
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NO_NAME = re.compile(  # to Windows a device, or a drive
    r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(\..*)?|[a-z]:.*", re.IGNORECASE
)
_LONGEST_NAME, _LONGEST_PATH = 255, 1024  # bytes
_LARGEST = 50 * 10**9  # bytes; what the client fetches without its own protocol

_active, _lock = 0, threading.Lock()
_redacting = Redacting()


class Answer(Protocol):
    """A response of the client, of whichever version of httpx it uses."""

    status_code: int
    headers: Any
    request: Any

    def read(self) -> bytes: ...


@contextmanager
def checked() -> Iterator[None]:
    """Every answer that the client gets in here is sound; DownloadFailed or UnsafeRedirect where one is not.

    What the client logs, here and from now on, is without secrets.
    """
    global _active
    _watch()
    with _lock:
        _active += 1
    try:
        yield
    finally:
        with _lock:
            _active -= 1


def _watch() -> None:
    """See the answers of the client's present session, and of those that it opens after a lost connection."""
    from huggingface_hub.utils import _http

    with _lock:
        make: Callable[[], Any] = _http._GLOBAL_CLIENT_FACTORY
        if not isinstance(make, _Watched):
            _http._GLOBAL_CLIENT_FACTORY = _Watched(make)
    _hook(_http.get_session())
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.startswith(("huggingface_hub", "httpx")) and isinstance(logger, logging.Logger):
            logger.addFilter(_redacting)  # once: a filter that is there is not added again


class _Watched:
    """The factory of sessions that was in force, whose sessions are watched."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __call__(self) -> Any:
        return _hook(self._make())


def _hook(session: Any) -> Any:
    hooks = session.event_hooks
    if _look not in hooks["response"]:
        session.event_hooks = {**hooks, "response": [*hooks["response"], _look]}
    return session


def _look(response: Answer) -> None:
    if _active:  # outside of ``checked`` the session serves whoever else uses the client
        require_sound(response)


def require_sound(response: Answer) -> None:
    """Raise DownloadFailed for an answer that no Hub gives, and UnsafeRedirect for one that leads away from https."""
    url, headers = str(response.request.url), response.headers
    where = redacted(url)
    if location := headers.get("Location"):  # the client heeds it whatever the status
        target = urljoin(url, location)
        allowed = ("http", "https") if urlsplit(url).scheme == "http" else ("https",)
        if urlsplit(target).scheme not in allowed:
            raise UnsafeRedirect(
                f"{where} leads on to {redacted(target)}, which is not {' or '.join(allowed)}: not followed"
            )
    commit = headers.get("X-Repo-Commit")
    if commit is not None:
        _require(_is(commit, _COMMIT), where, "commit", commit)
        if response.request.method == "HEAD" and response.status_code < 400:
            etag = headers.get("X-Linked-Etag") or headers.get("ETag")
            _require(etag is None or _is(etag, _ETAG), where, "ETag", etag)
            size = headers.get("X-Linked-Size") or headers.get("Content-Length")
            _require(
                size is None or (size.isdecimal() and len(size) < 20 and int(size) <= _LARGEST), where, "size", size
            )
            xet = headers.get("X-Xet-Hash")
            _require(xet is None or _is(xet, _SHA256), where, "hash", xet)
    if response.request.method == "GET" and response.status_code == 200:
        path = urlsplit(url).path
        if re.search(r"/api/models/[^/]+/[^/]+/tree/", path):
            _require_tree(where, _json(where, response))
        elif re.search(r"/api/models/[^/]+/[^/]+(/revision/[^/]+)?$", path):
            _require_info(where, _json(where, response))


def is_commit(text: str) -> bool:
    """Whether this is how a Hub names a commit."""
    return _is(text, _COMMIT)


def _require_info(where: str, info: Any) -> None:
    _require(isinstance(info, dict) and isinstance(info.get("id"), str), where, "repository", info)
    _require(_is(info.get("sha"), _COMMIT), where, "commit", info.get("sha"))
    files = info.get("siblings") or []
    _require(isinstance(files, list), where, "list of files", files)
    for file in files:
        _require(isinstance(file, dict), where, "file", file)
        _require(_is_name(file.get("rfilename")), where, "name of a file", file.get("rfilename"))


def _require_tree(where: str, files: Any) -> None:
    _require(isinstance(files, list), where, "list of files", files)
    for file in files:
        _require(isinstance(file, dict), where, "file", file)
        _require(_is_name(file.get("path")), where, "name of a file", file.get("path"))
        _require(_is(file.get("oid"), _COMMIT), where, "hash", file.get("oid"))
        if file.get("type") == "directory":
            continue
        _require(_is_size(file.get("size")), where, "size", file.get("size"))
        large, xet = file.get("lfs"), file.get("xetHash")
        _require(xet is None or _is(xet, _SHA256), where, "hash", xet)
        if large is not None:
            _require(isinstance(large, dict), where, "file", large)
            _require(_is(large.get("oid"), _SHA256), where, "hash", large.get("oid"))
            _require(_is_size(large.get("size")), where, "size", large.get("size"))


def _json(where: str, response: Answer) -> Any:
    try:
        return json.loads(response.read())
    except (ValueError, RecursionError) as error:
        raise DownloadFailed(f"{where} does not answer as a Hub, its JSON cannot be read: check HF_ENDPOINT") from error


def _require(sound: bool, where: str, what: str, found: object) -> None:
    if not sound:
        raise DownloadFailed(
            f"{where} does not answer as a Hub, it gives the {what} {_short(found)}: nothing of it is used; check "
            "HF_ENDPOINT and the network"
        )


def _is(value: object, form: re.Pattern[str]) -> bool:
    return isinstance(value, str) and form.fullmatch(value) is not None


def _is_size(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_name(value: object) -> bool:
    """Whether this is a relative path that no system takes for anything else, each of its names short enough."""
    if not isinstance(value, str) or not value or len(value.encode("utf-8", "surrogatepass")) > _LONGEST_PATH:
        return False
    if re.search(r"[\x00-\x1f\x7f\\\ud800-\udfff]", value):
        return False
    return all(
        part.strip(" .") and len(part.encode()) <= _LONGEST_NAME and not _NO_NAME.fullmatch(part)
        for part in value.split("/")
    )


def _short(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
