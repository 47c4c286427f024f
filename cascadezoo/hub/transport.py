"""One file over http: resumed where it broke off, tried again where that may help, hashed as it arrives.

What has arrived lies in a part file; a note beside it (``.json``) says which version of the file these bytes belong to,
so that a file that changed upstream is fetched anew and never spliced.  Proxies, ``REQUESTS_CA_BUNDLE`` and netrc are
respected as requests does it.  https never leads to http; a url that is http from the start may stay so.
"""

import logging
import random
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import IncompleteRead
from pathlib import Path
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from cascadezoo.errors import DownloadFailed, UnsafeRedirect
from cascadezoo.hub.offline import refuse_if_offline
from cascadezoo.hub.parts import CHUNK, Fetched, Part, Version
from cascadezoo.hub.redaction import redacted, scrubbed, without_secrets
from cascadezoo.version import __version__

CONNECT_TIMEOUT = 10.0  # seconds
READ_TIMEOUT = 60.0  # seconds without a byte
TRIES = 6  # in a row without progress
FIRST_WAIT = 1.0  # seconds, doubled each time
LONGEST_WAIT = 60.0
MAX_REDIRECTS = 10

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRY_AGAIN = frozenset({408, 429, *range(500, 600)})
_NOT_THERE = frozenset({403, 404, 410})  # 403: Amazon S3 about a missing file, unless one may list the folder

Progress = Callable[[int, int | None], None]  # bytes that are there, bytes in all where that is known

T = TypeVar("T")

_log = logging.getLogger("cascadezoo")


class _Broken(Exception):
    """A try failed, and another may not.  ``wait``: seconds that the server asks for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def session() -> requests.Session:
    """A session for requests to publishers: bodies as they are stored, not compressed for the journey."""
    http = requests.Session()
    http.headers.update({"User-Agent": f"cascadezoo/{__version__}", "Accept-Encoding": "identity"})
    return http


def request(
    http: requests.Session, method: str, url: str, headers: Mapping[str, str] | None = None
) -> tuple[requests.Response, tuple[str, ...]]:
    """The answer at the end of all redirects, its body unread, and the urls on the way, the last one answered.

    Raises Offline; UnsafeRedirect where a redirect leads from https to http, to another kind of address, or there are
    more than ``MAX_REDIRECTS``; requests.RequestException.
    """
    refuse_if_offline(redacted(url))
    allowed = ("https", "http") if urlsplit(url).scheme == "http" else ("https",)
    trail = [url]
    while True:
        response = http.request(
            method,
            trail[-1],
            headers=headers,
            stream=True,
            allow_redirects=False,
            timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
        )
        location = http.get_redirect_target(response) if response.status_code in _REDIRECTS else None
        if location is None:
            return response, tuple(trail)
        response.close()
        target = urljoin(trail[-1], location)
        if urlsplit(target).scheme not in allowed:
            raise UnsafeRedirect(
                f"{redacted(url)} leads on to {redacted(target)}, which is not {' or '.join(allowed)}: not followed"
            )
        if len(trail) > MAX_REDIRECTS:
            raise UnsafeRedirect(
                f"{redacted(url)} leads on more than {MAX_REDIRECTS} times, now to {redacted(target)}: not followed "
                "further"
            )
        trail.append(target)


def fetch(url: str, path: Path, *, md5: bool = False, progress: Progress | None = None) -> Fetched:
    """Fetch a whole file to ``path``, going on from what an earlier call left there.

    Args:
        md5: compute the md5 beside the sha256.
        progress: called after every block.  An exception of its own ends the download; what has arrived stays.

    Raises:
        Offline, UnsafeRedirect.
        DownloadFailed: the server refuses, or breaks off ``TRIES`` times in a row without progress.
        UnwritableOutput: no room on the disk, or the folder cannot be written.
    """
    refuse_if_offline(redacted(url))
    with session() as http, Part(path, url, md5) as part:
        _until_it_works(part, lambda: _attempt(http, part, progress))
        return part.fetched()


def fetch_text(url: str, limit: int = 64 * 1024) -> str | None:
    """A small text file of at most ``limit`` bytes; None where the server has none (403, 404 or 410).

    Raises Offline, UnsafeRedirect and DownloadFailed as ``fetch`` does.
    """

    def attempt() -> str | None:
        with closing(_answer(http, url)) as response:
            if response.status_code in _NOT_THERE:
                return None
            _refuse_status(url, response)
            text = b""
            for block in _blocks(response, decode=True):
                text += block
                if len(text) > limit:
                    raise DownloadFailed(f"{redacted(url)} is longer than {limit:,} bytes, and no small text file")
            return text.decode("utf-8", "replace")

    with session() as http:
        return _until_it_works(url, attempt)


def _until_it_works(file: Part | str, attempt: Callable[[], T]) -> T:
    """What ``attempt`` returns, tried again with longer and longer pauses; a part that has grown is not given up on."""
    part = file if isinstance(file, Part) else None
    failures, reached = 0, part.size if part else 0
    while True:
        try:
            return attempt()
        except _Broken as error:
            if part and part.size >= reached + CHUNK:
                failures, reached = 0, part.size
            failures += 1
            url = redacted(part.url if part else str(file))
            if failures == TRIES:
                raise DownloadFailed(
                    f"{url}: {error}, {TRIES} times in a row{_kept(part)}: try again later, or set CASCADEZOO_MIRROR"
                ) from scrubbed(error)
            pause = FIRST_WAIT * 2 ** (failures - 1) * random.uniform(0.5, 1)
            wait = min(max(error.wait, pause), LONGEST_WAIT)
            _log.warning("%s: %s; trying again in %.0f s", url, error, wait)
            time.sleep(wait)


def _attempt(http: requests.Session, part: Part, progress: Progress | None) -> None:
    """Fetch what is missing, as far as the connection holds."""
    if part.is_complete:
        return
    with closing(_answer(http, part.url, part.resume_headers())) as response:
        version = _version(part.url, response)
        encoded = "Content-Encoding" in response.headers
        if response.status_code in (206, 416) and part.size:
            if response.status_code == 416 or encoded or not _continues(part, response):
                part.restart()
                raise _Broken("the file has changed on the server: starting again")
        else:
            _refuse_status(part.url, response)
            part.restart(version)
        part.require_room()
        for block in _blocks(response, decode=encoded):
            part.write(block)
            if progress is not None:
                progress(part.size, part.version.size)
        if part.version.size not in (None, part.size):
            raise _Broken(f"the connection ended after {part.size:,} of {part.version.size:,} bytes")
    part.finish()


def _answer(http: requests.Session, url: str, headers: Mapping[str, str] | None = None) -> requests.Response:
    try:
        response, _ = request(http, "GET", url, headers)
    except (requests.ConnectionError, requests.Timeout, HTTPError) as error:
        cause = _cause(error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise DownloadFailed(
                f"{redacted(url)}: the server's certificate is not trusted ({_reason(error)}): where a proxy or mirror "
                "has a certificate of its own, set REQUESTS_CA_BUNDLE to it"
            ) from scrubbed(error)
        if isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME:
            raise DownloadFailed(
                f"{redacted(url)}: there is no such host: check the network and CASCADEZOO_MIRROR"
            ) from scrubbed(error)
        raise _Broken(_reason(error)) from scrubbed(error)
    except (requests.RequestException, ValueError) as error:  # ValueError: a Location that is no address
        raise DownloadFailed(f"{redacted(url)}: {_reason(error)}") from scrubbed(error)
    if response.status_code in _TRY_AGAIN:
        response.close()
        raise _Broken(f"the server answers {response.status_code} {response.reason}", _retry_after(response))
    return response


def _refuse_status(url: str, response: requests.Response) -> None:
    if response.status_code != 200:
        raise DownloadFailed(
            f"{redacted(url)}: the server answers {response.status_code} {response.reason}: the file may have moved: "
            "bring it by other means and give it as weights=FILE, or name a mirror that has it in CASCADEZOO_MIRROR"
        )


def _blocks(response: requests.Response, decode: bool) -> Iterator[bytes]:
    """The body in blocks, memory independent of its length; ``decode``: unpack a Content-Encoding."""
    try:
        while block := response.raw.read(CHUNK, decode_content=decode):
            yield block
    except HTTPError as error:
        raise _Broken(_reason(error)) from scrubbed(error)


def _version(url: str, response: requests.Response) -> Version:
    """Which version of the file an answer is of; what is packed for the journey can neither be resumed nor measured."""
    if "Content-Encoding" in response.headers:
        return Version(url=redacted(url))
    length = response.headers.get("Content-Length", "")
    return Version(
        url=redacted(url),
        etag=response.headers.get("ETag"),
        last_modified=response.headers.get("Last-Modified"),
        size=int(length) if length.isdecimal() else None,
    )


def _continues(part: Part, response: requests.Response) -> bool:
    """Whether a partial answer begins where the part ends, and is of the same version: servers may ignore If-Range."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if not found or int(found[1]) != part.size:
        return False
    if part.version.size is not None and found[2] not in ("*", str(part.version.size)):
        return False
    etag, modified = response.headers.get("ETag"), response.headers.get("Last-Modified")
    return etag in (None, part.version.etag) and modified in (None, part.version.last_modified)


def _retry_after(response: requests.Response) -> float:
    """Seconds that the server asks to wait, given as a number or as a date."""
    header = response.headers.get("Retry-After", "")
    if header.isdecimal():
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 0.0


def _cause(error: BaseException) -> BaseException:
    """What lies innermost: requests and urllib3 wrap errors several times, in three ways."""
    for inner in (getattr(error, "reason", None), error.__cause__, *error.args):
        if isinstance(inner, BaseException):
            return _cause(inner)
    return error


def _reason(error: BaseException) -> str:
    """The innermost cause in few words."""
    cause = _cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_message
    if isinstance(cause, TimeoutError | ReadTimeoutError):
        return f"nothing came for {READ_TIMEOUT:g} s"
    if isinstance(cause, IncompleteRead):
        return "the connection ended before the file did"
    if isinstance(cause, OSError) and cause.strerror:
        return without_secrets(cause.strerror).lower()
    return without_secrets(str(cause)) or type(cause).__name__


def _kept(part: Part | None) -> str:
    if part is None or not part.can_resume:
        return ""
    return f"; {part.size:,} bytes are kept, and the next run goes on from there"
