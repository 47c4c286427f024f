"""A server that sends the bytes it is given, whatever they are, and hangs up: what no sound server sends."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from types import TracebackType
from typing import Self

Answer = bytes | Callable[[], Iterator[bytes]]

OK = b"HTTP/1.1 200 OK\r\n"


class RawServer:
    """Answers the n-th connection with the n-th of ``answers``, and all later ones with the last."""

    def __init__(self, *answers: Answer, pause: float = 0.0) -> None:
        self._answers, self._pause = answers, pause
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.connections = 0
        self.requests: list[bytes] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._listener.close()

    def url(self, path: str = "/a.bin") -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}{path}"

    def _serve(self) -> None:
        for number in count():
            with suppress(OSError):
                connection, _ = self._listener.accept()
                self.connections += 1
                answer = self._answers[min(number, len(self._answers) - 1)]
                threading.Thread(target=self._answer, args=(connection, answer), daemon=True).start()
            if self._ended.is_set():
                return

    def _answer(self, connection: socket.socket, answer: Answer) -> None:
        with connection, suppress(OSError):
            self.requests.append(connection.recv(65536))
            for block in (answer,) if isinstance(answer, bytes) else answer():
                if self._ended.is_set():
                    return
                connection.sendall(block)
                if self._pause:
                    time.sleep(self._pause)
