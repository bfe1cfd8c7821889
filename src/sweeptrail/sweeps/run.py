"""One sweep from start to finish, and its resumption."""

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path

from sweeptrail.engines import Engine
from sweeptrail.engines.processes.engine import Processes
from sweeptrail.engines.processes.forkserver import ForkServer
from sweeptrail.engines.ray.engine import Ray
from sweeptrail.engines.serial import Serial
from sweeptrail.errors import Cancelled, SweeptrailError, UsageError
from sweeptrail.fashion_mnist.work import Training
from sweeptrail.outbox import description, entries, folders, journal
from sweeptrail.outbox.delivery.background import BackgroundCourier
from sweeptrail.outbox.delivery.courier import Courier
from sweeptrail.outbox.delivery.state import Mailbox
from sweeptrail.outbox.description import SETTINGS_TAG, Description, KnownRun
from sweeptrail.outbox.history import History, read_history, result_of
from sweeptrail.outbox.run_journal import append, close_abandoned, close_open_runs
from sweeptrail.records import Job, RunResult, Status
from sweeptrail.results import table
from sweeptrail.results.parent_run import Standings, conclude
from sweeptrail.search.space import Run, run_name
from sweeptrail.sweeps.outcome import Outcome
from sweeptrail.sweeps.plan import Plan
from sweeptrail.sweeps.progress import Follower
from sweeptrail.sweeps.resume import HARMLESS
from sweeptrail.sweeps.settings import RunSettings, as_text
from sweeptrail.system.locks import locked
from sweeptrail.tracking.tags import context_tags
from sweeptrail.tracking.uri import usable_uri, without_credentials
from sweeptrail.training.sinks.console import Console

SINKS = ("tensorboard", "checkpoint", "outbox")
"""The sinks of a tracked run."""

COMPARED = 50
"""How many runs the address of the comparison names at most: with more a terminal would show nothing else."""

STOPPING_TIMEOUT = 2.0
"""Seconds to wait for the tracking server after Ctrl-C or SIGTERM, when all must be over within five."""


class Sweep:
    """A sweep in its folder, with the journal of its parent run."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        """Describe the sweep in its folder. Raises SweeptrailError if that cannot be written."""
        self.plan = plan
        self.folder = folder
        before = description.read(self.folder) if plan.resumed else None
        self.identity = before.identity if before else uuid.uuid4().hex
        self.tags = {**context_tags(), "sweeptrail.data_digest": plan.data.digest}
        self.jobs = list(self._make_jobs(before.runs if before else ()))
        Description(
            identity=self.identity,
            created=before.created if before else time.time(),
            tracking_uri=without_credentials(plan.tracking.uri),
            settings=as_text(plan.settings),
            runs=[KnownRun(job.index, job.name, job.key) for job in self.jobs],
        ).write(self.folder)
        self._journal = journal.Journal(self.folder / journal.FILE_NAME)
        self._standings = Standings(self.folder, self.identity, plan.tracking.uri, has_report=plan.settings.report)

    def open(self) -> None:
        """Say that the sweep begins, or goes on."""
        tracking, data = self.plan.tracking, self.plan.data
        tags = {**self.tags, "sweeptrail.folder": str(self.folder)}
        settings = as_text(self.plan.settings)
        adopt = {} if self.plan.resumed else tracking.adopt_entry()
        self._write(
            entries.opened(
                self.identity,
                name=self.folder.name,
                time=time.time(),
                tags=tags,
                experiment=tracking.experiment_entry(),
                adopt=adopt,
            ),
            entries.tags({SETTINGS_TAG: json.dumps(settings)}),
        )
        if not self.plan.resumed:
            profile = {"train_samples": len(data.train_labels), "test_samples": len(data.test_labels)}
            self._write(
                entries.params(settings),
                entries.dataset(name="Fashion-MNIST", digest=data.digest, source=data.folder, profile=profile),
            )

    def ended(self) -> list[RunResult]:
        """Return the results of the runs that are over, as their journals tell them."""
        histories = ((job, self.history(job)) for job in self.jobs)
        return [result_of(job, history) for job, history in histories if history.status]

    def save_results(self, found: Iterable[RunResult]) -> None:
        """Write the table of everything, and have it delivered."""
        files = table.save(table.rows(found), self.folder / folders.RESULTS)
        self._write(*(entries.artifact(file.name) for file in files))

    def show_standings(self, found: Iterable[RunResult], *, at_once: bool = False) -> None:
        """Bring the leaderboard of the parent up to date, now and then or at once."""
        if self.plan.tracked and (at_once or self._standings.is_due()):
            self._write(*self._standings.write(self._standings.board(found)))

    def conclude(self, found: Iterable[RunResult], say: Callable[[str], None]) -> None:
        """Leave the final leaderboard, the report and the champion."""
        if not self.plan.tracked:
            return
        board = self._standings.board(found)
        self._write(*self._standings.write(board), *self._standings.write_runs(board))
        jobs = {job.index: job for job in self.jobs}
        self._write(*conclude(self.folder, board, jobs, self.plan.settings, self.plan.data, say))

    def best_first(self, found: Iterable[RunResult]) -> list[int]:
        """Return the numbers of the finished runs, the best first."""
        board = self._standings.board(found)
        return [run.result.index for row in board.rows for run in row.runs]

    def settled(self, result: RunResult) -> RunResult:
        """Return the result with the epochs that its journal has, after ending a journal that its worker left open."""
        if result.status == "FINISHED" or not self.plan.tracked:
            return result
        job = next(job for job in self.jobs if job.index == result.index)
        close_abandoned(job, result)
        return replace(result, epochs=self.history(job).epochs)

    def history(self, job: Job) -> History:
        """Return what a job has left behind so far."""
        return read_history(Path(job.folder), job.index)

    def close(self, status: Status, reason: str = "") -> None:
        """Say how the sweep ended."""
        self._write(entries.tags({"sweeptrail.reason": reason}), entries.closed(status, time=time.time()))
        self._journal.close()

    def _write(self, *records: journal.Entry) -> None:
        for record in records:
            self._journal.append(record)
        self._journal.sync()

    def _make_jobs(self, known: Iterable[KnownRun]) -> Iterator[Job]:
        """Yield a job for each combination; those that were there before keep their number and name."""
        by_key = {run.key: run for run in known}
        next_index = max((run.index for run in by_key.values()), default=0) + 1
        for run, settings in self.plan.settings.grid():
            key = run_key(settings, self.plan.data.digest)
            old = by_key.get(key)
            index = old.index if old else next_index
            next_index += not old
            name = old.name if old else run_name(index, run._asdict())  # type: ignore[attr-defined]  # a namedtuple
            yield self._job(index, name, key, run, settings)

    def _job(self, index: int, name: str, key: str, run: Run, settings: RunSettings) -> Job:
        return Job(
            index=index,
            name=name,
            run=run,
            settings=settings,
            folder=str(self.folder / name),
            parent=self.identity,
            tags={**self.tags, "sweeptrail.key": key},
            sinks=SINKS if self.plan.tracked else (),
        )


def run_sweep(
    plan: Plan, console: Callable[[int], Console], say: Callable[[str], None], server: ForkServer | None = None
) -> Outcome:
    """Carry out every run of the plan that is not finished.

    `console` is made for the number of runs; `say` gets what a person should know at once; workers
    are forked from `server`, which may have been started already.
    Raises UsageError when another process is at this sweep, and Cancelled when it is stopped.
    """
    folder = plan.resumed or folders.new_sweep_folder(plan.runs_dir)
    with locked(folder / folders.LOCK) as was_free:
        if not was_free:
            raise UsageError(f"resume: another process is carrying out {folder}; wait for its end, or stop it first")
        sweep = Sweep(plan, folder)
        with _delivering(sweep, say) as courier, _resumption(sweep):
            found = _carry_out(sweep, console, engine_of(plan, server), say)
    outcome = Outcome(folder, tuple(found))
    if not plan.tracked:
        return outcome
    best = [f"{sweep.identity}/{index}" for index in sweep.best_first(found)[:COMPARED]]
    return replace(
        outcome,
        waiting=courier.waiting(),
        address=courier.address(sweep.identity),
        comparison=courier.comparison(best),
    )


def _carry_out(
    sweep: Sweep, console: Callable[[int], Console], engine: Engine, say: Callable[[str], None]
) -> list[RunResult]:
    """Return the results of all runs in the order of the grid, those of an earlier sitting among them."""
    found = {result.index: result for result in sweep.ended() if result.status == "FINISHED"}
    todo = [job for job in sweep.jobs if job.index not in found]
    screen = console(len(sweep.jobs))
    for job in sweep.jobs:
        screen.recall(job.index, len(sweep.history(job).epochs), has_ended=job.index in found)
    sweep.open()
    try:
        with _shown(todo, screen), closing(engine.run(Training(sweep.plan.data), todo)) as coming:
            for result in coming:
                found[result.index] = sweep.settled(result)
                screen.end(result)
                sweep.show_standings(found.values())
        results = [found[index] for index in sorted(found)]
        sweep.save_results(results)
        sweep.conclude(results, say)
    except BaseException as error:
        reason = "the sweep was stopped" if isinstance(error, Cancelled) else f"{type(error).__name__}: {error}"
        close_open_runs(sweep.folder, reason)
        ended = sweep.ended()
        try:
            sweep.save_results(ended)
            sweep.show_standings(ended, at_once=True)
        finally:
            sweep.close("FAILED" if isinstance(error, Exception) else "KILLED", reason)
        raise
    failed = [result for result in results if result.status != "FINISHED"]
    sweep.close("FAILED" if failed else "FINISHED", f"{len(failed)} of {len(results)} runs failed" if failed else "")
    return results


@contextmanager
def _delivering(sweep: Sweep, say: Callable[[str], None]) -> Iterator[BackgroundCourier]:
    courier = BackgroundCourier(Courier(sweep.plan.tracking.uri, sweep.folder), say)
    timeout = sweep.plan.settings.delivery_timeout
    if sweep.plan.tracked:
        courier.start()
    try:
        yield courier
    except Cancelled:
        courier.finish(STOPPING_TIMEOUT, at_most=STOPPING_TIMEOUT)
        raise
    except BaseException:
        courier.finish(timeout)
        raise
    courier.finish(timeout)


@contextmanager
def _resumption(sweep: Sweep) -> Iterator[None]:
    """Tell of the run that `mlflow run -P resume=...` opened for itself: it is no sweep, it points to one."""
    tracking = sweep.plan.tracking
    if not sweep.plan.resumed or not tracking.adopt or tracking.adopt == parent_run_id(sweep):
        yield
        return
    path = sweep.folder / f"resumption-{tracking.adopt}" / journal.FILE_NAME
    identity = f"{sweep.identity}/resumption/{tracking.adopt}"
    append(
        path,
        entries.opened(identity, name="resumption", time=time.time(), tags={}, adopt=tracking.adopt_entry()),
        entries.link("sweeptrail.resumes", sweep.identity),
    )
    status: Status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except Cancelled:
        status = "KILLED"
        raise
    finally:
        append(path, entries.closed(status, time=time.time()))


def parent_run_id(sweep: Sweep) -> str:
    """Return the id of the sweep's run on the tracking server; empty if it is not known here."""
    return Mailbox(sweep.folder / journal.FILE_NAME, sweep.plan.tracking.uri).run_id or ""


@contextmanager
def _shown(jobs: list[Job], console: Console) -> Iterator[None]:
    follower = Follower(jobs, console)
    with console:
        follower.start()
        try:
            yield
        finally:
            follower.stop()


def engine_of(plan: Plan, server: ForkServer | None = None) -> Engine:
    """Return the engine that carries the runs out; closing what its `run` returns cancels the rest."""
    settings = plan.settings
    if settings.engine == "serial":
        return Serial()
    if settings.engine == "ray":
        return Ray(settings.gpus_per_run, settings.retries, workers=settings.workers, tracking_uri=plan.tracking.uri)
    return Processes(settings.workers, settings.retries, server)


def run_key(settings: RunSettings, data_digest: str) -> str:
    """Return what a run is recognised by: a hash of all that changes its numbers."""
    numbers = {name: value for name, value in asdict(settings).items() if name not in HARMLESS}
    text = json.dumps({**numbers, "data": data_digest}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def refuse(tracking_uri: str, run_id: str, error: UsageError) -> None:
    """Write on the run that `mlflow run` has opened why there is no sweep; MLflow then closes it as FAILED."""
    reason = "\n".join(error.problems)
    tags = {"sweeptrail.reason": reason[:500], "mlflow.note.content": f"Not started:\n\n```\n{reason}\n```"}
    tag(tracking_uri, run_id, tags)


def tag(tracking_uri: str, run_id: str, tags: Mapping[str, str]) -> None:
    """Tag the run that `mlflow run` has opened, if the server answers: the person sees the same on the screen."""
    from sweeptrail.tracking.client import TrackingServer

    with suppress(SweeptrailError):
        TrackingServer(usable_uri(tracking_uri)).log(run_id, metrics=[], params={}, tags=tags)
