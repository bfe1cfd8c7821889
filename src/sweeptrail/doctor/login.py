"""Whom the server takes us for, and whether that account may log runs."""

import shlex
from collections.abc import Iterator

from sweeptrail.doctor.access import CREDENTIALS, Access, Server
from sweeptrail.doctor.answers import advice, status
from sweeptrail.doctor.findings import Finding, guarded
from sweeptrail.tracking.uri import Tracking

SET_LOGIN = f"set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or write both into {CREDENTIALS}"

WRITERS = ("EDIT", "MANAGE")
"""The permissions of MLflow with which runs can be logged."""


def look_at_login(server: Server, tracking: Tracking) -> Iterator[Finding]:
    """Say whom the server takes us for, and whether that account may log runs."""
    reply = server.get("api/2.0/mlflow/users/current")
    if reply.status_code == 401:
        yield _refused(server.access)
    elif reply.status_code == 404:
        yield Finding("ok", "login", "the server asks for none")
        yield from guarded("experiment", lambda: look_at_experiment(server, tracking, writer=""))
    elif reply.status_code == 200:
        user = reply.json()["user"]
        yield Finding("ok", "login", f"the server knows {user['username']}")
        writer = "" if user["is_admin"] else user["username"]
        yield from guarded("experiment", lambda: look_at_experiment(server, tracking, writer=writer))
    else:
        yield Finding("problem", "login", status(reply), advice(reply))


def _refused(access: Access) -> Finding:
    if access.headers:
        who = f"the password of {access.username}" if access.username and access.password else "MLFLOW_TRACKING_TOKEN"
        todo = f"correct it ({SET_LOGIN}), or ask the administrator for another"
        return Finding("problem", "login", f"HTTP 401: the server refuses {who}", todo)
    if access.username or access.password:
        missing = "password" if access.username else "name"
        return Finding("problem", "login", f"HTTP 401: the {missing} of the account is missing", SET_LOGIN)
    return Finding("problem", "login", "HTTP 401: the server asks for a login, and there is none", SET_LOGIN)


def look_at_experiment(server: Server, tracking: Tracking, *, writer: str) -> Iterator[Finding]:
    """Say whether there is the experiment of a sweep, and whether `writer`, unless empty, may log runs in it."""
    if name := tracking.experiment.get("name"):
        reply = server.get("api/2.0/mlflow/experiments/get-by-name", experiment_name=name)
    else:
        experiment_id = tracking.experiment.get("id", "0")
        reply = server.get("api/2.0/mlflow/experiments/get", experiment_id=experiment_id)
    if reply.status_code == 404 and name:
        yield Finding("ok", "experiment", f"{name} is made by the first sweep")
    elif reply.status_code == 404:
        yield Finding("problem", "experiment", status(reply), "set MLFLOW_EXPERIMENT_NAME to a name, which may be new")
    elif reply.status_code == 403:
        yield _may_not(writer, name or "the experiment", "may not read")
    elif reply.status_code != 200:
        yield Finding("problem", "experiment", status(reply), advice(reply))
    elif (found := reply.json()["experiment"])["lifecycle_stage"] != "active":
        todo = f"mlflow experiments restore -x {found['experiment_id']}, or set MLFLOW_EXPERIMENT_NAME to another"
        yield Finding("problem", "experiment", f"{found['name']} is deleted", todo)
    elif writer and (permission := _permission(server, writer, found["experiment_id"])) not in WRITERS:
        yield _may_not(writer, found["name"], f"has {permission} on")
    else:
        yield Finding("ok", "experiment", f"{found['name']} can be {'written' if writer else 'read'}")


def _permission(server: Server, writer: str, experiment_id: str) -> str:
    asked = {"username": writer, "resource_type": "experiment", "resource_id": experiment_id}
    reply = server.get("api/3.0/mlflow/users/permissions/get", **asked)
    reply.raise_for_status()
    return str(reply.json()["permission"])


def _may_not(writer: str, experiment: str, why: str) -> Finding:
    command = f"sweeptrail server set-permission {shlex.quote(writer)} EDIT"
    found = f"{writer} {why} {experiment}, and a sweep needs EDIT (else HTTP 403)"
    return Finding("problem", "experiment", found, f"ask the administrator for: {command}")
