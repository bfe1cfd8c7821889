"""What MLflow's server would do and a tracking server for sweeps must not: it is refused, whoever asks."""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Channel = Callable[..., Awaitable[Any]]
Application = Callable[[Scope, Channel, Channel], Awaitable[None]]

CLOSED = re.compile(
    r"/signup|/gateway/|/v1/|/(ajax-)?api/\d\.\d/"
    r"(jobs|mlflow/(assistant|gateway|gateway-proxy|mcp-servers|prompt-optimization|runs/create-promptlab-run"
    r"|scorers|users/create-ui|webhooks|workspaces)(/|$))"
)
"""What runs code on the server, reaches out from it to addresses that a user names, or lets people sign up."""

UNCLEAR = re.compile(r"//|\\|[\x00-\x1f]")
"""What no client of MLflow puts into a path, and what two programs may understand in two ways."""

BODY = 16 << 20
"""Bytes; the largest request of a sweep has 1. MLflow reads the body whole before it looks at the login."""

STREAMED = re.compile(r"/(ajax-)?api/2\.0/mlflow-artifacts/artifacts/")
"""Where MLflow writes to disk as it reads, and looks at the login before: artifacts may be large."""

CHANGES = ("POST", "PUT", "PATCH", "DELETE")


def guarded(application: Application, origins: tuple[str, ...]) -> Application:
    """Return an application that passes on what is not refused; `origins` are the pages that may change something."""

    async def answer(scope: Scope, receive: Channel, send: Channel) -> None:
        refusal = _refusal(scope, origins) if scope["type"] == "http" else None
        if refusal is None:
            await application(scope, receive, send)
            return
        status, reason = refusal
        headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]  # the body stays unread
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": reason.encode()})

    return answer


def _refusal(scope: Scope, origins: tuple[str, ...]) -> tuple[int, str] | None:
    path, headers = scope["path"], dict(scope["headers"])
    if UNCLEAR.search(path):
        return 400, "This path is not understood."
    if CLOSED.match(path):
        return 403, "This part of MLflow is closed on this server."
    # MLflow itself lets every page of localhost write, and every page at all ask by GraphQL.
    if scope["method"] in CHANGES and headers.get(b"origin", origins[0].encode()).decode("latin-1") not in origins:
        return 403, "Cross-origin request blocked"
    if scope["method"] == "PUT" and STREAMED.match(path):
        return None
    if b"transfer-encoding" in headers:
        return 411, "The length of this request has to be known."
    if int(headers.get(b"content-length", b"0")) > BODY:  # a number, or uvicorn has refused it
        return 413, f"This request is larger than {BODY} bytes."
    return None
