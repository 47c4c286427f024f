"""How slow a server may be and how long it may go on, held where bytes leave the socket.

A timeout of the socket ends with any one byte, and it ends no header, chunk or trailer that never stops.  Here every
byte of an answer is counted, whatever it is for, and so is the time that it was waited for; the time that the caller
takes with it is not.
"""

import io
import os
import time
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from cascadezoo.errors import UsageError

LOWEST_RATE = 1024.0  # bytes a second, on average over a window
WINDOW = 60.0  # seconds of waiting
MOST_OF_HEADERS = 2**20  # bytes before a body, of all answers on the way to it
LARGEST = 2**34  # bytes of a download


class TooSlow(TimeoutError):
    """Bytes came, at less than ``LOWEST_RATE``."""


class Endless(OSError):
    """More bytes came than an answer may have."""


class CutHeaders(ConnectionError):
    """The connection was closed within the headers, which http.client takes for their end."""


def largest_download() -> int:
    """Bytes that a file may have: ``LARGEST``, or ``$CASCADEZOO_MAX_DOWNLOAD_BYTES``.  Raises UsageError."""
    own = os.environ.get("CASCADEZOO_MAX_DOWNLOAD_BYTES", "")
    if not own:
        return LARGEST
    if not (own.isascii() and own.isdecimal() and len(own) < 19 and int(own) > 0):
        raise UsageError(
            f"CASCADEZOO_MAX_DOWNLOAD_BYTES={own[:40]} is no number of bytes: set a whole one, or unset it"
        )
    return int(own)


class Pace:
    """What the answers of one session may take, one after the other."""

    def __init__(self) -> None:
        self.expect_headers()

    def expect_headers(self) -> None:
        """A request goes out: the next bytes are headers."""
        self._in_headers, self._left, self._most = True, MOST_OF_HEADERS, MOST_OF_HEADERS
        self._waited = self._came = 0.0

    def expect_body(self, most: int) -> None:
        """The next bytes are a body, of at most ``most`` bytes with all that frames it."""
        self._in_headers, self._left, self._most = False, most, most

    def count(self, size: int, seconds: float) -> None:
        """So many bytes came after so many seconds.  Raises TooSlow and Endless."""
        self._left -= size
        if self._left < 0:
            raise Endless(f"it goes on beyond {self._most:,} bytes")
        self._waited, self._came = self._waited + seconds, self._came + size
        if self._waited >= WINDOW:
            if size and self._came < LOWEST_RATE * self._waited:
                raise TooSlow(f"less than {LOWEST_RATE:,.0f} bytes a second came for {WINDOW:g} s")
            self._waited = self._came = 0.0

    def require_whole(self, line: bytes) -> None:
        """Raise CutHeaders for a line of the headers without an end."""
        if self._in_headers and not line.endswith(b"\n"):
            raise CutHeaders("the connection ended before the headers did")


class Paced(HTTPAdapter):
    """Connections that keep to a pace."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """As requests does it."""
        super().init_poolmanager(*args, **kwargs)
        _watch(self.poolmanager, self._pace)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """As requests does it."""
        manager = super().proxy_manager_for(*args, **kwargs)
        _watch(manager, self._pace)
        return manager


class PacedSession(requests.Session):
    """A session for one thread, whose answers keep to ``pace``."""

    def __init__(self) -> None:
        super().__init__()
        self.pace = Pace()
        for scheme in ("http://", "https://"):
            self.mount(scheme, Paced(self.pace))

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """None: requests neither follows a redirect nor parses its address, which may be none; ``transport`` does."""
        return None


def _watch(manager: Any, pace: Pace) -> None:
    """Make a pool manager of urllib3's, whichever it is, watch what its connections read."""

    def watched(pool: Any) -> Any:
        class Connection(pool.ConnectionCls):  # type: ignore[misc]
            sock: Any

            def connect(self) -> None:
                super().connect()
                self.sock = _Socket(self.sock, pace)

        return type(pool.__name__, (pool,), {"ConnectionCls": Connection, "paced": True})

    manager.pool_classes_by_scheme = {
        scheme: pool if hasattr(pool, "paced") else watched(pool)  # requests keeps the managers of proxies
        for scheme, pool in manager.pool_classes_by_scheme.items()
    }


class _Socket:
    """A connected socket, whose files are watched."""

    def __init__(self, sock: Any, pace: Pace) -> None:
        self._sock, self._pace = sock, pace

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def makefile(self, mode: str = "rb", *_: Any, **__: Any) -> "_Lines":
        """What http.client reads an answer from."""
        return _Lines(_Raw(self._sock.makefile(mode, buffering=0), self._pace), self._pace)


class _Raw(io.RawIOBase):
    """The bytes of a socket, counted."""

    def __init__(self, file: Any, pace: Pace) -> None:
        self._file, self._pace = file, pace

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        began = time.monotonic()
        size: int = self._file.readinto(buffer)
        self._pace.count(size, time.monotonic() - began)
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


class _Lines(io.BufferedReader):
    """The same, whose headers end where they say so."""

    def __init__(self, raw: _Raw, pace: Pace) -> None:
        super().__init__(raw)
        self._pace = pace

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if len(line) != size:  # too long a line is refused by http.client
            self._pace.require_whole(line)
        return line
