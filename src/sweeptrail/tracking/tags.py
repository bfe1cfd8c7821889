"""The tags of runs: what ours are called, and those that say who runs what code."""

import getpass
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import count, takewhile
from pathlib import Path

from sweeptrail.version import __version__

IDENTITY = "sweeptrail.identity"
"""By which a run is found again when the answer to its creation was lost."""
SETTINGS = "sweeptrail.settings"
"""The settings of a sweep as JSON, on its parent run; params of a run cannot be widened later.

What is too long for a tag goes on in `sweeptrail.settings.2` and so on."""
LONGEST = 7500
"""Characters of a tag; MLflow cuts one after 8,000 (MAX_TAG_VAL_LENGTH)."""
GOAL = "sweeptrail.goal"
"""What ranks the runs of a sweep: `max:validation_accuracy`."""
COLUMNS = "sweeptrail.columns"
"""The hyperparameters that are columns of the results, separated by commas."""
FINAL = "sweeptrail.final"
"""The metrics of a run that were measured once, at its end, separated by commas: MLflow has no kinds of metrics."""
TASK = "sweeptrail.task"
"""The task of a sweep, `digits:train`, where it is not the built-in one."""
SOURCE_DIGEST = "sweeptrail.source_digest"
"""Of the code of the task that a run was carried out with."""
RUN = "sweeptrail.run"
"""The number of a nested run."""
TRIAL = "sweeptrail.trial"
"""The number of the combination that a nested run is one of, where they were chosen one after another."""
STOPPED_EARLY = "sweeptrail.stopped_early"
"""Why a nested run was not taken further: `after 3 epochs, place 5 of 8`."""
EPOCHS = "sweeptrail.epochs"
"""How many epochs a nested run was asked for later; its param cannot change."""
KEY = "sweeptrail.key"
"""What a nested run is recognised by: a hash of all that changes its numbers."""
FOLDER = "sweeptrail.folder"
DATA_DIGEST = "sweeptrail.data_digest"
REASON = "sweeptrail.reason"
"""Why a run did not finish."""
WARNINGS = "sweeptrail.warnings"
CHAMPION = "sweeptrail.champion"
CHAMPION_RUN_ID = "sweeptrail.champion_run_id"
SWEEP = "sweeptrail.sweep"
"""The name of the sweep that a registered version is from."""
RESUMES = "sweeptrail.resumes"
PARENT_RUN_ID = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
RUN_NAME = "mlflow.runName"


def settings_tags(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that hold the settings of a sweep."""
    text = json.dumps(settings)
    starts = range(0, len(text), LONGEST)
    return {_settings_tag(number): text[start : start + LONGEST] for number, start in enumerate(starts, start=1)}


def read_settings(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that the tags of a parent run hold."""
    names = takewhile(tags.__contains__, map(_settings_tag, count(1)))
    # Of settings that were longer once, the last tags are still there.
    found: dict[str, str] = json.JSONDecoder().raw_decode("".join(tags[name] for name in names) or "{}")[0]
    return found


def _settings_tag(number: int) -> str:
    return SETTINGS if number == 1 else f"{SETTINGS}.{number}"


def context_tags() -> dict[str, str]:
    """Return MLflow's own context tags and the versions of what computes the numbers."""
    commit = _git("rev-parse", "HEAD")
    tags = {
        "mlflow.user": _user(),
        "mlflow.source.name": _source(sys.argv),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit,
        "mlflow.source.git.branch": _git("rev-parse", "--abbrev-ref", "HEAD") if commit else "",
        "version.sweeptrail": __version__,
        **{f"version.{package}": _version(package) for package in ("torch", "mlflow")},
    }
    return {name: value for name, value in tags.items() if value}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def _source(argv: Sequence[str]) -> str:
    """Return the script that was started; a notebook's kernel and `python -c` have none of their own."""
    return argv[0] if argv and argv[0] not in ("", "-c", "-m") else Path(sys.executable).name


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _git(*arguments: str) -> str:
    """Return what git answers about the current folder; nothing where there is no git or no commit."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
