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
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import HTTPError

from cascadezoo.errors import DownloadFailed, UnsafeRedirect
from cascadezoo.hub.causes import NO_ANSWER, certificates_fault, in_words, innermost
from cascadezoo.hub.offline import refuse_if_offline
from cascadezoo.hub.pace import MOST_OF_HEADERS, PacedSession, largest_download
from cascadezoo.hub.parts import CHUNK, Fetched, Part, Version
from cascadezoo.hub.redaction import redacted, scrubbed
from cascadezoo.version import __version__

CONNECT_TIMEOUT = 10.0  # seconds
READ_TIMEOUT = 60.0  # seconds without a byte
TRIES = 6  # in a row without progress
FEW_TRIES = 3  # of a file that a user names
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


class Step(NamedTuple):
    """One answer on the way to the last."""

    url: str
    status: int


def session() -> PacedSession:
    """A session of one thread for requests to publishers: bodies as they are stored, not compressed for the journey."""
    http = PacedSession()
    http.headers.update({"User-Agent": f"cascadezoo/{__version__}", "Accept-Encoding": "identity"})
    return http


def request(
    http: PacedSession,
    method: str,
    url: str,
    headers: Mapping[str, str] | None = None,
    timeout: tuple[float, float] | None = None,
) -> tuple[requests.Response, tuple[Step, ...]]:
    """The answer at the end of all redirects, its body unread, and every answer on the way, the last one included.

    ``timeout``: seconds to connect, and without a byte.

    Raises Offline; UnsafeRedirect where a redirect leads from https to http, to another kind of address, or there are
    more than ``MAX_REDIRECTS``; DownloadFailed where one leads to no address; ``NO_ANSWER`` where none comes.
    """
    refuse_if_offline(redacted(url))
    if not _is_address(url):
        raise DownloadFailed(f"{redacted(url)} is no address on the web: check it, or CASCADEZOO_MIRROR")
    allowed = ("https", "http") if urlsplit(url).scheme == "http" else ("https",)
    here, trail = url, list[Step]()
    while True:
        http.pace.expect_headers()
        response = http.request(
            method,
            here,
            headers=headers,
            stream=True,
            allow_redirects=False,
            timeout=timeout or (CONNECT_TIMEOUT, READ_TIMEOUT),
        )
        http.pace.expect_body(MOST_OF_HEADERS)  # until the caller says how much it wants
        trail.append(Step(here, response.status_code))
        target = _leads_to(here, response)
        if target is None:
            return response, tuple(trail)
        response.close()
        if urlsplit(target).scheme not in allowed:
            raise UnsafeRedirect(
                f"{redacted(url)} leads on to {redacted(target)}, which is not {' or '.join(allowed)}: not followed"
            )
        if len(trail) > MAX_REDIRECTS:
            raise UnsafeRedirect(
                f"{redacted(url)} leads on more than {MAX_REDIRECTS} times, now to {redacted(target)}: not followed "
                "further"
            )
        here = target


def _leads_to(url: str, response: requests.Response) -> str | None:
    """The address that a redirect names; None: it is none.  Raises DownloadFailed where it names no address."""
    if response.status_code not in _REDIRECTS or "Location" not in response.headers:
        return None
    location = response.headers["Location"].encode("latin-1").decode("utf-8", "replace")
    try:
        target = urljoin(url, location)
        hostless = re.match(r"(https?:)?//(/|$)", location, re.IGNORECASE)  # joined, it would be where we are
        if not hostless and (_is_address(target) or urlsplit(target).scheme not in ("http", "https")):
            return target
    except ValueError:  # of the first bracket of an IPv6 address without the last
        pass
    response.close()
    raise DownloadFailed(
        f"{redacted(url)} leads on to {ascii(redacted(location))[:200]}, which is no address: not followed"
    )


def _is_address(url: str) -> bool:
    """Whether this is an http(s) address that can be asked for."""
    try:
        requests.Request("GET", url).prepare()
    except (ValueError, requests.RequestException, HTTPError):
        return False
    parts = urlsplit(url)
    labels = (parts.hostname or "").removesuffix(".").split(".")
    return parts.scheme in ("http", "https") and all(0 < len(label) < 64 for label in labels)


def fetch(
    url: str, path: Path, *, md5: bool = False, size: int | None = None, progress: Progress | None = None
) -> Fetched:
    """Fetch a whole file to ``path``, going on from what an earlier call left there.

    Args:
        md5: compute the md5 beside the sha256.
        size: of the file in bytes, where it is known: no more is taken of a body that comes without a length.
        progress: called after every block.  An exception of its own ends the download; what has arrived stays.

    Raises:
        Offline, UnsafeRedirect.
        DownloadFailed: the server refuses, breaks off or is too slow ``TRIES`` times in a row without progress, or
            sends more than ``size`` or ``largest_download()``.
        UnwritableOutput: no room on the disk, or the folder cannot be written.
    """
    refuse_if_offline(redacted(url))
    largest = largest_download()
    with session() as http, Part(path, url, md5) as part:
        _until_it_works(part, lambda: _attempt(http, part, size, largest, progress))
        return part.fetched()


def fetch_text(url: str, limit: int = 64 * 1024) -> str | None:
    """A small text file of at most ``limit`` bytes; None where the server has none (403, 404 or 410).

    Raises Offline, UnsafeRedirect and DownloadFailed as ``fetch`` does.
    """

    def is_there(response: requests.Response) -> bool:
        if response.status_code in _NOT_THERE:
            return False
        _refuse_status(url, response)
        return True

    text = _held(url, limit, is_there, "and no small text file")
    return None if text is None else text.decode("utf-8", "replace")


def fetch_bytes(url: str, limit: int) -> bytes:
    """A file of at most ``limit`` bytes, held in memory: of any server that a user names, so it is asked fewer times.

    Raises Offline, UnsafeRedirect and DownloadFailed as ``fetch`` does.
    """

    def is_there(response: requests.Response) -> bool:
        if response.status_code != 200:
            raise DownloadFailed(f"{redacted(url)}: the server answers {response.status_code} {response.reason}")
        return True

    return _held(url, limit, is_there, "which is more than was asked for", tries=FEW_TRIES) or b""


def _held(
    url: str, limit: int, is_there: Callable[[requests.Response], bool], beyond: str, tries: int | None = None
) -> bytes | None:
    """A file's bytes; None where it is not there."""

    def attempt() -> bytes | None:
        with closing(_answer(http, url)) as response:
            if not is_there(response):
                return None
            _length(url, response)
            http.pace.expect_body(_framed(limit))
            content = bytearray()
            for block in _blocks(response, decode=True):
                content += block
                if len(content) > limit:
                    raise DownloadFailed(f"{redacted(url)} is longer than {limit:,} bytes, {beyond}")
            return bytes(content)

    with session() as http:
        return _until_it_works(url, attempt, tries)


def _until_it_works(file: Part | str, attempt: Callable[[], T], tries: int | None = None) -> T:
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
            if failures == (tries or TRIES):
                mirror = "" if tries else ", or set CASCADEZOO_MIRROR"  # which has publishers' files
                raise DownloadFailed(
                    f"{url}: {error}, {failures} times in a row{_kept(part)}: try again later{mirror}"
                ) from scrubbed(error)
            pause = FIRST_WAIT * 2 ** (failures - 1) * random.uniform(0.5, 1)
            wait = min(max(error.wait, pause), LONGEST_WAIT)
            _log.warning("%s: %s; trying again in %.0f s", url, error, wait)
            time.sleep(wait)


def _attempt(http: PacedSession, part: Part, known: int | None, largest: int, progress: Progress | None) -> None:
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
        most = min(largest, part.version.size or known or largest)
        if (part.version.size or 0) > most:
            raise _too_large(part, most)
        part.require_room()
        http.pace.expect_body(_framed(most))
        for block in _blocks(response, decode=encoded):
            if part.size + len(block) > most:
                raise _too_large(part, most)
            part.write(block)
            if progress is not None:
                progress(part.size, part.version.size)
        if part.version.size not in (None, part.size):
            raise _Broken(f"the connection ended after {part.size:,} of {part.version.size:,} bytes")
    part.finish()


def _too_large(part: Part, most: int) -> DownloadFailed:
    """The error for a body beyond all bounds, of which nothing is kept."""
    part.restart()
    return DownloadFailed(
        f"{redacted(part.url)} goes on beyond {most:,} bytes: it is not the file that is expected, or larger than "
        "CASCADEZOO_MAX_DOWNLOAD_BYTES allows; nothing of it is kept"
    )


def _framed(size: int) -> int:
    """The most bytes that a server may send for a body of this size, in however small chunks."""
    return 16 * size + MOST_OF_HEADERS


def _answer(http: PacedSession, url: str, headers: Mapping[str, str] | None = None) -> requests.Response:
    try:
        response, _ = request(http, "GET", url, headers)
    except NO_ANSWER as error:
        raise _no_answer(url, error) from scrubbed(error)
    if response.status_code in _TRY_AGAIN:
        response.close()
        raise _Broken(f"the server answers {response.status_code} {response.reason}", _retry_after(response))
    return response


def _no_answer(url: str, error: Exception) -> Exception:
    """What to raise where a server did not answer: an error, or the wish to try again."""
    cause, reason = innermost(error), in_words(error, READ_TIMEOUT)
    if fault := certificates_fault():
        return DownloadFailed(f"{redacted(url)} cannot be asked: {fault}")
    if isinstance(cause, ssl.SSLCertVerificationError):
        return DownloadFailed(
            f"{redacted(url)}: the server's certificate is not trusted ({reason}): where a proxy or mirror "
            "has a certificate of its own, set REQUESTS_CA_BUNDLE to it"
        )
    if isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME:
        return DownloadFailed(f"{redacted(url)}: there is no such host: check the network and CASCADEZOO_MIRROR")
    if isinstance(error, requests.ConnectionError | requests.Timeout | HTTPError):
        return _Broken(reason)
    return DownloadFailed(f"{redacted(url)}: {reason}")


def _refuse_status(url: str, response: requests.Response) -> None:
    if response.status_code == 407:
        raise DownloadFailed(
            f"{redacted(url)}: the proxy wants a name and a password: give them in HTTPS_PROXY and HTTP_PROXY"
        )
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
    except (HTTPError, OSError, ValueError) as error:  # the last: of http.client, about the size of a chunk
        raise _Broken(in_words(error, READ_TIMEOUT)) from scrubbed(error)


def _version(url: str, response: requests.Response) -> Version:
    """Which version of the file an answer is of; what is packed for the journey can neither be resumed nor measured."""
    if "Content-Encoding" in response.headers:
        return Version(url=redacted(url))
    return Version(
        url=redacted(url),
        etag=_sendable(response.headers.get("ETag")),
        last_modified=_sendable(response.headers.get("Last-Modified")),
        size=_length(url, response),
    )


def _sendable(validator: str | None) -> str | None:
    """An ETag or date that can be sent back as it came."""
    return validator if validator and re.fullmatch(r"[!-~]([ -~]{0,250}[!-~])?", validator) else None


def _length(url: str, response: requests.Response) -> int | None:
    """Content-Length; None where there is none, or the body's chunks say it.  Raises DownloadFailed: it is no size."""
    header = response.headers.get("Content-Length")
    if header is None or "Transfer-Encoding" in response.headers:
        return None
    lengths = {length.strip() for length in header.split(",")}  # some proxies repeat it
    length = lengths.pop()
    if lengths or not re.fullmatch(r"[0-9]{1,18}", length):
        raise DownloadFailed(
            f"{redacted(url)}: the server gives {ascii(header)[:60]} as the file's length, which is none: try again "
            "later, or set CASCADEZOO_MIRROR"
        )
    return int(length)


def _continues(part: Part, response: requests.Response) -> bool:
    """Whether a partial answer begins where the part ends, and is of the same version: servers may ignore If-Range."""
    found = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", response.headers.get("Content-Range", ""))
    if not found or int(found[1]) != part.size:
        return False
    if part.version.size is not None and found[2] not in ("*", str(part.version.size)):
        return False
    etag, modified = response.headers.get("ETag"), response.headers.get("Last-Modified")
    return etag in (None, part.version.etag) and modified in (None, part.version.last_modified)


def _retry_after(response: requests.Response) -> float:
    """Seconds that the server asks to wait, given as a number or as a date; 0 where it gives neither."""
    header = response.headers.get("Retry-After", "")
    if re.fullmatch(r"[0-9]+", header):
        return float(header[:18])
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError, OverflowError, IndexError):
        return 0.0


def _kept(part: Part | None) -> str:
    if part is None or not part.can_resume:
        return ""
    return f"; {part.size:,} bytes are kept, and the next run goes on from there"
