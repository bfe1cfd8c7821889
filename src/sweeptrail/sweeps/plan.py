"""Checks everything before anything is trained."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sweeptrail.errors import SettingsError, UsageError
from sweeptrail.outbox import sweep_folder
from sweeptrail.results.find import find_local, nowhere
from sweeptrail.search import text
from sweeptrail.sweeps.resume import merged, without_defaults
from sweeptrail.sweeps.settings import Settings, parameters_of, parse
from sweeptrail.tasks.task import DEFAULT_TASK, Prepared, Task, find_task
from sweeptrail.tracking.uri import Tracking

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """A sweep that can be carried out."""

    settings: Settings
    data: Prepared
    runs_dir: Path
    tracking: Tracking
    tracked: bool = True
    """Whether the runs are told to TensorBoard and to MLflow at all."""
    resumed: Path | None = None
    """The folder of the sweep that goes on; None for a new one."""


def make_plan(
    texts: Mapping[str, str],
    tracking: Callable[[], Tracking],
    *,
    resume: str = "none",
    runs_dir: str = "auto",
    tracked: bool = True,
) -> Plan:
    """Return the sweep that these settings, as text, describe, or the one to resume.

    Raises UsageError with every mistake there is: in the settings, in the place of the results, in
    the data, and in the tracking server's URI (`tracking` finds that out).
    """
    problems: list[str] = []
    task = find_task(DEFAULT_TASK)
    server = _collect(tracking, problems)
    home = sweep_folder.home(server) if server else Path.cwd()
    runs = home / "runs" if runs_dir == "auto" else Path(runs_dir).absolute()
    _collect(lambda: sweep_folder.check_writable(runs), problems)
    resumed = _collect(lambda: _find(resume, server, runs), problems) if server and not problems else None
    if server and server.adopt:
        texts = without_defaults(parameters_of(task), texts)  # `mlflow run` passes every setting, given or not
    settings = _collect(lambda: parse(_with_recorded(task, texts, resumed), task), problems)
    right, _ = text.parse(parameters_of(task), texts)
    prepared = _collect(lambda: task.prepare(right, home), problems)
    if settings:
        problems += task.problems_here(settings.values)
    if problems or not (settings and server and prepared):
        raise UsageError(problems)
    return Plan(settings, prepared, runs, server, tracked, resumed)


def _find(which: str, tracking: Tracking, runs_dir: Path) -> Path | None:
    """Return the folder of the sweep to resume; one that is only on the tracking server gets a folder.

    `mlflow run --run-id` opens the parent of a sweep again, which means the same.
    """
    wanted = tracking.adopt if which == "none" else which
    if not wanted:
        return None
    if found := find_local(runs_dir, wanted):
        return found
    # A sweep of one's own database has its folder beside it: asking that for each new sweep would cost 2 s.
    if wanted != "latest" and (which != "none" or not tracking.database):
        from sweeptrail.outbox.pull import pull

        if pulled := pull(tracking.uri, wanted, runs_dir):
            return pulled
    if which == "none":
        return None
    raise SettingsError(f"resume: {nowhere(runs_dir, which)}")


def _with_recorded(task: Task, texts: Mapping[str, str], resumed: Path | None) -> Mapping[str, str]:
    if not resumed:
        return texts
    return merged(parameters_of(task), sweep_folder.read(resumed).settings, texts)


def _collect(step: Callable[[], T], problems: list[str]) -> T | None:
    try:
        return step()
    except UsageError as error:
        problems += error.problems
        return None
