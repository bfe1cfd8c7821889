"""A team's server for as long as it is measured, and people with accounts on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import requests

from scripts.benchmarks.delays import free_port
from scripts.benchmarks.processes import CommandError, run, scratch
from sweeptrail.server import supervisor, users
from sweeptrail.server.folder import ServerFolder

PATIENCE = 60.0
"""Seconds that one request may take."""


class Person(NamedTuple):
    """Somebody who uses a tracking server; without a name where there are no logins."""

    uri: str
    name: str = ""
    password: str = ""

    @property
    def variables(self) -> dict[str, Any]:
        """The environment of this person's commands."""
        login = {"MLFLOW_TRACKING_USERNAME": self.name, "MLFLOW_TRACKING_PASSWORD": self.password}
        return {"MLFLOW_TRACKING_URI": self.uri, **(login if self.name else {})}

    def session(self) -> requests.Session:
        """Return a connection that is kept."""
        session = requests.Session()
        session.trust_env = False  # no proxy between us and our own server
        session.auth = (self.name, self.password) if self.name else None
        return session

    def ask(self, session: requests.Session, method: str, path: str, **content: Any) -> Any:
        """Return what the server answers. Raises CommandError for anything but a success."""
        reply = session.request(method, f"{self.uri}/{path}", timeout=PATIENCE, **content)
        if not reply.ok:
            raise CommandError(f"{method} {path}: {reply.status_code} {reply.text[:1000]}")
        return reply.json()

    def experiment(self, session: requests.Session, name: str) -> str:
        """Return the id of an experiment, which is made."""
        made = self.ask(session, "POST", "api/2.0/mlflow/experiments/create", json={"name": name})
        return str(made["experiment_id"])


@contextmanager
def team_place() -> Iterator[ServerFolder]:
    """Yield a place for a server, which is ended after the block and leaves nothing."""
    with scratch() as folder:
        folder.chmod(0o711)  # as root, PostgreSQL runs as an account of its own, which must be able to pass
        place = ServerFolder(folder / "server")
        try:
            yield place
        finally:
            if place.is_running:
                supervisor.stop(place)


def start(place: ServerFolder) -> float:
    """Return how many seconds it takes until the server answers."""
    words = ["server", "start", "--background", "--folder", str(place.path), "--port", str(free_port())]
    return run(["-m", "sweeptrail", *words], place.path.parent)


def person(place: ServerFolder, name: str) -> Person:
    """Return somebody new, who may log runs into every experiment."""
    return Person(place.state()["uri"], name, users.add(place, name))
