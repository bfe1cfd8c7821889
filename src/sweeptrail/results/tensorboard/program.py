"""TensorBoard as a program of its own: what it shows, its port, its start and its end."""

import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sweeptrail.errors import SettingsError, SweeptrailError
from sweeptrail.outbox.delivery.state import STATE_NAME, run_ids
from sweeptrail.outbox.sweep_folder import LOCK
from sweeptrail.results.find import find_any
from sweeptrail.system.locks import is_locked
from sweeptrail.system.watchdog import watchdog

USUAL_PORT = 6006
"""Where TensorBoard listens when nobody says otherwise."""

START_TIMEOUT = 120.0
"""Seconds in which it must answer; it takes 2 to 5 on a quiet machine."""

END_TIMEOUT = 5.0
"""Seconds in which it must end before it is killed."""


@dataclass(frozen=True)
class Source:
    """A folder that TensorBoard is to show."""

    name: str
    folder: Path
    is_run: bool
    """Whether the event files lie in the folder itself, not in one for each run."""


def find_source(which: str, runs_dir: Path) -> Source | None:
    """Return what is on this machine: `latest`, a folder or its name, or the id of a parent or a nested run.

    Raises SettingsError for a folder without event files whose sweep is over.
    """
    candidates = (Path(which), runs_dir / which)
    folder = find_any(runs_dir, which) or next((path for path in candidates if path.is_dir()), None)
    folder = folder or _run_folder(runs_dir, which)
    if folder is None:
        return None
    folder = folder.resolve()
    if not has_events(folder) and not is_locked(folder / LOCK):
        raise no_events(str(folder))
    return Source(folder.name, folder, is_run=any(folder.glob("*tfevents*")))


def has_events(folder: Path) -> bool:
    """Tell whether there is an event file anywhere below the folder."""
    return any(folder.rglob("*tfevents*"))


def no_events(what: str) -> SettingsError:
    """Return the error for runs of which TensorBoard has nothing to show."""
    return SettingsError(f"{what}: has no event files; expected a sweep or a run that was tracked, past its beginning")


def _run_folder(runs_dir: Path, run_id: str) -> Path | None:
    """Return the folder of the nested run that has this id on some tracking server."""
    folders = (path.parent for path in sorted(runs_dir.glob(f"*/*/{STATE_NAME}")))
    return next((folder for folder in folders if run_id in run_ids(folder)), None)


@contextmanager
def one_folder(sources: Sequence[Source]) -> Iterator[Path]:
    """Yield a folder that holds all sources, each under its name."""
    if len(sources) == 1 and not sources[0].is_run:
        yield sources[0].folder
        return
    with tempfile.TemporaryDirectory(prefix="sweeptrail-") as temporary:
        for number, source in enumerate(sources, 1):
            path = Path(temporary, source.name)
            (Path(f"{path}_{number}") if path.is_symlink() else path).symlink_to(source.folder)
        yield Path(temporary)


def choose_port(host: str, wanted: int | None) -> int:
    """Return the port to listen on: the wanted one, else the usual one, else any that is free.

    Raises SettingsError when the wanted one is taken, or `host` is none of this machine's addresses.
    """
    try:
        return _bindable(host, wanted or USUAL_PORT)
    except socket.gaierror as error:
        raise SettingsError(f"host: expected an address of this machine, got {host!r}; write 127.0.0.1") from error
    except OSError as error:
        if wanted:
            raise SettingsError(
                f"port: {wanted} of {host} cannot be used ({error.strerror}); write another one, or leave it out"
            ) from error
    try:
        return _bindable(host, 0)
    except OSError as error:
        raise SettingsError(f"host: {host} cannot be used ({error.strerror}); write 127.0.0.1") from error


def _bindable(host: str, port: int) -> int:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as TensorBoard will do it
        probe.bind(address)
        return int(probe.getsockname()[1])


class TensorBoard:
    """A running TensorBoard."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: IO[bytes], host: str, port: int) -> None:
        self._process = process
        self._log = log
        self.address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"

    def wait_for_answer(self) -> None:
        """Return as soon as it answers; raises SweeptrailError if it ends instead."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on this machine
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            try:
                with opener.open(f"{self.address}data/environment", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                self.wait(0.1)
        raise SweeptrailError(f"TensorBoard does not answer at {self.address}")

    def wait(self, seconds: float | None) -> None:
        """Return after so many seconds; raises SweeptrailError if it has ended by itself."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").split("\n")
        raise SweeptrailError(f"TensorBoard has ended: {next(filter(None, map(str.strip, reversed(lines))), '')}")


@contextmanager
def tensorboard(folder: Path, host: str, port: int) -> Iterator[TensorBoard]:
    """Run TensorBoard for the `with` block; it also ends when this process dies."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", host, "--port", str(port)]
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            with watchdog([process.pid]):
                yield TensorBoard(process, log, host, port)
        finally:
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(END_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
