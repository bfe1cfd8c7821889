"""A real `mlflow server` of the tests' own, which can be killed and started again at the same address."""

import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sweeptrail.server.database import postgres
from tests.commands import environment
from tests.waiting import PATIENCE, wait_for


class Server:
    """A tracking server with its database and its artifacts in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start, or start again with what it had, and wait until it answers."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start without waiting."""
        self.folder.mkdir(parents=True, exist_ok=True)
        store = ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(self.port), *store],
                cwd=self.folder,
                env=environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"),
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,  # it is several processes, and they must end together
            )

    def wait(self) -> None:
        """Wait until it answers."""
        process = self._process
        assert process
        wait_for(lambda: self._answers() or process.poll() is not None)
        assert process.poll() is None, (self.folder / "server.log").read_text()

    def kill(self) -> None:
        """End every process of the server at once, as a power cut would; one that is not running stays so."""
        if self._process:
            kill_group(self._process)
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=PATIENCE) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@contextmanager
def mlflow_server(folder: Path) -> Iterator[Server]:
    """Run a server for as long as the block lasts."""
    server = Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def process_group(*command: str, cwd: Path, env: dict[str, str]) -> "Iterator[subprocess.Popen[str]]":
    """Start a command for the `with` block, after which neither it nor any process of its own is left."""
    process = subprocess.Popen(
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    with process:
        try:
            yield process
        finally:
            kill_group(process)


def kill_group(process: "subprocess.Popen[Any]") -> None:
    """Kill a process that leads a session of its own, and all that it has started there."""
    with suppress(ProcessLookupError):  # all of them have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    """Return a port that nothing listens on, and that this process has not got from here before.

    A server that is away for a moment must find its port free when it comes back. So it is one that the system does
    not give to outgoing connections, that our database does not choose, and that no other worker of pytest gets.
    """
    for port in _ports:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


def _own_ports() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    own = list(range(10000, postgres.PORTS.start))[worker :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]
    random.SystemRandom().shuffle(own)  # another session of tests may run beside this one
    return itertools.cycle(own)


_ports = _own_ports()
