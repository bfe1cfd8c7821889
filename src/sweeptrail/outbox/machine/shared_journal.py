"""A journal that several processes append to, forked ones among them."""

import fcntl
import os
import threading
import weakref
from pathlib import Path

from sweeptrail.errors import JournalError
from sweeptrail.outbox.entries import Entry
from sweeptrail.outbox.journal import encode


class SharedJournal:
    """The writing end of a journal in this process, for all its threads; others may write at the same time.

    It does not sync: a killed process loses nothing by that, and for a power cut the courier syncs once a second.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()  # what handles a signal may write within a write
        self._file = -1
        _journals.add(self)

    def append(self, *entries: Entry) -> None:
        """Write records in one piece; they are whole in the file, or absent when JournalError is raised."""
        lines = b"".join(map(encode, entries))
        with self._lock:
            try:
                if self._file < 0:
                    self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._file, fcntl.LOCK_EX)
                try:
                    self._write(lines)
                finally:
                    fcntl.flock(self._file, fcntl.LOCK_UN)
            except OSError as error:
                raise JournalError(f"{self.path}: cannot be written: {error.strerror}") from error

    def _write(self, lines: bytes) -> None:
        end = os.lseek(self._file, 0, os.SEEK_END)
        if end and os.pread(self._file, 1, end - 1) != b"\n":
            lines = b"\n" + lines  # whoever wrote before was killed within a line
        try:
            while lines:
                lines = lines[os.write(self._file, lines) :]
        except OSError:
            os.ftruncate(self._file, end)
            raise

    def close(self) -> None:
        """Close the file; the next record opens it again."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def after_fork(self) -> None:
        """Let go, in a child, of what it shares with its parent: the lock on the file would be that of both."""
        self._lock = threading.RLock()
        self._close()


_journals: "weakref.WeakSet[SharedJournal]" = weakref.WeakSet()


def _after_fork() -> None:
    for each in list(_journals):
        each.after_fork()


os.register_at_fork(after_in_child=_after_fork)
