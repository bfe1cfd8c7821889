"""Which sweep to go on with, and with which settings."""

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path

from sweeptrail.errors import SettingsError, SweeptrailError
from sweeptrail.outbox import description
from sweeptrail.outbox.delivery.state import STATE_NAME
from sweeptrail.outbox.description import Description
from sweeptrail.sweeps.settings import AXES, RunSettings, Settings, as_text, parse

HARMLESS = ("threads", "device")
"""Settings of a run that change no more than the last bits of its numbers."""

DECISIVE = tuple(field.name for field in fields(RunSettings) if field.name not in (*AXES, *HARMLESS))
"""Single settings that change the numbers: another value makes it another sweep."""


def find_local(runs_dir: Path, which: str) -> Path | None:
    """Return the folder of the sweep that is meant by `latest`, a folder, its name, or an id of its parent run.

    What a loop of one's own has left has no settings: only that loop could go on with it.
    """
    return _find(runs_dir, which, lambda sweep: bool(sweep.settings))


def find_any(runs_dir: Path, which: str) -> Path | None:
    """Return the same, or what a loop of one's own has left, which can be looked at."""
    return _find(runs_dir, which, lambda sweep: True)


def _find(runs_dir: Path, which: str, fits: Callable[[Description], bool]) -> Path | None:
    found = {folder: description.read(folder) for folder in description.sweep_folders(runs_dir)}
    sweeps = {folder: sweep for folder, sweep in found.items() if fits(sweep)}
    if which == "latest":
        return max(sweeps, key=lambda folder: sweeps[folder].created, default=None)
    for folder in (Path(which), runs_dir / which):
        if (folder / description.FILE_NAME).is_file() and fits(description.read(folder)):
            return folder.absolute()
    return next((folder for folder, sweep in sweeps.items() if which in _names(folder, sweep)), None)


def _names(folder: Path, sweep: Description) -> set[str]:
    """Return what else a sweep goes by: its identity, and its run on each tracking server."""
    try:
        states = json.loads((folder / STATE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        states = {}
    return {sweep.identity, *(state.get("run_id") or "" for state in states.values())} - {""}


def merged(recorded: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of a sweep that goes on, from those it had and those that are given now.

    More values of an axis are added to those it had. Raises SettingsError with a line for each
    setting that would change numbers that are there already.
    """
    changes = dict(given)
    problems = [
        f"{name}: the sweep to resume has {recorded[name]}, got {text}; leave {name} out, or start a new sweep"
        for name, text in changes.items()
        if name in DECISIVE and _normal(name, text) != recorded[name]
    ]
    if problems:
        raise SettingsError(problems)
    for name in AXES:
        if name in changes:
            changes[name] = _with_more_values(name, recorded, changes[name])
    return {**recorded, **changes}


def without_defaults(texts: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that are not what they would be anyway."""
    defaults = as_text(Settings())
    return {name: text for name, text in texts.items() if text != defaults.get(name)}


def _normal(name: str, text: str) -> str:
    """Return the text as it is recorded: `3` for ` 03`. One that cannot be parsed is named as such later."""
    try:
        return as_text(parse({"batch_size": "1", name: text}))[name]
    except SettingsError:
        return text


def _with_more_values(name: str, recorded: Mapping[str, str], given: str) -> str:
    had, wanted = (getattr(parse({**recorded, name: text}), name) for text in (recorded[name], given))
    added = tuple(value for value in wanted if value not in had)
    return as_text(replace(Settings(), **{name: had + added}))[name]


def nothing_to_resume(runs_dir: Path, which: str) -> SweeptrailError:
    """Return the error for a sweep that is nowhere."""
    names = [folder.name for folder in description.sweep_folders(runs_dir)]
    there = f"there are {', '.join(names[-5:])}" if names else f"there is no sweep in {runs_dir}"
    return SettingsError(
        f"resume: expected latest, a sweep's folder or the id of its parent run, got {which!r}; {there}"
    )
