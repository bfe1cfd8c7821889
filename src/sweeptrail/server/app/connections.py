"""Connections: how many there may be, and how long one may take to say what it wants."""

import asyncio
import resource
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS = 10.0
"""Seconds for the headers of a request, from its first byte, or from the connection's beginning."""

MOST = 2_000
"""Connections at most, where the system allows as many files."""


def most_connections() -> int:
    """Raise the number of files that this process may open, and return how many connections that is enough for."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MOST + 500  # each may have a file of an artifact open
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(50, min(MOST, (soft - 200) // 2))


class Connection(H11Protocol):
    """A connection that is ended when it is silent in the middle of its headers.

    Where there are too many, the one is ended that has said nothing for longest: a person's is in no danger, since a
    client opens another one when its kept connection is gone.
    """

    most = MOST

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        _idle[self] = None
        self._limit: asyncio.TimerHandle | None = None
        self._arm()
        if len(self.connections) > self.most and (idlest := next(_by_use(), None)):
            idlest.end()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_busy():
            self._disarm()
            _idle.pop(self, None)
        elif not self._limit and not self.transport.is_closing():
            self._arm()  # a byte after an answer ends the time for which a connection is kept

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._is_busy():
            _idle.pop(self, None)
            _idle[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        _idle.pop(self, None)
        super().connection_lost(exc)

    def end(self) -> None:
        _idle.pop(self, None)
        self.transport.abort()

    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _arm(self) -> None:
        self._limit = self.loop.call_later(HEADERS, self.end)

    def _disarm(self) -> None:
        if self._limit:
            self._limit.cancel()
            self._limit = None


_idle: dict[Connection, None] = {}
"""Connections without a request, the one that has waited longest first."""


def _by_use() -> Any:
    """Yield connections without a request: first those that have never made one."""
    yield from [found for found in _idle if found.cycle is None]
    yield from list(_idle)
