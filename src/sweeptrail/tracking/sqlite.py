"""Makes an SQLite tracking store whole or not at all."""

import fcntl
import glob
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweeptrail.tracking.uri import sqlite_file

_here = threading.local()
# The store says for each start that it creates or upgrades its tables; who opens it through us has not asked.
logging.getLogger("mlflow.store.db.utils").addFilter(lambda record: not getattr(_here, "is_quiet", False))


@contextmanager
def quietly() -> Iterator[None]:
    """Keep what MLflow says about its tables from the log, in this thread alone."""
    _here.is_quiet = True
    try:
        yield
    finally:
        _here.is_quiet = False


def make_database(uri: str) -> None:
    """Create the tables of an SQLite store that is not there yet.

    MLflow creates them one by one: a process killed meanwhile would leave a file that no MLflow can
    open, and two processes at once would each find tables of the other's.
    """
    file = sqlite_file(uri) if uri.startswith("sqlite") else None
    if file is None or file.exists():
        return
    with _alone_in(file.parent):
        if not file.exists():
            for left in file.parent.glob(f"{glob.escape(file.name)}.*.tmp*"):  # by one that was killed
                left.unlink()
            temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
            _create(f"sqlite:///{temporary}", artifacts=file.parent / "mlruns")
            os.replace(temporary, file)


def keep_artifacts_beside(store: Any, uri: str) -> None:
    """Have new experiments of an SQLite store keep their artifacts beside the file.

    MLflow has them below the folder that the process happens to be in.
    """
    if file := sqlite_file(uri) if uri.startswith("sqlite") else None:
        store.artifact_root_uri = str(file.parent / "mlruns")


def _create(uri: str, artifacts: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(uri, str(artifacts)).engine.dispose()  # type: ignore[no-untyped-call]  # MLflow has no types for it


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
