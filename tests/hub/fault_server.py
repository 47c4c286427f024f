"""A threaded HTTP server whose answers can be spoilt: what the tests of the hub download from.

    with FaultServer() as server:
        server.put("/a.bin", data, faults=[Status(503), Cut(1000)])   # two bad answers, good ones afterwards
        fetch(server.url("/a.bin"), ...)
        assert server.ranges("/a.bin") == [None, None, "bytes=1000-"]

A fault spoils one GET; each GET of a path takes the next.  Everything else is as a good static server does it: ETag,
Last-Modified, Range, If-Range, Content-Length, HEAD.
"""

import gzip
import hashlib
import re
import socket
import ssl
import struct
import subprocess
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_CHUNK = 64 * 1024


@dataclass(frozen=True)
class Status:
    """An error instead of the file."""

    code: int
    retry_after: str | None = None


@dataclass(frozen=True)
class Cut:
    """The connection is closed after so many bytes of the body, which was announced whole."""

    after: int


@dataclass(frozen=True)
class Reset:
    """The same, but with a reset (RST)."""

    after: int


@dataclass(frozen=True)
class Stall:
    """Nothing more comes after so many bytes; the connection stays open until the server ends."""

    after: int


@dataclass(frozen=True)
class Short:
    """Content-Length is so many bytes, and only those are sent: a file that looks whole and is not."""

    length: int


@dataclass(frozen=True)
class Redirect:
    """Another address."""

    location: str
    code: int = 302


@dataclass(frozen=True)
class Wrong:
    """Other bytes, once, under an ETag of their own."""

    body: bytes


@dataclass(frozen=True)
class Partial:
    """A partial answer of the server's own choice: the bytes from ``start`` on, under these headers and no others."""

    start: int
    headers: dict[str, str]
    code: int = 206


Fault = Status | Cut | Reset | Stall | Short | Redirect | Wrong | Partial


@dataclass
class Resource:
    """What is served at a path; ``put`` again to change it upstream.

    ``ranges``: whether Range is honoured.  ``checks_if_range``: a bad server sends a part of the new file all the
    same.  ``pause``: seconds between blocks of 64 KiB.
    """

    body: bytes | Path
    etag: str | None = None
    last_modified: str | None = None
    ranges: bool = True
    checks_if_range: bool = True
    gzip: bool = False
    chunked: bool = False
    pause: float = 0.0
    redirect: Redirect | None = None
    faults: deque[Fault] = field(default_factory=deque)

    def data(self) -> bytes:
        body = self.body.read_bytes() if isinstance(self.body, Path) else self.body
        return gzip.compress(body, 1) if self.gzip else body


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]


class FaultServer(ThreadingHTTPServer):
    """Serves what was ``put``; ``requests`` lists every request in the order they came."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.resources: dict[str, Resource] = {}
        self.requests: list[Request] = []
        self.ended = threading.Event()
        self.scheme = "http"
        if certificate:
            self.scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)

    def __enter__(self) -> "FaultServer":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what these tests are about."""

    def put(self, path: str, body: bytes | Path, faults: Iterable[Fault] = (), **how: object) -> Resource:
        """Serve ``body`` at ``path``, under an ETag of its content unless ``etag`` is given (None: no ETag)."""
        if "etag" not in how:
            data = body if isinstance(body, bytes) else str((body, body.stat().st_size)).encode()
            how["etag"] = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        self.resources[path] = Resource(body, faults=deque(faults), **how)  # type: ignore[arg-type]
        return self.resources[path]

    def url(self, path: str = "") -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}{path}"

    def ranges(self, path: str) -> list[str | None]:
        """The Range header of each GET of a path."""
        return [r.headers.get("range") for r in self.requests if r.path == path and r.method == "GET"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(None)

    def do_GET(self) -> None:
        resource = self.server.resources.get(self.path)
        self._answer(resource.faults.popleft() if resource and resource.faults else None)

    def _answer(self, fault: Fault | None) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append(Request(self.command, self.path, headers))
        resource = self.server.resources.get(self.path)
        if resource is None:
            return self._bare(404)
        fault = fault or resource.redirect
        if isinstance(fault, Status):
            return self._bare(fault.code, {"Retry-After": fault.retry_after} if fault.retry_after else {})
        if isinstance(fault, Redirect):
            return self._bare(fault.code, {"Location": fault.location})
        if isinstance(fault, Partial):
            return self._partial(resource, fault)
        return self._file(resource, headers, fault)

    def _partial(self, resource: Resource, fault: Partial) -> None:
        body = resource.data()[fault.start :]
        self.send_response(fault.code)
        for name, value in (fault.headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self._send(body, resource, None)

    def _bare(self, code: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _file(self, resource: Resource, headers: dict[str, str], fault: Fault | None) -> None:
        data, etag = resource.data(), resource.etag
        if isinstance(fault, Wrong):
            data, etag = fault.body, '"wrong"'
        start, code = 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
        unchanged = headers.get("if-range") in (None, etag, resource.last_modified) or not resource.checks_if_range
        if asked and resource.ranges and unchanged:
            start, code = int(asked[1]), 206
            if start >= len(data):
                self._bare(416, {"Content-Range": f"bytes */{len(data)}"})
                return
        body = data[start:]
        if isinstance(fault, Short):
            body = body[: fault.length]
        self.send_response(code)
        if code == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if etag:
            self.send_header("ETag", etag)
        if resource.last_modified:
            self.send_header("Last-Modified", resource.last_modified)
        if resource.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if resource.gzip:
            self.send_header("Content-Encoding", "gzip")
        self.send_header(
            *(("Transfer-Encoding", "chunked") if resource.chunked else ("Content-Length", str(len(body))))
        )
        self.end_headers()
        if self.command == "GET":
            self._send(body, resource, fault)

    def _send(self, body: bytes, resource: Resource, fault: Fault | None) -> None:
        until = fault.after if isinstance(fault, Cut | Reset | Stall) else len(body)
        for at in range(0, until, _CHUNK):
            block = body[at : min(at + _CHUNK, until)]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(block), block) if resource.chunked else block)
            if resource.pause and self.server.ended.wait(resource.pause):
                return
        if isinstance(fault, Cut | Reset | Stall):
            self._break_off(fault)
        elif resource.chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _break_off(self, fault: Cut | Reset | Stall) -> None:
        self.close_connection = True
        if isinstance(fault, Stall):
            self.server.ended.wait(60)
        elif isinstance(fault, Reset):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key, made by openssl."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key
