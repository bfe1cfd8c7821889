"""The few words of ASGI that the front needs."""

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Channel = Callable[..., Awaitable[Any]]
Application = Callable[[Scope, Channel, Channel], Awaitable[None]]

CODES = {400: "INVALID_PARAMETER_VALUE", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "ENDPOINT_NOT_FOUND"}
BUSY = "TEMPORARILY_UNAVAILABLE"


class Refused(Exception):  # noqa: N818  # a refusal is an answer here, not an error
    """An answer that ends a request."""

    def __init__(self, status: int, reason: str, **headers: str) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, headers


async def answer(send: Channel, refusal: Refused, *, closes: bool) -> None:
    """Send a refusal as MLflow's clients expect it; `closes` where the body stays unread."""
    text = json.dumps({"error_code": CODES.get(refusal.status, BUSY), "message": refusal.reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
    headers += [(name.replace("_", "-").encode(), value.encode()) for name, value in refusal.headers.items()]
    if closes:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def header(scope: Scope, name: bytes) -> bytes:
    """Return a header of a request, empty where there is none. Raises Refused where there are several."""
    found = [value for key, value in scope["headers"] if key == name]
    if len(found) > 1:
        raise Refused(400, f"Expected one header {name.decode()}, got {len(found)}.")
    return bytes(found[0]) if found else b""


def has_body(scope: Scope) -> bool:
    """Tell whether a request says that it has a body."""
    named = dict(scope["headers"])
    return b"transfer-encoding" in named or named.get(b"content-length", b"0") != b"0"


def with_headers(scope: Scope, changed: Mapping[bytes, bytes | None]) -> Scope:
    """Return a request with other headers; None takes one away."""
    kept = [(name, value) for name, value in scope["headers"] if name not in changed]
    return {**scope, "headers": kept + [(name, value) for name, value in changed.items() if value is not None]}
