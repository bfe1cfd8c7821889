"""The processes that write to an outbox: which runs each writes, and whether it is still there.

A file for each, locked as long as its process lives. Who leaves in good order says so in it; of one that was killed
the open runs are closed. The file goes when all of its runs are delivered.
"""

import fcntl
import os
import threading
import uuid
import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.util import Finalize
from pathlib import Path

from sweeptrail.errors import JournalError
from sweeptrail.outbox.machine.place import WRITERS

LEFT = "left"


class Writer:
    """This process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / WRITERS
        self._lock = threading.RLock()  # what handles a signal may write within a write
        self._runs: set[str] = set()
        self._file = -1
        self._is_leaving = False
        _writers.add(self)

    def add(self, run_id: str) -> None:
        """Note that this process writes to a run, before it does. Raises JournalError if that cannot be noted."""
        if run_id in self._runs:
            return
        with self._lock:
            try:
                if self._file < 0:
                    self._file = _make(self._folder)
                    Finalize(self, self.leave, exitpriority=0)  # multiprocessing's children end without atexit
                left = f"{LEFT}\n" if self._is_leaving else ""  # MLflow ends its active run after we have left
                os.write(self._file, f"{run_id}\n{left}".encode())
            except OSError as error:
                raise JournalError(f"{self._folder}: cannot be written: {error.strerror}") from error
            self._runs.add(run_id)

    def leave(self) -> bool:
        """Say that this process ends in good order, and leaves its runs as they are; return whether it wrote to any."""
        with self._lock:
            self._is_leaving = True
            if self._file < 0:
                return False
            with suppress(OSError):  # a full disk: its open runs will count as killed
                os.write(self._file, f"{LEFT}\n".encode())
            return True

    def after_fork(self) -> None:
        """Let go, in a child, of what says that the parent lives."""
        self._lock = threading.RLock()
        self._close()

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1
        self._runs = set()


_writers: "weakref.WeakSet[Writer]" = weakref.WeakSet()


def _after_fork() -> None:
    for each in list(_writers):
        each.after_fork()


os.register_at_fork(after_in_child=_after_fork)


def _make(folder: Path) -> int:
    """Make the file, locked before anybody sees it."""
    name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    hidden = folder / f".{name}"
    file = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    os.rename(hidden, folder / name)
    return file


@dataclass(frozen=True)
class FoundWriter:
    """A process that writes, or has written what is not all delivered."""

    path: Path
    is_alive: bool
    has_left: bool
    """Whether it ended in good order."""
    runs: tuple[str, ...]


def writers(folder: Path) -> Iterator[FoundWriter]:
    """Yield those of an outbox."""
    for path in sorted((folder / WRITERS).glob("[!.]*")):
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # delivered meanwhile
            continue
        with os.fdopen(file, encoding="utf-8") as opened:
            is_alive = _is_locked(file)  # before it is read: what a process wrote last is in what is read after
            *runs, _ = opened.read().split("\n")
        yield FoundWriter(path, is_alive, LEFT in runs, tuple(run for run in runs if run != LEFT))


def _is_locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who look are no sign of life for one another
    except BlockingIOError:
        return True
    return False
