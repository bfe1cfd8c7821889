"""What a sweep would do, and about how long it would take: from one epoch of one run, of which nothing stays."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from sweeptrail.engines import Engine
from sweeptrail.engines.carry_out import longest_first, results
from sweeptrail.engines.processes.engine import auto_workers
from sweeptrail.outbox import sweep_folder
from sweeptrail.records import Job, RunResult
from sweeptrail.results.words import in_time, plural
from sweeptrail.sweeps.plan import SINKS, Plan, make_jobs
from sweeptrail.sweeps.run import ended_runs
from sweeptrail.sweeps.settings import Settings
from sweeptrail.tasks.work import FIRST_EPOCH, Training

SHOWN = 10
"""How many runs are listed at most."""


@dataclass(frozen=True)
class DryRun:
    """The runs that a sweep would carry out."""

    settings: Settings
    jobs: Sequence[Job]
    """Those that are to be carried out."""
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
        return max(sum(each) / self.workers, max(each))

    @property
    def workers(self) -> int:
        """How many runs there are at a time."""
        if self.settings["engine"] == "serial":
            return 1
        workers: int = self.settings["workers"] or auto_workers(self.settings["threads"])
        return min(workers, len(self.jobs))

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

    def _counts(self) -> str:
        settings = self.settings
        lengths = [f"{name}: {plural('value', len(settings[name]))}" for name in settings.columns]
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
        names = [job.name for job in self.jobs]
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
        return f"about {in_time(seconds)}, {self.workers} at a time: of {self.timed.name} {what} took {in_time(took)}"


def dry_run(plan: Plan, engine_for: Callable[[Plan, Path], Engine]) -> DryRun:
    """Return which runs the plan has, and about how long they take; nothing stays of the run that is timed for it."""
    before = sweep_folder.read(plan.resumed) if plan.resumed else None
    folder = plan.resumed or plan.runs_dir
    jobs = list(make_jobs(plan, folder, before.identity if before else "", before.runs if before else ()))
    finished = {result.index for result in ended_runs(jobs) if result.status == "FINISHED"} if before else set()
    todo = [job for job in jobs if job.index not in finished]
    timed = _timed(plan, longest_first(todo)[0], engine_for) if todo else None
    if before and before.is_from_server:  # made just now, of what the server knows
        shutil.rmtree(folder)
    with suppress(OSError):  # it was there before, with something in it
        plan.runs_dir.rmdir()
    return DryRun(plan.settings, todo, len(finished), timed)


def _timed(plan: Plan, job: Job, engine_for: Callable[[Plan, Path], Engine]) -> RunResult:
    """Carry out the first epoch of a run, told to nobody; or the whole run where the number of epochs is not known."""
    work = Training(plan.settings.task.code, plan.data.shared)
    with TemporaryDirectory(prefix="sweeptrail-") as temporary:
        sinks = (*SINKS, *([FIRST_EPOCH] if job.epochs else []))
        aside = replace(job, folder=str(Path(temporary, job.name)), sinks=sinks, parent="dry-run")
        engine = engine_for(replace(plan, tracked=False), Path(temporary))
        (result,) = results(engine, work, [aside])
    return result
