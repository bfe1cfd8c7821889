"""Jobs of combinations, and what is known of them from earlier sittings."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeptrail.outbox.entries import Decided
from sweeptrail.outbox.history import History, ended, read_history
from sweeptrail.outbox.sweep_folder import KnownRun
from sweeptrail.records import Job, RunResult
from sweeptrail.search.space import run_name
from sweeptrail.sweeps.plan import SINKS, Plan, context_of
from sweeptrail.tasks.task import EPOCHS
from sweeptrail.tracking import tags


class Jobs:
    """Makes the jobs of a sweep; those that were there before keep their number and name."""

    def __init__(self, plan: Plan, folder: Path, identity: str, known: Iterable[KnownRun]) -> None:
        self._plan = plan
        self._folder = folder
        self._identity = identity
        self._context = context_of(plan)
        self._by_key = {run.key: run for run in known}
        self._next_index = max((run.index for run in self._by_key.values()), default=0) + 1

    def make(self, params: Mapping[str, Any], fixed: Mapping[str, Any], *, trial: int | None = None) -> Job:
        """Return the job of a combination, which is one of a trial where they are chosen one after another."""
        plan = self._plan
        values = {**fixed, **params}
        key = plan.settings.run_key(values, plan.data.digest)
        old = self._by_key.get(key) or self._with_fewer_epochs(values)
        index = old.index if old else self._next_index
        self._next_index += not old
        name = (old.name if old else "") or run_name(index, params)
        former = tuple(each for each in (*old.former_keys, old.key) if each != key) if old else ()
        epochs = values[EPOCHS] if isinstance(values.get(EPOCHS), int) else None
        own = {tags.KEY: key, **({tags.TRIAL: str(trial)} if trial else {})}
        return Job(
            index=index,
            name=name,
            params=params,
            settings=fixed,
            folder=str(self._folder / name),
            key=key,
            parent=self._identity,
            tags={**self._context, **own, **({tags.EPOCHS: str(epochs)} if former else {})},
            sinks=_sinks(plan),
            epochs=epochs,
            former_keys=former,
            threads=values.get("threads", 1),
            cost=plan.settings.task.cost(values),
        )

    def _with_fewer_epochs(self, values: Mapping[str, Any]) -> KnownRun | None:
        """Return the same run as it was known when it was asked for fewer epochs."""
        before = self._plan.epochs_before
        if before is None:
            return None
        return self._by_key.get(self._plan.settings.run_key({**values, EPOCHS: before}, self._plan.data.digest))


def _sinks(plan: Plan) -> tuple[str, ...]:
    if plan.tracked:
        return SINKS
    return ("checkpoint",) if plan.settings["stop"] else ()  # what pauses goes on


def known_run(job: Job) -> KnownRun:
    """Return how a job is kept in the description of its sweep."""
    return KnownRun(job.index, job.name, job.key, job.former_keys)


def known_runs(described: Iterable[KnownRun], decisions: Iterable[Decided]) -> list[KnownRun]:
    """Return the runs of a description, and those that were decided upon since it was written."""
    found = {run.index: run for run in described}
    for each in decisions:
        for index, key in each.runs.items():
            found.setdefault(int(index), KnownRun(int(index), "", key))
    return list(found.values())


def history_of(job: Job) -> History:
    """Return what the journal of a job says."""
    return read_history(Path(job.folder), job.index)


def result_of(job: Job, history: History) -> RunResult | None:
    """Return how a job has ended, as its journal tells it; None while it has not."""
    return ended(job.index, job.name, job.params, history)


def is_done(job: Job, history: History) -> bool:
    """Tell whether a job is finished, with as many epochs as it is asked for now."""
    return history.status == "FINISHED" and (not job.former_keys or history.tags.get(tags.KEY) == job.key)


def ended_runs(jobs: Iterable[Job]) -> list[RunResult]:
    """Return the results of the runs that are over, as their journals tell them."""
    found = (result_of(job, history_of(job)) for job in jobs)
    return [result for result in found if result]


def source_remark(jobs: Sequence[Job]) -> str:
    """Return what a person should know if the task's source has changed since runs began; they go on all the same."""
    digests = [(job.tags.get(tags.SOURCE_DIGEST), history_of(job).tags.get(tags.SOURCE_DIGEST)) for job in jobs]
    changed = sum(now != before for now, before in digests if now and before)
    return (
        f"the source of {jobs[0].tags[tags.TASK]} has changed since {changed} of the {len(jobs)} runs began, "
        "so their numbers may not compare; start a new sweep to have all of them anew"
        if changed
        else ""
    )


def sent_to(job: Job, epoch: int | None) -> Job:
    """Return the job as it is carried out up to an epoch; None stands for to its end."""
    return replace(job, pause_after=epoch if epoch != job.epochs else None)
