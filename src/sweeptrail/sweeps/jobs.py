"""Which runs a sweep has to carry out, each as a job."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from sweeptrail.outbox.sweep_folder import KnownRun
from sweeptrail.records import Job
from sweeptrail.search.space import run_name
from sweeptrail.sweeps.plan import Plan
from sweeptrail.tasks.task import DEFAULT_TASK, Task
from sweeptrail.tracking import tags

SINKS = ("tensorboard", "checkpoint", "outbox")
"""The sinks of a tracked run."""


def context_of(plan: Plan) -> dict[str, str]:
    """Return the tags that all runs of a sweep have: who runs what code on what data."""
    task = plan.settings.task
    about = {tags.DATA_DIGEST: plan.data.digest, tags.SOURCE_DIGEST: task.source_digest, tags.TASK: task_name(task)}
    return {**tags.context_tags(), **{name: value for name, value in about.items() if value}}


def task_name(task: Task) -> str:
    """Return what a sweep's folder and its tags say of its task: nothing, as in version 0.1, for the built-in one."""
    return "" if task.name == DEFAULT_TASK else task.name


def make_jobs(plan: Plan, folder: Path, identity: str, known: Iterable[KnownRun]) -> Iterator[Job]:
    """Yield a job for each combination; those that were there before keep their number and name."""
    context = context_of(plan)
    by_key = {run.key: run for run in known}
    next_index = max((run.index for run in by_key.values()), default=0) + 1
    settings = plan.settings
    for params, fixed in settings.grid():
        values = {**fixed, **params}
        key = settings.run_key(values, plan.data.digest)
        old = by_key.get(key)
        index = old.index if old else next_index
        next_index += not old
        name = old.name if old else run_name(index, params)
        yield Job(
            index=index,
            name=name,
            params=params,
            settings=fixed,
            folder=str(folder / name),
            key=key,
            parent=identity,
            tags={**context, tags.KEY: key},
            sinks=SINKS if plan.tracked else (),
            epochs=values["epochs"] if isinstance(values.get("epochs"), int) else None,
            threads=values.get("threads", 1),
            cost=settings.task.cost(values),
        )
