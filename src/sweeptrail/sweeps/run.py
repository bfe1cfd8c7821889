"""One sweep from start to finish, or from where it stopped."""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from sweeptrail.engines import Engine
from sweeptrail.engines.carry_out import answers
from sweeptrail.engines.create import create
from sweeptrail.engines.processes.forkserver import ForkServer
from sweeptrail.errors import Cancelled, UsageError
from sweeptrail.outbox import output_log, sweep_folder
from sweeptrail.outbox.delivery.background import BackgroundCourier
from sweeptrail.outbox.delivery.courier import Courier
from sweeptrail.outbox.delivery.state import DeliveryState
from sweeptrail.outbox.entries import Dataset
from sweeptrail.outbox.journal import FILE_NAME
from sweeptrail.outbox.parent_journal import ParentJournal, pointing_to
from sweeptrail.outbox.run_journal import close_abandoned, close_open_runs, run_identity
from sweeptrail.outbox.sweep_folder import Description
from sweeptrail.records import Goal, RunResult, Status
from sweeptrail.results import table
from sweeptrail.results.leaderboard import Leaderboard
from sweeptrail.results.parent_run import Standings
from sweeptrail.sweeps.conclude import Conclusion
from sweeptrail.sweeps.options import NAME
from sweeptrail.sweeps.plan import Plan, context_of, goal_text, task_name
from sweeptrail.sweeps.progress import shown
from sweeptrail.sweeps.trials.jobs import Jobs, ended_runs, history_of, known_run, known_runs, source_remark
from sweeptrail.sweeps.trials.trials import Trials
from sweeptrail.system.locks import locked
from sweeptrail.tasks.work import Training
from sweeptrail.tracking import tags
from sweeptrail.tracking.uri import without_credentials
from sweeptrail.training.sinks.console import Console

COMPARED = 50
"""How many runs the address of the comparison names at most: with more a terminal would show nothing else."""

STOPPING_TIMEOUT = 2.0
"""Seconds to wait for the tracking server after Ctrl-C or SIGTERM, when all must be over within five."""

MakeConsole = Callable[[int | None, Goal | None], Console]

Say = Callable[[str], None]
"""Told what a person should know at once."""


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended."""

    folder: Path
    results: tuple[RunResult, ...]
    """One for each run that was carried out, in the order of their numbers, also in an earlier sitting."""
    leaderboard: Leaderboard
    waiting: int = 0
    """How many records the tracking server has not got yet."""
    address: str = ""
    """Where the tracking server shows the sweep, below its own address; empty while it has not answered."""
    run_id: str = ""
    """Of the sweep's own run on the tracking server; empty while that has not answered."""
    comparison: str = ""
    """The same of the comparison of its runs, the best of them if they are many."""

    @property
    def champion(self) -> RunResult | None:
        """The best run of the best combination; None where nothing is ranked."""
        return self.leaderboard.champion.result if self.leaderboard.champion else None

    @property
    def status(self) -> Status:
        """FINISHED when every run is."""
        return "FINISHED" if all(result.status == "FINISHED" for result in self.results) else "FAILED"

    @property
    def exit_code(self) -> int:
        """0, 1 when a run failed, 3 when only the tracking server does not know everything."""
        if self.status != "FINISHED":
            return 1
        return 3 if self.waiting else 0


@dataclass(frozen=True)
class OpenSweep:
    """A sweep that is carried out: what its parts have in common."""

    plan: Plan
    description: Description
    trials: Trials
    parent: ParentJournal
    standings: Standings
    say: Say

    @property
    def folder(self) -> Path:
        return self.parent.folder


def run_sweep(plan: Plan, engine_for: Callable[[Plan, Path], Engine], console: MakeConsole, say: Say) -> Outcome:
    """Carry out every run of the plan that is not finished.

    `engine_for` gives the engine for a plan and the sweep's folder; `console` is made for the
    number of runs, None where only time ends them, and what ranks them. Raises UsageError when
    another process is at this sweep, and Cancelled when it is stopped.
    """
    folder = plan.resumed or sweep_folder.new_sweep_folder(plan.runs_dir, plan.settings[NAME])
    with locked(folder / sweep_folder.LOCK) as was_free:
        if not was_free:
            raise UsageError(f"resume: another process is carrying out {folder}; wait for its end, or stop it first")
        sweep = _open(plan, folder, say)
        with _delivering(sweep) as courier, _resumption(sweep):
            found = _carry_out(sweep, engine_for(plan, folder), console)
    board = sweep.standings.board(found)
    outcome = Outcome(folder, tuple(found), board)
    if not plan.tracked:
        return outcome
    best = [run.result.index for row in board.rows for run in row.runs][:COMPARED]
    return replace(
        outcome,
        waiting=courier.waiting(),
        address=courier.address(sweep.parent.identity),
        run_id=DeliveryState(folder / FILE_NAME, plan.tracking.uri).run_id or "",
        comparison=courier.comparison([run_identity(sweep.parent.identity, index) for index in best]),
    )


def _open(plan: Plan, folder: Path, say: Say) -> OpenSweep:
    """Describe the sweep in its folder; raises SweeptrailError if that cannot be written."""
    before = sweep_folder.read(folder) if plan.resumed else None
    identity = before.identity if before else uuid.uuid4().hex
    parent = ParentJournal(folder, identity)
    known = known_runs(before.runs if before else (), parent.decisions())
    trials = Trials(plan, Jobs(plan, folder, identity, known), parent)
    description = Description(
        identity=identity,
        created=before.created if before else time.time(),
        tracking_uri=without_credentials(plan.tracking.uri),
        settings=plan.settings.texts,
        runs=(),
        goal=goal_text(plan.settings.goal),
        columns=plan.settings.columns,
        task=task_name(plan.settings.task),
    )
    standings = Standings(
        parent,
        plan.tracking.uri,
        goal=plan.settings.goal,
        has_report=plan.settings["report"],
        remark=plan.settings["note"] or "",
    )
    sweep = OpenSweep(plan, description, trials, parent, standings, say)
    _describe(sweep)
    return sweep


def _describe(sweep: OpenSweep) -> None:
    """Keep what the sweep is, with the runs that it has by now."""
    runs = [known_run(job) for job in sweep.trials.jobs]
    replace(sweep.description, runs=runs).write(sweep.folder)


def _carry_out(sweep: OpenSweep, engine: Engine, console: MakeConsole) -> list[RunResult]:
    """Return the results of all runs in the order of their numbers, those of an earlier sitting among them."""
    trials, found = sweep.trials, sweep.trials.results
    screen = console(trials.size, sweep.plan.settings.goal)
    for index, epochs, result in trials.recalled:
        screen.recall(index, epochs, result=result)
    _begin(sweep)
    if remark := source_remark(trials.jobs):
        sweep.say(remark)
    work = Training(sweep.plan.settings.task.code, sweep.plan.data.shared)
    try:
        with shown(screen) as trials.follow, closing(answers(engine, work, trials)) as coming:
            for result in coming:
                found[result.index] = _settled(sweep, result)
                screen.end(result, _printed(sweep, result))
                if sweep.plan.tracked and sweep.standings.is_due():
                    sweep.standings.write(sweep.standings.board(found.values()))
            for result in trials.stop():
                found[result.index] = result
                screen.end(result)
        if remark := trials.remark():
            sweep.say(remark)
        _describe(sweep)
        all_results = [found[index] for index in sorted(found)]
        _save_table(sweep, all_results)
        if sweep.plan.tracked:
            _conclude(sweep, all_results)
    except BaseException as error:
        _break_off(sweep, error)
        raise
    failed = sum(result.status != "FINISHED" for result in all_results)
    reason = f"{failed} of {len(all_results)} runs failed" if failed else ""
    sweep.parent.close("FAILED" if failed else "FINISHED", reason)
    return all_results


def _begin(sweep: OpenSweep) -> None:
    """Say on the sweep's own run that it begins, or goes on."""
    plan, parent = sweep.plan, sweep.parent
    context = {**context_of(plan), tags.FOLDER: str(sweep.folder)}
    parent.begin(plan.tracking, context, is_resumed=plan.resumed is not None)
    parent.describe(plan.settings.texts, goal_text(plan.settings.goal), plan.settings.columns)
    name = {tags.RUN_NAME: sweep.folder.name} if plan.settings[NAME] else {}  # a run to adopt has another
    parent.add_tags({**plan.settings.tags, **name})
    if not plan.resumed:
        parent.add_params(plan.settings.texts)
    used = Dataset(plan.data.name, plan.data.digest, plan.data.source, plan.data.profile)
    if used.digest and (before := parent.add_dataset(used)):
        sweep.say(f"the data have changed (digest {used.digest}, was {before}): their runs are carried out anew")


def _settled(sweep: OpenSweep, result: RunResult) -> RunResult:
    """Return the result with the epochs that its journal has, after ending a journal that its worker left open."""
    if result.status in ("FINISHED", "PAUSED") or not sweep.plan.tracked:
        return result
    job = sweep.trials.job(result.index)
    close_abandoned(job, result)
    return replace(result, epochs=history_of(job).epochs)


def _printed(sweep: OpenSweep, result: RunResult) -> Sequence[str]:
    """Return the last lines that a run has printed which failed."""
    if result.status in ("FINISHED", "PAUSED"):
        return ()
    return output_log.last_lines(sweep.folder / result.name)


def _save_table(sweep: OpenSweep, found: Iterable[RunResult]) -> None:
    """Write the table of everything, and have it delivered."""
    files = table.save(table.rows(found), sweep.folder / sweep_folder.RESULTS)
    sweep.parent.add_files(*(file.name for file in files))


def _conclude(sweep: OpenSweep, found: Iterable[RunResult]) -> None:
    """Leave the final leaderboard, the report and the champion."""
    board = sweep.standings.board(found)
    sweep.standings.write(board)
    sweep.standings.write_best(board)
    sweep.standings.write_runs(board)
    jobs = {job.index: job for job in sweep.trials.jobs}
    Conclusion(sweep.plan, board, jobs, sweep.parent, sweep.say).draw_and_register()


def _break_off(sweep: OpenSweep, error: BaseException) -> None:
    """Close what is open, with the reason, and leave what there is."""
    reason = "the sweep was stopped" if isinstance(error, Cancelled) else f"{type(error).__name__}: {error}"
    close_open_runs(sweep.folder, reason)
    found = ended_runs(sweep.trials.jobs)
    try:
        _describe(sweep)
        _save_table(sweep, found)
        if sweep.plan.tracked:
            board = sweep.standings.board(found)
            sweep.standings.write(board)
            sweep.standings.write_best(board)
    finally:
        sweep.parent.close("FAILED" if isinstance(error, Exception) else "KILLED", reason)


@contextmanager
def _delivering(sweep: OpenSweep) -> Iterator[BackgroundCourier]:
    courier = BackgroundCourier(Courier(sweep.plan.tracking.uri, sweep.folder), sweep.say)
    timeout = sweep.plan.settings["delivery_timeout"]
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


def _resumption(sweep: OpenSweep) -> AbstractContextManager[None]:
    """Return what tells of a run that `mlflow run` has opened for a sweep that has one already."""
    tracking = sweep.plan.tracking
    own = DeliveryState(sweep.folder / FILE_NAME, tracking.uri).run_id
    if sweep.plan.resumed and tracking.adopt and tracking.adopt != own:
        return pointing_to(sweep.parent, tracking)
    return nullcontext()


def engine_of(plan: Plan, folder: Path, *, server: ForkServer) -> Engine:
    """Return the engine that the settings name; `processes` forks its workers from `server`, if that is the task's."""
    preload = plan.settings.task.preload
    if not server.has_loaded(preload):
        server.close()
        server = ForkServer(preload)
    return create(plan.settings["engine"], plan.options(folder), server)
