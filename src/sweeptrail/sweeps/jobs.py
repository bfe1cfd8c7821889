"""Which runs a sweep has to carry out, each as a job."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from sweeptrail.outbox.history import read_history
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


def source_remark(jobs: Sequence[Job]) -> str:
    """Return what a person should know if the task's source has changed since runs began; they go on all the same."""
    digests = [(job.tags.get(tags.SOURCE_DIGEST), _begun_with(job).get(tags.SOURCE_DIGEST)) for job in jobs]
    changed = sum(now != before for now, before in digests if now and before)
    return (
        f"the source of {jobs[0].tags[tags.TASK]} has changed since {changed} of the {len(jobs)} runs began, "
        "so their numbers may not compare; start a new sweep to have all of them anew"
        if changed
        else ""
    )


def _begun_with(job: Job) -> Mapping[str, str]:
    return read_history(Path(job.folder), job.index).tags
