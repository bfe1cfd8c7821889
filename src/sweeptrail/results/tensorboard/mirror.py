"""Fetches the event files of runs from the tracking server into folders that TensorBoard reads."""

import hashlib
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from multiprocessing.pool import ThreadPool
from pathlib import Path

from sweeptrail.errors import RefusedError, SettingsError, SweeptrailError
from sweeptrail.tracking import tags
from sweeptrail.tracking.client import Run, TrackingServer
from sweeptrail.tracking.uri import without_credentials

ARTIFACTS = "tensorboard"
"""Where a run keeps its event files among its artifacts."""

AT_ONCE = 8
"""How many runs are fetched at a time."""

EVENT_FILE = re.compile(r"[\w.+=-]{0,100}tfevents[\w.+=-]{0,100}", re.ASCII)
"""What an event file is called. The name comes from a server, and becomes that of a file here."""


class Mirror:
    """The event files of a sweep's runs, or of a single run, as far as they have been fetched."""

    def __init__(self, server: TrackingServer, run_id: str, cache: Path) -> None:
        """Raises SettingsError if the server has no such run, and DeliveryError when it does not answer."""
        self._server = server
        self._run_id = run_id
        run = self._get(run_id)
        self.is_sweep = bool(server.children(run))
        parent_id = run.data.tags.get(tags.PARENT_RUN_ID)
        # Without credentials: they would be tried out on a hash as on a password.
        self._root = cache / hashlib.sha256(without_credentials(server.uri).encode()).hexdigest()[:16]
        if self.is_sweep or not parent_id:
            self.folder = self._root / _unique_name(run)
        else:
            self.folder = self._root / _unique_name(self._get(parent_id)) / _name(run)
        self.name = _name(run)
        self._waiting: list[Run] = []
        self._fetched: dict[str, int | None] = {}
        """When the runs that are wholly here had ended."""
        self._has_open_run = True

    @property
    def is_open(self) -> bool:
        """Whether the server may have more than what is here, or get more."""
        return self._has_open_run or bool(self._waiting)

    def look(self) -> int:
        """Ask the server for the runs; return how many may have changed since they were fetched."""
        run = self._get(self._run_id)
        runs = self._server.children(run) or [run]
        self._has_open_run = any(one.info.status == "RUNNING" for one in (run, *runs))
        self._folders = self._folders_of(runs)
        self._waiting = [one for one in runs if self._fetched.get(one.info.run_id, "") != one.info.end_time]
        return len(self._waiting)

    def fetch(self) -> Iterator[int]:
        """Fetch the event files of those runs, several at a time; yield for each run how many were new or longer.

        Raises DeliveryError when the server does not answer, and SweeptrailError when a file cannot be written.
        """
        with ThreadPool(AT_ONCE) as pool:
            for run, count in pool.imap_unordered(self._fetch_run, self._waiting[:]):
                self._waiting.remove(run)
                if run.info.status != "RUNNING":
                    self._fetched[run.info.run_id] = run.info.end_time
                yield count

    def _fetch_run(self, run: Run) -> tuple[Run, int]:
        folder = self._folders[run.info.run_id]
        count = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, size in self._server.files(run, ARTIFACTS).items():
                if EVENT_FILE.fullmatch(name) and (size is None or size != _size(folder / name)):
                    with tempfile.TemporaryDirectory(dir=self._root) as temporary:
                        new = self._server.download(run, f"{ARTIFACTS}/{name}", Path(temporary))
                        _renew(folder / name, new)
                    count += 1
        except OSError as error:
            raise SweeptrailError(f"{folder}: cannot be written: {error.strerror}") from error
        return run, count

    def _folders_of(self, runs: list[Run]) -> dict[str, Path]:
        if not self.is_sweep:
            return {run.info.run_id: self.folder for run in runs}
        names = Counter(_name(run) for run in runs)
        return {
            run.info.run_id: self.folder / (_name(run) if names[_name(run)] == 1 else _unique_name(run)) for run in runs
        }

    def _get(self, run_id: str) -> Run:
        try:
            return self._server.get(run_id)
        except RefusedError as error:
            raise SettingsError(
                f"expected latest, the folder of a sweep, or the id of a run, got {run_id!r} ({error})"
            ) from error


def _renew(path: Path, new: Path) -> None:
    """Make a file what the new one is, which is usually longer by what the run has written since.

    TensorBoard's fast reader keeps its files open, and does not see that one is replaced.
    """
    content = new.read_bytes()
    known = path.read_bytes() if path.exists() else b""
    if known and content.startswith(known):
        with path.open("ab") as file:
            file.write(content[len(known) :])
    else:
        os.replace(new, path)


def _name(run: Run) -> str:
    """Return what to call the folder of a run, whatever name somebody has given it."""
    folder = Path(run.data.tags.get(tags.FOLDER, "")).name  # the parent may have been opened by `mlflow run`
    return _safe(folder or run.info.run_name or "") or _safe(run.info.run_id) or "run"


def _unique_name(run: Run) -> str:
    return f"{_name(run)}_{_safe(run.info.run_id[:8])}"


def _safe(text: str) -> str:
    return re.sub(r"[^\w.,+= -]", "_", text, flags=re.ASCII)[:150].strip(". ")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1
