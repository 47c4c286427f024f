"""A port, and the process that listens on it until it is told to end."""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from cascadezoo.errors import UsageError
from cascadezoo.serving.app import App
from cascadezoo.serving.connections import cut_after
from cascadezoo.serving.request_log import RequestLog

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_GRACE = 120  # seconds for the requests that are there when the server is told to end


def bound(host: str, port: int) -> socket.socket:
    """A socket of this address, on which nobody listens yet; port 0 is any free one.

    Raises UsageError where the address cannot be had.
    """
    opened = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind, protocol)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        return opened
    except (OSError, UnicodeError) as error:  # the latter for a text that is no host's name
        if opened is not None:
            opened.close()
        raise _not_had(host, port, error) from error


def address(opened: socket.socket) -> str:
    """The server's address as a client types it."""
    host, port = opened.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def run(app: App, opened: socket.socket, listening: Callable[[], None]) -> bool:
    """Serve until SIGTERM or SIGINT; then take no more connections, answer what is there, and return.

    ``listening`` is called when clients can connect: they are answered, or wait for it.

    Returns whether all requests were answered: a second SIGINT, or the end of the grace, cuts off those that are left.

    Raises UsageError where another program has begun to listen on the address since ``bound``, which two may bind, and
    MissingResource where the machine does not start the threads of the server.
    """
    log = RequestLog(app.asgi, lambda: server.should_exit)
    config = uvicorn.Config(
        log,
        log_config=None,
        access_log=False,
        http=cut_after(app.settings.body_seconds),
        ws="none",
        loop="asyncio",
        lifespan="on",
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    server = uvicorn.Server(config)
    with _handled(server.handle_exit):
        try:
            opened.listen()
        except OSError as error:
            host, port = opened.getsockname()[:2]
            raise _not_had(host, port, error) from error
        listening()
        try:
            server.run(sockets=[opened])
        finally:
            if log.failure is not None:  # for which uvicorn exits
                raise log.failure from None
    return log.cut_off == 0


def _not_had(host: str, port: int, error: OSError | UnicodeError) -> UsageError:
    reason = (isinstance(error, OSError) and error.strerror) or error
    return UsageError(f"cannot listen on port {port} of {host} ({reason}): give another --port or --host")


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Signals that come before uvicorn handles them itself are not lost; and when it has ended it sends those that it
    got again, to whoever had them before: here they ask for nothing more."""
    before = {each: signal.signal(each, handler) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, other in before.items():
            signal.signal(each, other)
