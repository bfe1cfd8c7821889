"""A real server for a team of the tests' own, started and ended by the commands that people use."""

import json
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient

from tests.commands import environment
from tests.server import free_port
from tests.waiting import PATIENCE


class TeamServer:
    """A server with everything that is its own in one folder, at one port for as long as the test lasts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Start, or start again with what it had, and return when it answers."""
        words = ("start", "--background", "--port", str(self.port), *options)
        started = self.command(*words, **environment)
        assert started.returncode == 0, started.stderr
        with urllib.request.urlopen(f"{self.uri}/health", timeout=PATIENCE) as reply:
            assert reply.status == 200
        return started

    def stop(self) -> None:
        """End it in good order; one that is not running stays so."""
        self.command("stop")

    def command(self, *words: str, input: str = "", **more: str) -> subprocess.CompletedProcess[str]:  # noqa: A002
        """Run `sweeptrail server WORDS` on this server's folder."""
        return subprocess.run(
            [sys.executable, "-m", "sweeptrail", "server", *words, "--folder", str(self.folder)],
            cwd=self.folder.parent,
            env=environment(**more),
            input=input,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def state(self) -> dict[str, Any]:
        """Return what the running server says of itself."""
        state: dict[str, Any] = json.loads((self.folder / "running.json").read_text())
        return state

    @property
    def admin(self) -> tuple[str, str]:
        """The administrator's name and password."""
        return "admin", json.loads((self.folder / "secrets.json").read_text())["admin_password"]

    def add_user(self, name: str, *options: str) -> tuple[str, str]:
        """Make an account; return its name and password."""
        added = self.command("add-user", name, *options)
        assert added.returncode == 0, added.stderr
        [password] = [line.partition("PASSWORD=")[2] for line in added.stdout.splitlines() if "PASSWORD=" in line]
        return name, password


@contextmanager
def client(server: TeamServer, account: tuple[str, str]) -> Iterator[MlflowClient]:
    """Speak to a server as somebody."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", account[0])
        patch.setenv("MLFLOW_TRACKING_PASSWORD", account[1])
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # else an error takes minutes
        yield MlflowClient(server.uri)


@contextmanager
def team_server(*options: str, **environment: str) -> Iterator[TeamServer]:
    """Run a server for as long as the block lasts, after which nothing of it is left."""
    with server_folder() as folder:
        server = TeamServer(folder)
        server.start(*options, **environment)
        yield server


@contextmanager
def server_folder() -> Iterator[Path]:
    """Name a folder that a server can be started in; what still runs there at the end of the block is ended.

    pytest's own folders are closed to the account that runs PostgreSQL where we are root.
    """
    parent = Path(tempfile.mkdtemp(prefix="sweeptrail-")).resolve()
    parent.chmod(0o755)
    try:
        yield parent / "server"
    finally:
        for lock in parent.glob("*/running.json"):
            TeamServer(lock.parent).stop()
        _, left = psutil.wait_procs(processes(parent), timeout=PATIENCE)  # the lock is let go a moment before the end
        for process in left:
            process.kill()
        shutil.rmtree(parent)
    assert left == [], "these were left running"


def processes(folder: Path) -> list[psutil.Process]:
    """Return the processes that work in a folder or below, or were told its name."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(folder) or any(str(folder) in word for word in process.cmdline()):
                found.append(process)
    return found
