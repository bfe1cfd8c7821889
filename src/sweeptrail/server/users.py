"""Who may do what on a team's server, by MLflow's own interface."""

import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import requests

from sweeptrail.errors import ServerError, UsageError
from sweeptrail.server.folder import ADMIN, ServerFolder

EVERYTHING = ("experiment", "registered_model")
"""What a sweep makes and writes to, besides runs and versions, which belong to these."""

LEVELS = ("DENY", "READ", "USE", "EDIT", "MANAGE")

NAME = re.compile(r"[A-Za-z0-9][\w.@+-]{0,99}", re.ASCII)
"""Without a colon, on which HTTP splits a login, and without letters that clients encode in two ways."""

PATIENCE = 30.0
"""Seconds that a request may take."""


def add(folder: ServerFolder, name: str, *, permission: str = "EDIT", password: str = "") -> str:
    """Make an account that may do this with every experiment and registered model; return its password.

    Raises UsageError for a name that is taken or cannot be one.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"expected a name of letters, digits and . _ @ + -, got {name!r}")
    # MLflow's own answer to that shows the hash of the password; and nobody should take ADMIN for admin.
    if taken := next((other for other in names(folder) if other.lower() == name.lower()), None):
        raise UsageError(f"{taken}: has an account already; sweeptrail server set-password {taken}")
    password = password or secrets.token_urlsafe(16)
    _ask(folder, "POST", "2.0/mlflow/users/create", json={"username": name, "password": password})
    try:
        set_everything(folder, name, permission)
    except BaseException:
        remove(folder, name)
        raise
    return password


def remove(folder: ServerFolder, name: str) -> None:
    """Delete an account; what it has logged stays."""
    if name == ADMIN:
        raise UsageError(f"{ADMIN}: this account looks after the others; it stays")
    _ask(folder, "DELETE", "2.0/mlflow/users/delete", json={"username": name})


def change_password(folder: ServerFolder, name: str, password: str = "") -> str:
    """Give an account another password, and return it."""
    password = password or secrets.token_urlsafe(16)
    content = {"username": name, "password": password}
    if name == ADMIN:  # as whom we ask, and one's own is changed only with the present one
        content["current_password"] = folder.secrets().admin_password
    _ask(folder, "PATCH", "2.0/mlflow/users/update-password", json=content)
    if name == ADMIN:
        folder.with_admin_password(password)
    return password


def set_everything(folder: ServerFolder, name: str, permission: str) -> None:
    """Let an account do this with every experiment and registered model, and no more with any of them.

    What it was given for single ones, such as those that it has made, is taken away where it is more.
    """
    for kind in EVERYTHING:
        _grant(folder, name, kind, "*", permission)
    if LEVELS.index(permission) >= LEVELS.index("EDIT"):
        return
    found = _ask(folder, "GET", "3.0/mlflow/users/permissions/list", params={"username": name})["permissions"]
    for grant in found:
        kind, which = grant["resource_type"], grant["resource_pattern"]
        if which != "*" and LEVELS.index(grant["permission"]) > LEVELS.index(permission):
            about = {"username": name, "resource_type": kind, "resource_id": which}
            _ask(folder, "POST", "3.0/mlflow/users/permissions/revoke", json=about)


def set_permission(folder: ServerFolder, name: str, permission: str, *, experiment: str = "", model: str = "") -> None:
    """Let an account do this with one experiment or registered model, by name, or with all of them."""
    if experiment:
        found = _ask(folder, "GET", "2.0/mlflow/experiments/get-by-name", params={"experiment_name": experiment})
        _grant(folder, name, "experiment", found["experiment"]["experiment_id"], permission)
    elif model:
        _ask(folder, "GET", "2.0/mlflow/registered-models/get", params={"name": model})  # MLflow's grant does not look
        _grant(folder, name, "registered_model", model, permission)
    else:
        set_everything(folder, name, permission)


def names(folder: ServerFolder) -> Iterator[str]:
    """Yield the names of all accounts."""
    for user in _ask(folder, "GET", "2.0/mlflow/users/list")["users"]:
        yield user["username"]


def _grant(folder: ServerFolder, name: str, kind: str, which: str, permission: str) -> None:
    about = {"username": name, "resource_type": kind, "resource_id": which}
    grant = {**about, "permission": permission}
    with suppress(UsageError):  # there was none; where there was one, MLflow takes no second
        _ask(folder, "POST", "3.0/mlflow/users/permissions/revoke", json=about)
    _ask(folder, "POST", "3.0/mlflow/users/permissions/grant", json=grant)


def _ask(folder: ServerFolder, method: str, path: str, **content: Any) -> Any:
    """Ask the running server as its administrator. Raises UsageError for what it refuses."""
    uri, password = folder.state()["uri"], folder.secrets().admin_password
    try:
        with requests.Session() as session:
            session.trust_env = False  # no proxy between us and our own server, no .netrc
            reply = session.request(
                method, f"{uri}/api/{quote(path)}", auth=(ADMIN, password), timeout=PATIENCE, **content
            )
    except requests.RequestException as error:
        raise ServerError(f"{uri}: the server did not answer: {error}") from error
    if reply.ok:
        return reply.json() if reply.content else {}
    try:
        message = reply.json()["message"]
    except (ValueError, KeyError):
        message = reply.text.strip().partition("\n")[0]
    if reply.status_code == 401:
        raise ServerError(f"{uri}: the password of {ADMIN} was changed elsewhere: {message}")
    message = message.partition("\n")[0]  # the rest would be SQL, with its values
    raise UsageError(message) if reply.status_code < 500 else ServerError(f"{uri}: {message}")
