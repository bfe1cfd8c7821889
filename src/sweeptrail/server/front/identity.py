"""Who asks, as MLflow is told: what the front has found out goes along with the request, by no header."""

from contextvars import ContextVar
from dataclasses import dataclass

from werkzeug.datastructures import Authorization


@dataclass(frozen=True)
class Caller:
    """Who asks, and whether the front has looked already whether they may."""

    name: str
    is_admin: bool
    is_decided: bool


CALLER: ContextVar[Caller] = ContextVar("caller")


def authorization() -> Authorization:
    """Return who asks: MLflow's `authorization_function`. Raises LookupError for what has not passed the front."""
    return Authorization("basic", {"username": CALLER.get().name, "password": ""})


def asks_no_more() -> bool:
    """Tell whether MLflow need not look whether the caller may: in the place of its `sender_is_admin`."""
    caller = CALLER.get()
    return caller.is_admin or caller.is_decided
