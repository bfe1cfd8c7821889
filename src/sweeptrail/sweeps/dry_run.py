"""What a sweep would do, and about how long it would take: from one epoch of one run, of which nothing stays."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sweeptrail.engines import Engine
from sweeptrail.engines.carry_out import longest_first, results
from sweeptrail.engines.processes.engine import auto_workers
from sweeptrail.outbox import sweep_folder
from sweeptrail.records import Job, RunResult
from sweeptrail.results.runs_on_disk import runs_in
from sweeptrail.results.words import in_time, plural
from sweeptrail.search.at_random import AtRandom
from sweeptrail.search.ranges import Range
from sweeptrail.sweeps.plan import SINKS, Plan
from sweeptrail.sweeps.settings import Settings
from sweeptrail.sweeps.trials.jobs import Jobs, history_of, is_done
from sweeptrail.tasks.work import Training

SHOWN = 10
"""How many runs are listed at most."""


@dataclass(frozen=True)
class DryRun:
    """The runs that a sweep would carry out."""

    settings: Settings
    jobs: Sequence[Job]
    """Those that are to be carried out; of a search those of a single combination."""
    finished: int = 0
    """How many others are finished already."""
    timed: RunResult | None = None
    """One epoch of one run, or a whole run of a task that has no parameter `epochs`; None where there is none to do."""

    @property
    def seconds(self) -> float | None:
        """About how long the sweep takes; None where the run that was timed failed."""
        run = self._seconds_of_a_run()
        if run is None or not self.timed:
            return run
        timed = next(job for job in self.jobs if job.index == self.timed.index)
        each = [run * (job.cost / timed.cost if timed.cost else 1) for job in self.jobs]
        if (left := self._left) is not None:
            each = each[:1] * left
        found = max(sum(each) / self.workers, max(each, default=0.0))
        return min(found, self.settings["budget"] or found)

    @property
    def workers(self) -> int:
        """How many runs there are at a time."""
        if self.settings["engine"] == "serial":
            return 1
        workers: int = self.settings["workers"] or auto_workers(self.settings["threads"])
        return max(1, min(workers, len(self.jobs) if self._left is None else self._left))

    @property
    def exit_code(self) -> int:
        """0, or 1 when the run that was timed failed."""
        return 0 if self.seconds is not None else 1

    def __str__(self) -> str:
        return "\n".join([self._counts(), *self._names(), self._estimate()])

    def _seconds_of_a_run(self) -> float | None:
        if not self.timed:
            return 0.0
        if self.timed.epochs and (epochs := self._epochs):
            first = self.timed.epochs[0]
            return first.run_duration + (epochs - 1) * first.epoch_duration
        return self.timed.duration if self.timed.status == "FINISHED" else None

    @property
    def _epochs(self) -> int | None:
        return next((job.epochs for job in self.jobs if self.timed and job.index == self.timed.index), None)

    @property
    def _left(self) -> int | None:
        """How many runs of a search are to be carried out; None for a grid, whose jobs those are."""
        settings = self.settings
        if not settings.strategy():
            return None
        most: int = settings["trials"] or settings["max_runs"]
        size = settings.space.size
        return max(0, (most if size is None else min(most, size)) * len(settings.seeds) - self.finished)

    def _counts(self) -> str:
        settings = self.settings
        lengths = [f"{name}: {_length(settings[name])}" for name in settings.columns]
        if self._left is not None:
            size = settings.space.size
            many = plural("trial", settings["trials"]) if settings["trials"] else "trials until the budget is spent"
            of = "without end" if size is None else f"of {plural('combination', size)}"
            parts = [f"{many} by search={settings['search']}", f"a space {of}", *lengths]
            return "; ".join([*parts, *([f"{self.finished} runs finished already"] if self.finished else [])])
        total = len(self.jobs) + self.finished
        parts = [plural("run", total), *([", ".join(lengths)] if lengths else [])]
        if settings.listed:
            parts.append("as listed")
        if left_out := settings.size - len(settings.grid()):
            parts.append(f"{left_out} left out by valid()")
        if self.finished:
            parts.append(f"{self.finished} finished already, {len(self.jobs)} to carry out")
        return "; ".join(parts)

    def _names(self) -> Iterator[str]:
        names = [job.name for job in self.jobs] if self._left is None else []
        if len(names) > SHOWN:
            half = SHOWN // 2
            names = [*names[:half], f"... {len(names) - SHOWN} more", *names[-half:]]
        yield from (f"  {name}" for name in names)

    def _estimate(self) -> str:
        if not self.timed:
            return "nothing is left to carry out"
        seconds = self.seconds
        if seconds is None:
            return f"no estimate: {self.timed.name}, which was to be timed, {self.timed.status}: {self.timed.reason}"
        if self.timed.epochs and self._epochs:
            what = f"the first of {plural('epoch', self._epochs)}"
            took = self.timed.epochs[0].epoch_duration
        else:
            what, took = "the whole run", self.timed.duration or 0.0
        about = "at most" if self.settings["stop"] or self.settings["budget"] else "about"
        return f"{about} {in_time(seconds)}, {self.workers} at a time: of {self.timed.name} {what} took {in_time(took)}"


def _length(values: Any) -> str:
    return str(values) if isinstance(values, Range) else plural("value", len(values))


def dry_run(plan: Plan, engine_for: Callable[[Plan, Path], Engine]) -> DryRun:
    """Return which runs the plan has, and about how long they take; nothing stays of the run that is timed for it."""
    before = sweep_folder.read(plan.resumed) if plan.resumed else None
    folder = plan.resumed or plan.runs_dir
    jobs = Jobs(plan, folder, before.identity if before else "", before.runs if before else ())
    if plan.settings.strategy():
        todo, finished = _first_of_search(plan, jobs), len(runs_in(folder)) if before else 0
    else:
        made = [jobs.make(params, fixed) for params, fixed in plan.settings.grid()]
        todo = [job for job in made if not (before and is_done(job, history_of(job)))]
        finished = len(made) - len(todo)
    timed = _timed(plan, longest_first(todo)[0], engine_for) if todo else None
    if before and before.is_from_server:  # made just now, of what the server knows
        shutil.rmtree(folder)
    with suppress(OSError):  # it was there before, with something in it
        plan.runs_dir.rmdir()
    return DryRun(plan.settings, todo, finished, timed)


def _first_of_search(plan: Plan, jobs: Jobs) -> list[Job]:
    """Return a job for each seed of a combination, for one to be timed; the others depend on what comes of it."""
    settings = plan.settings
    point = AtRandom(settings.space, settings.seeds[0]).suggest(1, ()) or {}
    return [jobs.make(settings.params_of(point, seed), settings.fixed) for seed in settings.seeds]


def _timed(plan: Plan, job: Job, engine_for: Callable[[Plan, Path], Engine]) -> RunResult:
    """Carry out the first epoch of a run, told to nobody; or the whole run where the number of epochs is not known."""
    work = Training(plan.settings.task.code, plan.data.shared)
    with TemporaryDirectory(prefix="sweeptrail-") as temporary:
        aside = replace(
            job,
            folder=str(Path(temporary, job.name)),
            sinks=SINKS,
            parent="dry-run",
            pause_after=1 if job.epochs else None,
        )
        engine = engine_for(replace(plan, tracked=False), Path(temporary))
        (result,) = results(engine, work, [aside])
    return result
