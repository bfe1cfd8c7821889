"""The front: limits, then the login, then the list of what is open, then MLflow's application."""

import json
import logging
import re
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from sweeptrail.server.front import limits, routes
from sweeptrail.server.front.accounts import Account, Accounts
from sweeptrail.server.front.asgi import (
    BUSY,
    Application,
    Channel,
    Refused,
    Scope,
    answer,
    has_body,
    header,
    with_headers,
)
from sweeptrail.server.front.asking import Asked
from sweeptrail.server.front.audit import Audit
from sweeptrail.server.front.identity import CALLER, Caller
from sweeptrail.server.front.limits import Slots
from sweeptrail.server.front.login import Login
from sweeptrail.server.front.rights import Rights
from sweeptrail.server.front.routes import Body, Right, Route

UNCLEAR = re.compile(r"//|\\|/\.\.?(/|$)|[\x00-\x1f\x7f]")
"""What no client of MLflow puts into a path, and what two programs may understand in two ways."""

CHANGES = ("POST", "PUT", "PATCH", "DELETE")

TOO_MANY = "This account has too many requests open; try again in a moment."

AT_ONCE, WAITING = 16, 500
"""Requests of one account that are answered at a time; MLflow has 40 threads for all of them. The rest wait."""

MISTAKES = (b"/9h9h", b"/gkpj", b"ValueError")
"""How SQLAlchemy marks what is wrong with a value: DataError, IntegrityError. All else may be over in a moment."""

HEAVY_AT_ONCE = 2
STREAMS_AT_ONCE = 16

OWN = {b"x-mlflow-workspace": None, b"origin": None, b"content-encoding": None, b"expect": None}
"""What is not handed on: without an origin MLflow allows no page of another site to read its answer."""


@dataclass
class Request:
    """One request on its way, as far as it is known."""

    scope: Scope
    account: Account | None = None
    route: Route | None = None
    asked: Asked | None = None
    is_read: bool = False
    """Whether its body was read to its end, so that the connection can be kept."""
    status: int = 0
    about: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        client = self.scope.get("client")
        return str(client[0]) if client else "unknown"

    @property
    def what(self) -> str:
        return f"{self.scope['method']} {self.scope['path']}"


class Front:
    """Passes on to MLflow what its table of routes has, for those who may, and within limits."""

    def __init__(
        self, application: Application, accounts: Accounts, audit: Audit, *, origins: tuple[str, ...], shared: bool
    ) -> None:
        """`origins` are the pages that may change something; `shared` lets everybody write in everything."""
        self._application, self._accounts, self._audit, self._origins = application, accounts, audit, origins
        self._login = Login(accounts, audit.note)
        self._rights = Rights(accounts, shared_write=shared)
        self._usual = Slots(AT_ONCE, WAITING, TOO_MANY)
        self._heavy = Slots(HEAVY_AT_ONCE, WAITING, TOO_MANY)
        self._streams = Slots(STREAMS_AT_ONCE, WAITING, TOO_MANY)

    async def __call__(self, scope: Scope, receive: Channel, send: Channel) -> None:
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        request = Request(scope)
        try:
            await self._pass_on(request, receive, send)
        except Refused as refusal:
            request.status = refusal.status
            await answer(send, refusal, closes=has_body(scope) and not request.is_read)
        except ConnectionError:  # nobody is there any more
            return
        except ExceptionGroup as group:  # the same, in a task of MLflow's application
            if group.split(ConnectionError)[1]:
                raise
            return
        self._note(request)

    async def _pass_on(self, request: Request, receive: Channel, send: Channel) -> None:
        scope = request.scope
        _refuse_unclear(scope)
        found = routes.find(scope["method"], scope["path"])
        if found and found[0].right is Right.OPEN:
            if has_body(scope):
                raise Refused(400, "Expected no body.")
            await self._application(with_headers(scope, OWN), receive, send)
            return
        request.account = await self._login.account(header(scope, b"authorization"), request.address)
        if not found:
            raise Refused(403, "This part of MLflow is closed on this server.")
        request.route, parts = found
        # MLflow itself lets every page of localhost write, and every page at all ask by GraphQL.
        origin = header(scope, b"origin").decode("latin-1")
        if scope["method"] in CHANGES and origin and origin not in self._origins:
            raise Refused(403, "Cross-origin request blocked")
        async with AsyncExitStack() as slots:
            kind = self._streams if request.route.body is Body.STREAM else self._usual
            await slots.enter_async_context(kind.of(request.account.name))
            if request.route.heavy:
                await slots.enter_async_context(self._heavy.of(request.account.name))
            await self._carry_out(request, parts, receive, send)

    async def _carry_out(self, request: Request, parts: dict[str, str], receive: Channel, send: Channel) -> None:
        scope, route, account = request.scope, request.route, request.account
        assert route
        assert account
        changed: dict[bytes, bytes | None] = {**OWN, b"authorization": None}
        in_address = scope["method"] == "GET" or route.body is not Body.JSON
        body = b""
        if route.body is not Body.STREAM:
            limits.length(scope, limits.FILE if route.body is Body.FILE else limits.JSON)
            body = await limits.read_body(receive)
            request.is_read = True
        asked = Asked.from_address(scope["query_string"]) if in_address else Asked.from_body(body)
        request.asked, request.about = asked, parts
        is_decided = await self._rights.check(route, parts, asked, account)
        if in_address:
            scope = {**scope, "query_string": asked.encoded()}
        elif body or asked.values:
            body = asked.encoded()
            changed |= {b"content-type": b"application/json", b"content-length": str(len(body)).encode()}
        if scope["method"] == "GET":
            body = b""
            changed |= {b"content-length": None, b"content-type": None}
        is_stream = route.body is Body.STREAM
        token = CALLER.set(Caller(account.name, account.is_admin, is_decided))
        try:
            await self._application(
                with_headers(scope, changed),
                limits.unhurried(receive) if is_stream else limits.replayed(body, receive),
                _Answer(request, send).send,
            )
        finally:
            CALLER.reset(token)

    def _note(self, request: Request) -> None:
        """Write down what was changed and what was refused; a wrong login has its line already."""
        is_change = request.route is not None and request.route.right not in _READ_ONLY
        if request.account and (is_change or request.status in (400, 403, 413, 429)):
            values = request.asked.values if request.asked else {}
            about = {**request.about, **{name: _plain(value) for name, value in values.items()}}
            self._audit.note(request.address, request.account.name, f"{request.what} {request.status}", about)


_READ_ONLY = routes.READS - {Right.OWN_PASSWORD}


def _plain(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _refuse_unclear(scope: Scope) -> None:
    if UNCLEAR.search(scope["path"]):
        raise Refused(400, "This path is not understood.")
    names = {name for name, _ in scope["headers"]}
    if b"transfer-encoding" in names and b"content-length" in names:
        raise Refused(400, "Expected a length or pieces, got both.")


class _Answer:
    """Passes an answer of MLflow's on, and takes what is of the database out of an error."""

    def __init__(self, request: Request, send: Channel) -> None:
        self._request, self._send = request, limits.unhurried(send)
        self._start: dict[str, Any] | None = None
        self._error = b""

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._request.status = message["status"]
            # MLflow allows every page of this machine to read its answers, whether it was asked by one or not.
            headers = [item for item in message["headers"] if not item[0].lower().startswith(b"access-control-")]
            message = {**message, "headers": headers}
            if message["status"] >= 400:
                self._start = message
                return
        elif self._start is not None:
            self._error += message.get("body", b"")
            if message.get("more_body", False):
                return
            message = {"type": "http.response.body", "body": self._clean()}
            await self._send(self._start)
        await self._send(message)

    def _clean(self) -> bytes:
        assert self._start
        if b"sqlalche.me" not in self._error and b"psycopg2" not in self._error:
            return self._error
        logging.getLogger("uvicorn.error").warning("%s: %s", self._request.what, self._error[:300])
        status, code, reason = self._start["status"], _code(self._error), "The database does not take this."
        if code == "RESOURCE_ALREADY_EXISTS":
            reason = "There is one of this name already."
        elif b"statement timeout" in self._error and self._request.route and self._request.route.heavy:
            status, code, reason = 400, "INVALID_PARAMETER_VALUE", "This search takes too long; narrow it down."
        elif not any(mistake in self._error for mistake in MISTAKES):
            status, code, reason = 503, BUSY, "The database does not answer; try again in a moment."
        self._request.status = status
        body = json.dumps({"error_code": code, "message": reason}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        self._start = {"type": "http.response.start", "status": status, "headers": headers}
        return body


def _code(error: bytes) -> str:
    """Return the name that MLflow has for what went wrong."""
    try:
        return str(json.loads(error)["error_code"])
    except (ValueError, KeyError, TypeError):
        return "INTERNAL_ERROR"
