"""The folder of a sweep: what it and its files are called, and sweep.json, which says what the sweep is."""

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import count
from pathlib import Path
from typing import Any

from sweeptrail.errors import SettingsError, SweeptrailError
from sweeptrail.system.files import write_whole
from sweeptrail.tracking.uri import Tracking

RESULTS = "results"
LOCK = "lock"
"""Held by the process that carries the sweep out."""
DESCRIPTION = "sweep.json"
VERSION = 1


@dataclass(frozen=True)
class KnownRun:
    """A run that a sweep consists of."""

    index: int
    name: str
    key: str
    """A hash of all that changes its numbers."""
    former_keys: Sequence[str] = ()
    """Those it had when it was asked for fewer epochs."""


@dataclass(frozen=True)
class Description:
    """A sweep, its settings as text, and its runs."""

    identity: str
    created: float
    """Seconds since 1970."""
    tracking_uri: str
    """Without credentials."""
    settings: Mapping[str, str]
    runs: Sequence[KnownRun]
    goal: str = ""
    """What ranks the runs, `max:validation_accuracy`; empty where nobody has said it, as in version 0.1."""
    columns: Sequence[str] = ()
    """The hyperparameters that are columns of the results; the same."""
    task: str = ""
    """What its runs train, `digits:train`; empty for the built-in task."""
    is_from_server: bool = False
    """Whether all this is what a tracking server says, and nobody here has asked for its code to be run."""

    def write(self, folder: Path) -> None:
        """Keep it in the sweep's folder; raises SweeptrailError when that cannot be written."""
        write_whole(folder / DESCRIPTION, json.dumps({"version": VERSION, **asdict(self)}, indent=2) + "\n")


def read(folder: Path) -> Description:
    """Return the description in a sweep's folder.

    Raises SweeptrailError if there is none, it is damaged, or a later version wrote it.
    """
    path = folder / DESCRIPTION
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("version") != VERSION:
            raise SweeptrailError(f"{path}: it was written by another version of sweeptrail; resume with that one")
        runs = [KnownRun(**run) for run in content.pop("runs")]
        known = {each.name for each in fields(Description)}
        return Description(**{name: value for name, value in content.items() if name in known}, runs=runs)
    except OSError as error:
        raise SweeptrailError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SweeptrailError(f"{path}: is damaged: {error}") from error


def is_sweep(folder: Path) -> bool:
    """Tell whether this is the folder of a sweep."""
    return (folder / DESCRIPTION).is_file()


def sweep_folders(runs_dir: Path) -> Iterator[Path]:
    """Yield the folders of the sweeps below a folder, by name; or that folder, if it is a sweep itself."""
    if (runs_dir / DESCRIPTION).is_file():
        yield runs_dir
    elif runs_dir.is_dir():
        yield from sorted(path for path in runs_dir.iterdir() if (path / DESCRIPTION).is_file())


def home(tracking: Tracking) -> Path:
    """Return the folder where a sweep keeps `runs` and `data`: the current one, when it will stay.

    `mlflow run` starts us in the project, not where the person is: then the folder of the database
    is theirs, and a project that MLflow has fetched from elsewhere lies in a temporary folder.
    """
    if tracking.adopt and not tracking.adopted_closes_itself:
        if tracking.database:
            return tracking.database.parent
        if Path.cwd().is_relative_to(Path(tempfile.gettempdir()).resolve()):
            data_home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
            return Path(data_home) / "sweeptrail"
    return Path.cwd()


def check_writable(runs_dir: Path) -> None:
    """Raise SettingsError if no folder can be made in `runs_dir`."""
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=runs_dir):
            pass
    except OSError as error:
        raise unwritable(runs_dir, error) from error


def new_sweep_folder(parent: Path, name: str | None = None) -> Path:
    """Make a folder of this name, or named by the time, in seconds; a second one of the same name gets a number.

    Raises SettingsError if the parent folder cannot be written.
    """
    name = name or time.strftime("%Y-%m-%d_%H-%M-%S")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            folder = parent / (name if number == 1 else f"{name}_{number}")
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
    except OSError as error:
        raise unwritable(parent, error) from error
    raise AssertionError("unreachable")


def unwritable(folder: Path, error: OSError) -> SettingsError:
    """Return the error for a runs folder that cannot be written."""
    return SettingsError(
        f"runs_dir: {folder.absolute()} cannot be written ({error.strerror}); write runs_dir= and a folder of yours"
    )
