"""Locks on files, which the system releases when their process ends, however it ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock for the `with` block; yield whether it was free.

    A lock that somebody else holds, another thread or process, is not waited for.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            try:
                yield True
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)
    finally:
        os.close(file)


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Share the lock with others for the `with` block; who holds it alone is waited for."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield
    finally:
        os.close(file)


def is_locked(path: Path) -> bool:
    """Tell whether somebody holds the lock at this moment."""
    if not path.exists():
        return False
    with locked(path) as was_free:
        return not was_free
