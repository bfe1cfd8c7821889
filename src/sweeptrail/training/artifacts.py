"""Files of a person's own among the artifacts of a run: copied into its folder first, since they are sent later."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sweeptrail.errors import UsageError
from sweeptrail.system.files import write_whole

FOLDER = "artifacts"
"""In the run's folder."""


def copy(source: Path, run_folder: Path, to: str) -> Iterator[tuple[Path, str]]:
    """Copy a file, or all files of a folder, into the run's folder; yield each with its folder among the artifacts.

    Raises UsageError if it does not exist, or `to` leads out of the artifacts.
    """
    if not source.exists():
        raise UsageError(f"log_artifact: expected a file or a folder, got {str(source)!r}, which does not exist")
    files = [path for path in sorted(source.rglob("*")) if path.is_file()] if source.is_dir() else [source]
    for file in files:
        name = Path(to, file.relative_to(source.parent))
        target = _place(run_folder, name.as_posix())
        shutil.copyfile(file, target)
        yield _told(target, run_folder)


def write_text(text: str, run_folder: Path, name: str) -> Iterator[tuple[Path, str]]:
    """Write a text into the run's folder."""
    target = _place(run_folder, name)
    write_whole(target, text)
    yield _told(target, run_folder)


def write_figure(figure: Any, run_folder: Path, name: str) -> Iterator[tuple[Path, str]]:
    """Draw a figure of matplotlib, whose ending says in which format, into the run's folder."""
    target = _place(run_folder, name)
    figure.savefig(target)
    yield _told(target, run_folder)


def _place(run_folder: Path, name: str) -> Path:
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts:
        raise UsageError(f"an artifact's name: expected a path such as plots/curve.png, got {name!r}")
    target = run_folder / FOLDER / name
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _told(target: Path, run_folder: Path) -> tuple[Path, str]:
    folder = target.parent.relative_to(run_folder / FOLDER).as_posix()
    return target, folder.removeprefix(".")
