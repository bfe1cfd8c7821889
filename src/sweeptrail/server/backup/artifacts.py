"""Where a server's artifacts are kept, as files with names: a folder, or what MLflow knows (S3 and others)."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from sweeptrail.errors import ServerError
from sweeptrail.server.folder import Configuration, ServerFolder

QUIET = 1.0
"""Seconds for which a file has to be unchanged: MLflow 3.13 writes an artifact in place."""

UPLOADING = ".artifact.uploading."
"""How the names begin of what later versions write, and rename when it is whole."""

PATIENCE = 300.0
"""Seconds to wait for a file that is being written."""


class Store(Protocol):
    """A place for artifacts."""

    uri: str

    def files(self, scratch: Path) -> Iterator[tuple[str, Path]]:
        """Yield each file's name and a path to read it from, valid until the next one; `scratch` is for copies."""

    def put(self, path: Path, name: str) -> None:
        """Take a file over under a name."""

    def is_empty(self) -> bool:
        """Tell whether there is no file."""


def store(folder: ServerFolder, configuration: Configuration) -> Store:
    """Return where a server keeps its artifacts."""
    return RemoteStore(configuration.artifacts) if configuration.artifacts else FolderStore(folder.artifacts)


class FolderStore:
    """A folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.uri = str(folder)

    def files(self, scratch: Path) -> Iterator[tuple[str, Path]]:
        copy = scratch / "artifact"
        for path in sorted(path for path in self._folder.rglob("*") if path.is_file() and not path.is_symlink()):
            if not path.name.startswith(UPLOADING) and _copied(path, copy):
                yield path.relative_to(self._folder).as_posix(), copy

    def put(self, path: Path, name: str) -> None:
        target = (self._folder / name).resolve()
        if not target.is_relative_to(self._folder.resolve()):
            raise ValueError(f"{name!r}, which lies outside")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)

    def is_empty(self) -> bool:
        return not any(path.is_file() for path in self._folder.rglob("*"))


class RemoteStore:
    """An object store, through MLflow, with the credentials of the environment."""

    def __init__(self, uri: str) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        self.uri = uri
        with self._speaking():
            self._repository: Any = get_artifact_repository(uri)

    def files(self, scratch: Path) -> Iterator[tuple[str, Path]]:
        for name in self._names(""):
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                with self._speaking():
                    copy = Path(self._repository.download_artifacts(name, dst_path=folder))
                yield name, copy

    def put(self, path: Path, name: str) -> None:
        folder, _, last = name.rpartition("/")
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch, self._speaking():
            renamed = Path(scratch, last)
            os.replace(path, renamed)
            self._repository.log_artifact(str(renamed), folder or None)

    def is_empty(self) -> bool:
        return not self._list("")

    def _names(self, folder: str) -> Iterator[str]:
        for found in self._list(folder):
            if found.is_dir:
                yield from self._names(found.path)
            else:
                yield found.path

    def _list(self, folder: str) -> list[Any]:
        with self._speaking():
            return list(self._repository.list_artifacts(folder or None))

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """Raise ServerError for what a store answers, or for none; each kind has exceptions of its own."""
        try:
            yield
        except Exception as error:
            said = str(error).partition("\n")[0]
            raise ServerError(f"{self.uri}: the object store could not be used: {said}") from error


def _copied(path: Path, copy: Path) -> bool:
    """Copy a file as it is when nobody is writing it; tell whether it is still there.

    Raises ServerError if it never stays unchanged.
    """
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        try:
            before = path.stat()
            shutil.copyfile(path, copy)
            after = path.stat()
        except FileNotFoundError:
            return False
        if _version(before) == _version(after) and time.time() - after.st_mtime > QUIET:
            return True
        time.sleep(QUIET)
    raise ServerError(f"{path}: was written to all the time for {PATIENCE:.0f} s")


def _version(about: os.stat_result) -> tuple[int, ...]:
    return about.st_ino, about.st_size, about.st_mtime_ns
