"""What the folders and files of a sweep are called."""

import os
import tempfile
import time
from itertools import count
from pathlib import Path

from sweeptrail.errors import SettingsError
from sweeptrail.tracking.uri import Tracking

RESULTS = "results"
LOCK = "lock"
"""Held by the process that carries the sweep out."""


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


def new_sweep_folder(parent: Path) -> Path:
    """Make a folder named by the time, in seconds; a second sweep of the same second gets a number.

    Raises SettingsError if the parent folder cannot be written.
    """
    moment = time.strftime("%Y-%m-%d_%H-%M-%S")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            folder = parent / (moment if number == 1 else f"{moment}_{number}")
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
