"""Where the server's database is, started for as long as it is needed."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from sweeptrail.errors import ServerError
from sweeptrail.server.database import postgres
from sweeptrail.server.database.account import own_account
from sweeptrail.server.folder import Secrets, ServerFolder, own_database_url
from sweeptrail.server.process import Service
from sweeptrail.system.locks import locked

PATIENCE = 60.0
"""Seconds that PostgreSQL has to answer, also when it has to recover from a crash."""


LEAVING = 10.0
"""Seconds that one which was killed has to be gone."""


@dataclass(frozen=True)
class Database:
    """A PostgreSQL database: its address, and what its own library needs to find the password."""

    url: str
    environment: Mapping[str, str]

    @property
    def for_mlflow(self) -> str:
        """The address with the driver named, since SQLAlchemy's usual one depends on its version."""
        return self.url.replace("postgresql://", "postgresql+psycopg2://", 1)


def own_service(folder: ServerFolder, secrets: Secrets) -> tuple[Service, Database]:
    """Return the PostgreSQL that we bring, made when it is missing and not started yet."""
    postgres.make(folder, secrets.database_password)
    port = postgres.free_port()
    service = Service(
        "database",
        postgres.command(folder, port),
        {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"},
        lambda: postgres.is_ready(folder, port),
        folder.logs / "postgresql.log",
        account=own_account(),
        stop_signal=postgres.FAST,
        grace=PATIENCE,
    )
    return service, Database(own_database_url(port), {"PGPASSWORD": secrets.database_password})


def start(service: Service) -> None:
    """Start PostgreSQL and wait until it answers. Raises ServerError if it does not.

    One that was killed a moment ago, with whoever looked after it, may not be gone yet.
    """
    limit = time.monotonic() + LEAVING
    while True:
        try:
            service.start()
            service.wait_until_ready(PATIENCE)
            return
        except ServerError as error:
            if "another postmaster" not in str(error) or time.monotonic() > limit:
                raise
            service.stop()
            time.sleep(0.5)


@contextmanager
def database(folder: ServerFolder) -> Iterator[Database]:
    """Yield the database of a server, running or not; ours is started and ended when the server is not running."""
    configuration = folder.configuration()
    if configuration.database_url:
        yield Database(configuration.database_url, {})
        return
    secrets = folder.secrets()
    with locked(folder.lock) as was_free:
        if was_free:
            service, found = own_service(folder, secrets)
            try:
                start(service)
                yield found
            finally:
                service.stop()
            return
    yield Database(folder.state()["database_url"], {"PGPASSWORD": secrets.database_password})
