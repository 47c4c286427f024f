"""How long a connection may stay without a request that is being worked on, which uvicorn alone does not bound."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class Connection(H11Protocol):
    """A client's connection, cut where for ``seconds`` on end no request is under way on it.

    So nobody holds one by half a header, by what is left of a body that was refused, or by not taking the answer.
    What is idle between two requests uvicorn closes itself, after 5 seconds.
    """

    seconds: float
    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Of asyncio."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Of asyncio."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Of uvicorn: the answer has been written, though the client need not have taken it."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio."""
        super().connection_lost(exc)
        self._forget()

    def _unsupported_upgrade_warning(self) -> None:
        """Of uvicorn, which would advise to install a library: nothing here is for WebSockets, as the answer says."""

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget()
        elif self._end is None:
            self._end = self.loop.call_later(self.seconds, self.transport.abort)

    def _forget(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None


def cut_after(limit: float) -> type[Connection]:
    """Connections of so many seconds, as uvicorn takes them."""

    class Limited(Connection):
        seconds = limit

    return Limited
