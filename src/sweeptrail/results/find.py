"""Which sweep is meant by a word: `latest`, a folder, its name, or an id of its parent run."""

from collections.abc import Callable
from pathlib import Path

from sweeptrail.errors import SettingsError
from sweeptrail.outbox import sweep_folder
from sweeptrail.outbox.delivery.state import run_ids
from sweeptrail.outbox.sweep_folder import Description


def find_local(runs_dir: Path, which: str) -> Path | None:
    """Return the folder of the sweep that is meant.

    What a loop of one's own has left has no settings: only that loop could go on with it.
    """
    return _find(runs_dir, which, lambda sweep: bool(sweep.settings))


def find_any(runs_dir: Path, which: str) -> Path | None:
    """Return the same, or what a loop of one's own has left, which can be looked at."""
    return _find(runs_dir, which, lambda sweep: True)


def _find(runs_dir: Path, which: str, fits: Callable[[Description], bool]) -> Path | None:
    found = {folder: sweep_folder.read(folder) for folder in sweep_folder.sweep_folders(runs_dir)}
    sweeps = {folder: sweep for folder, sweep in found.items() if fits(sweep)}
    if which == "latest":
        return max(sweeps, key=lambda folder: sweeps[folder].created, default=None)
    for folder in (Path(which), runs_dir / which):
        if sweep_folder.is_sweep(folder) and fits(sweep_folder.read(folder)):
            return folder.absolute()
    return next((folder for folder, sweep in sweeps.items() if which in {sweep.identity, *run_ids(folder)}), None)


def nowhere(runs_dir: Path, which: str) -> SettingsError:
    """Return the error for a sweep that is nowhere."""
    names = [folder.name for folder in sweep_folder.sweep_folders(runs_dir)]
    there = f"there are {', '.join(names[-5:])}" if names else f"there is no sweep in {runs_dir}"
    return SettingsError(f"expected latest, a sweep's folder or the id of its parent run, got {which!r}; {there}")
