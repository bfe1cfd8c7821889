"""Starts the database and MLflow's server, watches both, starts again what dies, ends both in good order."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from sweeptrail.errors import ServerError, UsageError
from sweeptrail.server.app import launch
from sweeptrail.server.app.address import Address
from sweeptrail.server.backup import archive
from sweeptrail.server.database import cluster, postgres
from sweeptrail.server.database.cluster import Database, own_service
from sweeptrail.server.folder import Configuration, Secrets, ServerFolder, read_json, write_json
from sweeptrail.server.process import Service
from sweeptrail.system.locks import locked

PATIENCE = 60.0
"""Seconds that the database and MLflow each have to answer."""

Say = Callable[[str], None]


def serve(
    folder: ServerFolder,
    address: Address,
    asked: Configuration,
    *,
    shared_write: bool,
    say: Say,
    ready: Callable[[bool], None],
) -> None:
    """Run the server until this is interrupted, by an exception in the main thread.

    With `shared_write` accounts write in what others have made too. `say` is told what a person should know; `ready`,
    when the server answers, whether it is the first time.
    Raises ServerError if it is running already or does not start, UsageError for what cannot be meant.
    """
    folder.make()
    with locked(folder.lock) as was_free:
        if not was_free:
            raise ServerError(f"{folder.path}: a server is running here already; see sweeptrail server status")
        address.check()
        folder.running.unlink(missing_ok=True)
        folder.configured(asked)
        if not folder.exists:
            folder.keep_secrets(Secrets.new())
        services: list[Service] = []
        try:
            database = _start_database(folder, services)
            _upgrade(folder, database, say)
            _start_mlflow(folder, address, database, services, shared_write=shared_write)
            write_state(folder, address, database, services)
            is_first = not folder.served.exists()
            write_json(folder.served, {"mlflow": version("mlflow")})
            ready(is_first)
            _watch(services, say, lambda: write_state(folder, address, database, services))
        finally:
            for service in reversed(services):
                service.stop()
            folder.running.unlink(missing_ok=True)


def _start_database(folder: ServerFolder, services: list[Service]) -> Database:
    """Start the database, if it is ours, and return where it is."""
    if theirs := folder.configuration().database_url:
        return Database(theirs, {})
    service, database = own_service(folder, folder.secrets())
    services.append(service)
    cluster.start(service)
    return database


def _start_mlflow(
    folder: ServerFolder, address: Address, database: Database, services: list[Service], *, shared_write: bool
) -> None:
    environment = launch.environment(folder, address, database.for_mlflow, shared_write=shared_write)
    server = Service(
        "tracking server",
        launch.command(address),
        {**environment, **database.environment},
        lambda: launch.answers(address.uri),
        folder.logs / "mlflow.log",
    )
    services.append(server)
    server.start()
    server.wait_until_ready(PATIENCE)


def _watch(services: list[Service], say: Say, changed: Callable[[], None]) -> None:
    while True:
        for service in services:
            if happened := service.revive():
                say(happened)
                changed()
        time.sleep(0.2)


def _upgrade(folder: ServerFolder, database: Database, say: Say) -> None:
    """Bring the tables of another version of MLflow up to date, with a backup first."""
    before = read_json(folder.served).get("mlflow", "")
    if before == version("mlflow") or postgres.is_empty(folder, database.url, database.environment):
        return
    file = folder.backups / f"before-mlflow-{version('mlflow')}.tar"
    say(f"the tables are those of MLflow {before or 'unknown'}; upgrading them, with a backup first: {file}")
    if not file.exists():  # else an upgrade that failed has left it, and nothing was written since
        archive.write(folder, file, database)
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", database.for_mlflow]
    environment = {**os.environ, **database.environment, "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        raise ServerError(f"the tables could not be upgraded: {last}; they are as they were in {file}")
    os.replace(file, file.with_stem(f"{file.stem}-{time.strftime('%Y-%m-%d_%H-%M-%S')}"))


def write_state(folder: ServerFolder, address: Address, database: Database, services: list[Service]) -> None:
    """Write what others may know of the running server."""
    write_json(
        folder.running,
        {
            "pid": os.getpid(),
            "uri": address.uri,
            "since": time.time(),
            "database_url": database.url,
            "services": {service.name: {"pid": service.pid, "restarts": service.restarts} for service in services},
        },
    )


def stop(folder: ServerFolder, patience: float = 90.0) -> None:
    """End the server that runs here, and wait until it has ended. Raises ServerError if it does not."""
    process = int(folder.state()["pid"])
    os.kill(process, signal.SIGTERM)
    limit = time.monotonic() + patience
    while folder.is_running:
        if time.monotonic() > limit:
            raise ServerError(f"the server (process {process}) has not ended within {patience:.0f} s; see {folder.log}")
        time.sleep(0.1)


def start_in_background(folder: ServerFolder, words: list[str], patience: float = 2 * PATIENCE) -> None:
    """Start `sweeptrail server start` as a process of its own, and return when its server answers.

    Raises ServerError with what it said if it ends before.
    """
    folder.make()
    command = [sys.executable, "-m", "sweeptrail", "server", "start", "--quiet", *words]
    said = folder.logs / "start.log"
    with said.open("w") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    limit = time.monotonic() + patience
    # In this order: to look whether somebody holds the lock takes it for a moment, in which the server could not.
    while not (read_json(folder.running).get("pid") == process.pid and folder.is_running):
        if process.poll() is not None:
            kind = UsageError if process.returncode == UsageError.exit_code else ServerError
            raise kind(_without_prefix(said) or f"the server ended at once; see {said}")
        if time.monotonic() > limit:
            process.terminate()
            raise ServerError(f"the server did not answer within {patience:.0f} s; see {folder.logs}")
        time.sleep(0.1)


def _without_prefix(said: Path) -> str:
    lines = [line.removeprefix("error: ") for line in said.read_text().splitlines() if line.startswith("error: ")]
    return "\n".join(lines)
