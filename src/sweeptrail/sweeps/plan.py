"""Checks everything before anything is trained."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sweeptrail.engines import Options
from sweeptrail.errors import SettingsError, UsageError
from sweeptrail.outbox import sweep_folder
from sweeptrail.outbox.delivery.adopted import as_on_server, server_run_id
from sweeptrail.outbox.sweep_folder import Description
from sweeptrail.records import Goal
from sweeptrail.results.find import find_local, nowhere
from sweeptrail.search import text
from sweeptrail.search.strategy import single
from sweeptrail.sweeps.asked import Asked, merged, with_file_read
from sweeptrail.sweeps.settings import Settings, parameters_of, parse
from sweeptrail.system.extras import need
from sweeptrail.tasks.task import BUILT_IN, DEFAULT_TASK, EPOCHS, Prepared, Task
from sweeptrail.tracking import tags
from sweeptrail.tracking.uri import Tracking

T = TypeVar("T")

SINKS = ("tensorboard", "checkpoint", "outbox")
"""The sinks of a tracked run."""


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
    epochs_before: int | None = None
    """How many its runs were asked for; None where that is not another number now."""

    def options(self, folder: Path) -> Options:
        """Return how an engine carries it out in the sweep's folder."""
        settings = self.settings
        return Options(
            retries=settings["retries"],
            workers=settings["workers"],
            threads=settings["threads"],
            run_timeout=settings["run_timeout"],
            gpus_per_run=settings["gpus_per_run"],
            modules=tuple(sorted(settings.task.modules(settings.values))),
            is_adaptive=settings.strategy() is not None or settings.rungs() is not None,
            tracking_uri=self.tracking.uri,
            sweep_folder=folder if self.tracked else None,
        )


def make_plan(
    asked: Asked,
    tracking: Callable[[], Tracking],
    find: Callable[[str], Task],
    *,
    resume: str = "none",
    runs_dir: str = "auto",
    tracked: bool = True,
) -> Plan:
    """Return the sweep that is asked for, or the one to resume.

    Raises UsageError with every mistake there is: in the task and the settings, in the place of the
    results, in the data, and in the tracking server's URI (`tracking` finds that out, `find` the task).
    MissingPackageError for a task that comes with an extra.
    """
    problems: list[str] = []
    server = _collect(lambda: as_on_server(tracking()), problems)
    home = sweep_folder.home(server) if server else Path.cwd()
    runs = home / "runs" if runs_dir == "auto" else Path(runs_dir).absolute()
    _collect(lambda: sweep_folder.check_writable(runs), problems)
    resumed = _collect(lambda: _find(resume, server, runs), problems) if server and not problems else None
    before = sweep_folder.read(resumed) if resumed else None
    task = _collect(lambda: find(_task_of(asked, before)), problems)
    if not task:
        raise UsageError(problems)
    need(f"the task {task.name}", *task.packages)
    texts, mistakes = asked.texts(task, with_defaults=bool(server and server.adopt))
    problems += mistakes
    settings = _collect(lambda: parse(_with_recorded(task, texts, before), task), problems)
    right, _ = text.parse(parameters_of(task), texts)
    # What somebody else's function makes of wrong settings need not be waited for.
    is_wanted = task.name == DEFAULT_TASK or not problems
    prepared = _collect(lambda: task.prepare(right, home), problems) if is_wanted else None
    if settings:
        problems += task.problems_here(settings.values)
        if _collect(lambda: settings.is_empty, problems):
            problems.append("no combination is valid: valid() refuses them all; write others")
    if problems or not (settings and server and prepared):
        raise UsageError(problems)
    return Plan(settings, prepared, runs, server, tracked, resumed, _epochs_before(task, before, settings))


def _task_of(asked: Asked, before: Description | None) -> str:
    """Return the name of the task that is meant.

    Code that only a tracking server names, where any account may have changed it, is not run: it
    is asked for. Raises SettingsError.
    """
    recorded = (before.task or DEFAULT_TASK) if before else ""
    if before and before.is_from_server:
        own = {"--task": recorded} if recorded not in BUILT_IN else {}
        network = before.settings.get("network", "")
        if not own and ":" in network and network != asked.options.get("network", asked.space.get("network")):
            own = {"--network": network}
        if own and asked.task != recorded:
            raise SettingsError(
                f"resume: the tracking server says that the sweep runs {' '.join(own.values())}, which is not imported "
                f"because a server says so; if you know it, write {' '.join(f'{k} {v}' for k, v in own.items())}"
            )
    if asked.task and recorded and asked.task != recorded:
        raise SettingsError(f"task: the sweep to resume is of {recorded}, got {asked.task}; leave it out")
    return asked.task or recorded or DEFAULT_TASK


def _find(which: str, tracking: Tracking, runs_dir: Path) -> Path | None:
    """Return the folder of the sweep to resume; one that is only on the tracking server gets a folder.

    `mlflow run --run-id` opens the parent of a sweep again, which means the same.
    """
    wanted = tracking.adopt if which == "none" else which
    if not wanted:
        return None
    there = server_run_id(tracking.uri, wanted)
    if found := find_local(runs_dir, there or wanted):
        return found
    # A sweep of one's own database has its folder beside it: asking that for each new sweep would cost 2 s.
    if wanted != "latest" and (which != "none" or not tracking.database) and there:
        from sweeptrail.outbox.pull import pull

        if pulled := pull(tracking.uri, there, runs_dir):
            return pulled
    if which == "none":
        return None
    raise SettingsError(f"resume: {nowhere(runs_dir, which)}")


def _with_recorded(task: Task, texts: Mapping[str, str], before: Description | None) -> Mapping[str, str]:
    texts = with_file_read(texts, task)
    return merged(parameters_of(task), before.settings, texts) if before else texts


def _epochs_before(task: Task, before: Description | None, settings: Settings) -> int | None:
    known = {each.name: each for each in task.parameters}
    if not before or EPOCHS not in known or EPOCHS not in before.settings:
        return None
    had, now = (single(each) for each in (known[EPOCHS].values(before.settings[EPOCHS]), settings[EPOCHS]))
    return had if isinstance(had, int) and had != now else None


def _collect(step: Callable[[], T], problems: list[str]) -> T | None:
    try:
        return step()
    except UsageError as error:
        problems += error.problems
        return None


def context_of(plan: Plan) -> dict[str, str]:
    """Return the tags that all runs of a sweep have: who runs what code on what data."""
    task = plan.settings.task
    about = {tags.DATA_DIGEST: plan.data.digest, tags.SOURCE_DIGEST: task.source_digest, tags.TASK: task_name(task)}
    known = {name: value for name, value in about.items() if value}
    return {**plan.settings.tags, **tags.context_tags(), **known}


def task_name(task: Task) -> str:
    """Return what a sweep's folder and its tags say of its task: nothing, as in version 0.1, for the built-in one."""
    return "" if task.name == DEFAULT_TASK else task.name


def goal_text(goal: Goal | None) -> str:
    """Return what is recorded of what ranks: nothing where nobody has said it."""
    return str(goal) if goal else ""
