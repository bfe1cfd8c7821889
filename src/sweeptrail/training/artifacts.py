"""Files of a person's own among the artifacts of a run: copied into its folder first, since they are sent later."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import Any
from urllib.parse import unquote

from sweeptrail.errors import SweeptrailError, UsageError
from sweeptrail.outbox.run_journal import ARTIFACTS

Kept = tuple[Path, str]
"""A file in the run's folder, and the folder of the artifacts it belongs to."""


def copy(source: Path, run_folder: Path, to: str) -> Iterator[Kept]:
    """Copy a file, or all files of a folder, into the run's folder.

    Raises UsageError if it does not exist, or `to` leads out of the artifacts.
    """
    source = Path(os.path.abspath(source))
    if not (source.is_dir() or source.is_file()):
        raise UsageError(f"log_artifact: expected a file or a folder, got {str(source)!r}, which is neither")
    check_apart(source, run_folder, "log_artifact")
    files = [path for path in sorted(source.rglob("*")) if path.is_file()] if source.is_dir() else [source]
    for file in files:
        name = Path(to, file.relative_to(source.parent)).as_posix()
        with _written(run_folder, name) as temporary:
            shutil.copyfile(file, temporary)
        yield _kept(run_folder, name)


def write_text(text: str, run_folder: Path, name: str) -> Iterator[Kept]:
    """Write a text into the run's folder."""
    if not isinstance(text, str):
        raise UsageError(f"log_text: {name}: expected text, got a {type(text).__name__}; write str(...)")
    with _written(run_folder, name) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
    yield _kept(run_folder, name)


def write_figure(figure: Any, run_folder: Path, name: str) -> Iterator[Kept]:
    """Draw a figure of matplotlib, whose ending says in which format, into the run's folder."""
    if not hasattr(figure, "savefig"):
        raise UsageError(
            f"log_figure: {name}: expected a figure of matplotlib, got a {type(figure).__name__}; write axes.figure"
        )
    ending = Path(name).suffix.removeprefix(".")
    if not ending:
        raise UsageError(
            f"log_figure: expected a name whose ending says in which format, got {name!r}; write {name}.png"
        )
    with _written(run_folder, name) as temporary:
        try:
            figure.savefig(temporary, format=ending)
        except ValueError as error:  # it names the formats that there are
            raise UsageError(f"log_figure: {name}: {error}") from error
    yield _kept(run_folder, name)


def check_apart(source: Path, run_folder: Path, call: str) -> None:
    """Raise UsageError if a folder holds the run's own, which would be copied into itself."""
    if run_folder.absolute().is_relative_to(source):
        raise UsageError(f"{call}: {str(source)!r} holds the run's own folder; write a folder or a file of it")


@contextmanager
def _written(run_folder: Path, name: str) -> Iterator[Path]:
    """Yield a file to write, which then takes its place as a whole: the courier may be reading the one before."""
    _check(name)
    target = run_folder / ARTIFACTS / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, path = tempfile.mkstemp(prefix="artifact-", suffix=".tmp", dir=run_folder)
        temporary = Path(path)
        try:
            yield temporary
            os.fsync(descriptor)
            os.chmod(temporary, 0o644)
            os.replace(temporary, target)
        finally:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise SweeptrailError(f"{name!r} cannot be kept among the artifacts of the run: {error}") from error


def _check(name: str) -> None:
    """Raise UsageError for a name that a tracking server would refuse, or take for another."""
    decoded = unquote(unquote(name))  # as a server does, to see what is hidden
    parts = decoded.split("/")
    is_odd = any(each in decoded for each in "?#\\") or not decoded.isprintable() or decoded != name
    if is_odd or not Path(name).parts or ".." in parts or decoded.startswith("/") or PureWindowsPath(decoded).drive:
        raise UsageError(f"an artifact's name: expected a path such as plots/curve.png, got {name!r}")


def _kept(run_folder: Path, name: str) -> Kept:
    target = run_folder / ARTIFACTS / name
    return target, target.parent.relative_to(run_folder / ARTIFACTS).as_posix().removeprefix(".")
