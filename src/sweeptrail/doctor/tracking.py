"""Whether the tracking server, or the database that stands for it, can be told something."""

import configparser
import shlex
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sweeptrail.doctor import access
from sweeptrail.doctor.access import CREDENTIALS, Access, Server, is_careless
from sweeptrail.doctor.answers import advice, no_answer, status
from sweeptrail.doctor.findings import Finding, guarded
from sweeptrail.doctor.login import look_at_login
from sweeptrail.doctor.packages import installed, requirements
from sweeptrail.errors import SweeptrailError, TrackingError
from sweeptrail.tracking.uri import Tracking, without_credentials

if TYPE_CHECKING:
    from requests import Response

SKEW = 60.0
"""Seconds by which two clocks may differ: times of runs from several machines still sort as they were."""


def look_at_tracking(uri: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Say whether the tracking server, or the database that stands for it, can be told something."""
    try:
        tracking = Tracking.from_environment(dict(environ), uri=uri)
    except TrackingError as error:
        yield Finding("problem", "tracking", str(error), "give --tracking-uri or MLFLOW_TRACKING_URI such a value")
        return
    if tracking.database:
        yield from look_at_sqlite(tracking.database, tracking.uri)
    elif tracking.uri.startswith("http"):
        yield from look_at_server(tracking, environ)
    else:
        found = f"{urlsplit(tracking.uri).scheme}: only servers and SQLite files are looked at"
        yield Finding("warning", "tracking", found, "try it with a small sweep")


def look_at_sqlite(file: Path, uri: str) -> Iterator[Finding]:
    """Say whether an SQLite store takes changes, and whether its tables are those of this MLflow."""
    if not file.exists():
        yield Finding("ok", "tracking", f"{file} is made by the first sweep")
        return
    try:
        with closing(
            sqlite3.connect(f"{file.as_uri()}?mode=rw", access.PATIENCE, isolation_level=None, uri=True)
        ) as store:
            has_tables = store.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
            for statement in ("BEGIN IMMEDIATE", "CREATE TABLE sweeptrail_doctor (probe)", "ROLLBACK"):
                store.execute(statement)
    except sqlite3.Error as error:
        todo = "end the program that holds it" if "locked" in str(error) else "restore it, or write another file"
        yield Finding("problem", "tracking", f"{file} cannot be written: {error}", todo)
        return
    if has_tables:
        from sweeptrail.tracking.client import TrackingServer  # it loads MLflow, which takes 2 s

        try:
            TrackingServer(uri).find("0", "")
        except SweeptrailError as error:
            todo = f"if its tables are another version's: copy the file, then mlflow db upgrade {shlex.quote(uri)}"
            yield Finding("problem", "tracking", str(error), todo)
            return
    yield Finding("ok", "tracking", f"{file} can be written")


def look_at_server(tracking: Tracking, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Say whether a server answers and, if so, how its version, clock, logins and permissions are."""
    try:
        server = Server(tracking.uri, Access.from_environment(environ))
    except (configparser.Error, OSError, ValueError) as error:  # whose text may hold the password
        found = f"{CREDENTIALS} cannot be read ({type(error).__name__})"
        todo = "write [mlflow], mlflow_tracking_username = NAME, mlflow_tracking_password = PASSWORD; a % as %%"
        yield Finding("problem", "login", found, todo)
        return
    if isinstance(server.access.verify, str) and is_careless(environ):
        found = "MLflow takes only one of MLFLOW_TRACKING_INSECURE_TLS and MLFLOW_TRACKING_SERVER_CERT_PATH"
        yield Finding("problem", "tracking", found, "unset MLFLOW_TRACKING_INSECURE_TLS")
        return
    shown = without_credentials(tracking.uri)
    try:
        reply = server.get("version")
    except OSError as error:
        found, todo = no_answer(error)
        yield Finding("problem", "tracking", f"{shown}: {found}", todo)
        return
    if reply.status_code not in (200, 401):
        yield Finding("problem", "tracking", f"{shown}: {status(reply)}", advice(reply))
        return
    yield Finding("ok", "tracking", f"{shown} answers")
    yield from guarded("clock", lambda: look_at_clock(reply))
    if reply.status_code == 200:
        yield from guarded("versions", lambda: look_at_versions(reply.text.strip()[:80]))
    yield from guarded("login", lambda: look_at_login(server, tracking))


def look_at_clock(reply: "Response") -> Iterator[Finding]:
    """Say how far our clock is from that of the server."""
    if not (date := reply.headers.get("Date")):
        yield Finding("ok", "clock", "not compared: the server does not tell the time")
        return
    ahead = time.time() - parsedate_to_datetime(date).timestamp()
    if abs(ahead) > SKEW:
        found = f"this machine is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the server"
        yield Finding("problem", "clock", found, "let NTP set the wrong one of the two: timedatectl set-ntp true")
    else:
        yield Finding("ok", "clock", "the server's differs by less than a minute")


def look_at_versions(theirs: str) -> Iterator[Finding]:
    """Say whether the server's MLflow is one that sweeptrail knows, and not older than ours."""
    from packaging.requirements import Requirement
    from packaging.version import InvalidVersion, Version

    [needed] = [found for found in map(Requirement, requirements()) if found.name == "mlflow"]
    ours = Version(installed("mlflow") or "0")
    try:
        version = Version(theirs)
    except InvalidVersion:
        found = f"expected MLflow's version at /version, got {theirs!r}"
        yield Finding("problem", "versions", found, "correct the address: something else answers there")
        return
    found = f"MLflow {theirs} on the server, {ours} here"
    if not needed.specifier.contains(version, prereleases=True):
        yield Finding("problem", "versions", f"{found}; needed: {needed.specifier}", f"install {needed} on the server")
    elif version.release[:2] < ours.release[:2]:
        todo = f"update the server, or take its version here: pip install mlflow=={theirs}"
        yield Finding("warning", "versions", f"{found}: it may not know all that ours asks for", todo)
    else:
        yield Finding("ok", "versions", found)
