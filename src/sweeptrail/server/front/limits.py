"""How much a request may take, and how many there may be."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sweeptrail.server.front.asgi import Channel, Refused, Scope, header

JSON = 4 << 20
"""Bytes; the largest request of a sweep has 1 MB, and MLflow reads what it says several times over."""

QUERY = 20_000
"""Bytes of a question in GraphQL, of which the UI's have 3,000; MLflow's parser takes seconds for long ones."""

FILE = 16 << 20
"""Bytes of a file that MLflow reads whole; any artifact is written as it arrives, and may be larger."""

PIECES = 50_000
"""Objects and lists in a request: 1,000 metrics are as many."""

TERMS = 30
"""Comparisons in a filter, each of which the database joins a table for."""

PAGE = 2_000
"""Results of one search."""

SILENCE = 15.0
"""Seconds without a byte of the body."""

BODY_TIME = 60.0
"""Seconds for a body that is read whole."""

LARGE_SILENCE = 60.0
"""Seconds without a byte of an artifact, up or down."""


class Slots:
    """How many of one kind go on at once for each of several owners, and how many more may wait."""

    def __init__(self, at_once: int, waiting: int, refusal: str) -> None:
        self._at_once, self._waiting, self._refusal = at_once, waiting, refusal
        self._slots: dict[str, tuple[asyncio.Semaphore, int]] = {}

    @asynccontextmanager
    async def of(self, owner: str) -> AsyncIterator[None]:
        """Wait for a place. Raises Refused if too many wait for one."""
        semaphore, count = self._slots.get(owner) or (asyncio.Semaphore(self._at_once), 0)
        if count >= self._at_once + self._waiting:
            raise Refused(429, self._refusal, retry_after="1")
        self._slots[owner] = semaphore, count + 1
        try:
            async with semaphore:
                yield
        finally:
            _, count = self._slots.pop(owner)
            if count > 1:
                self._slots[owner] = semaphore, count - 1


def length(scope: Scope, most: int) -> int:
    """Return how long a body that is read whole is. Raises Refused if that is too long, or unknown."""
    if header(scope, b"transfer-encoding"):
        raise Refused(411, "The length of this request has to be known.")
    found = int(header(scope, b"content-length") or 0)  # a number, or uvicorn has refused it
    if found > most:
        raise Refused(413, f"This request is larger than {most} bytes.")
    return found


async def read_body(receive: Channel) -> bytes:
    """Return a body whole. Raises Refused if it comes too slowly, ConnectionError if it ends before its end."""
    parts: list[bytes] = []
    try:
        async with asyncio.timeout(BODY_TIME):
            while True:
                async with asyncio.timeout(SILENCE):
                    message = await receive()
                if message["type"] != "http.request":
                    raise ConnectionError("the client left")
                parts.append(message.get("body", b""))
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise Refused(408, "This request came too slowly.") from None


def unhurried(channel: Channel) -> Channel:
    """Return a channel of a large file that breaks off when the other side is silent for too long."""

    async def timed(*message: object) -> object:
        try:
            async with asyncio.timeout(LARGE_SILENCE):
                return await channel(*message)
        except TimeoutError:
            raise ConnectionError(f"the client was silent for {LARGE_SILENCE:.0f} s") from None

    return timed


def replayed(body: bytes, receive: Channel) -> Channel:
    """Return a channel on which a body comes that was read already, and then what comes after it."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def channel() -> object:
        return messages.pop() if messages else await receive()

    return channel
