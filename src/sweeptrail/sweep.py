"""One sweep from start to finish."""

import hashlib
import json
import shlex
import sys
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sweeptrail import folders, results
from sweeptrail.context import context_tags
from sweeptrail.engines import Engine
from sweeptrail.engines.processes import Processes
from sweeptrail.engines.serial import Serial
from sweeptrail.errors import SweeptrailError, UsageError
from sweeptrail.follower import Follower
from sweeptrail.outbox import entries, journal
from sweeptrail.outbox.background import BackgroundCourier
from sweeptrail.outbox.courier import Courier
from sweeptrail.plan import Plan
from sweeptrail.records import Job, RunResult, Status
from sweeptrail.settings import RunSettings, Settings, as_text
from sweeptrail.sinks.console import Console
from sweeptrail.space import run_name
from sweeptrail.tracking import usable_uri, without_credentials
from sweeptrail.work import Training

SINKS = ("tensorboard", "outbox")
"""The sinks of a tracked run."""

DELIVERY_TIMEOUT = 10.0
"""Seconds to wait at the end for a server that does not answer."""


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended."""

    folder: Path
    results: tuple[RunResult, ...]
    """One for each run that was carried out, in the order of the grid."""
    waiting: int = 0
    """How many records the tracking server has not got yet."""
    address: str = ""
    """Where the tracking server shows the sweep, below its own address; empty while it has not answered."""

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


class Sweep:
    """A sweep in its folder, with the journal of its parent run."""

    def __init__(self, plan: Plan) -> None:
        """Make the folder and describe the sweep in it. Raises SettingsError if that cannot be written."""
        self.plan = plan
        self.folder = folders.new_sweep_folder(plan.runs_dir)
        self.identity = uuid.uuid4().hex
        self.tags = {**context_tags(), "sweeptrail.data_digest": plan.data.digest}
        self.jobs = [self._job(index, *combination) for index, combination in enumerate(plan.settings.grid(), 1)]
        self._describe()
        self._journal = journal.Journal(self.folder / journal.FILE_NAME)

    def open(self) -> None:
        """Say that the sweep begins."""
        tracking, data = self.plan.tracking, self.plan.data
        profile = {"train_samples": len(data.train_labels), "test_samples": len(data.test_labels)}
        self._write(
            entries.opened(
                self.identity,
                name=self.folder.name,
                time=time.time(),
                tags={**self.tags, "sweeptrail.folder": str(self.folder)},
                experiment=tracking.experiment,
                adopt=tracking.adopt_entry(),
            ),
            entries.params(as_text(self.plan.settings)),
            entries.dataset(name="Fashion-MNIST", digest=data.digest, source=data.folder, profile=profile),
        )

    def save_results(self, found: list[RunResult]) -> None:
        """Write the table of everything, and have it delivered."""
        files = results.save(results.rows(found), self.folder / folders.RESULTS)
        self._write(*(entries.artifact(file.name) for file in files))

    def close(self, status: Status, reason: str = "") -> None:
        """Say how the sweep ended."""
        tags = [entries.tags({"sweeptrail.reason": reason})] if reason else []
        self._write(*tags, entries.closed(status, time=time.time()))
        self._journal.close()

    def _write(self, *records: journal.Entry) -> None:
        for record in records:
            self._journal.append(record)
        self._journal.sync()

    def _job(self, index: int, run: tuple[object, ...], settings: RunSettings) -> Job:
        name = run_name(index, run._asdict())  # type: ignore[attr-defined]  # a Run is a namedtuple
        return Job(
            index=index,
            name=name,
            run=run,
            settings=settings,
            folder=str(self.folder / name),
            parent=self.identity,
            tags={**self.tags, "sweeptrail.key": run_key(settings, self.plan.data.digest)},
            sinks=SINKS if self.plan.tracked else (),
        )

    def _describe(self) -> None:
        description = {
            "version": 1,
            "identity": self.identity,
            "created": time.time(),
            "tracking_uri": without_credentials(self.plan.tracking.uri),
            "data_digest": self.plan.data.digest,
            "settings": as_text(self.plan.settings),
            "runs": [{"index": job.index, "name": job.name, "key": job.tags["sweeptrail.key"]} for job in self.jobs],
        }
        results.write_whole(self.folder / folders.DESCRIPTION, json.dumps(description, indent=2) + "\n")


def run_sweep(plan: Plan, console: Console, say: Callable[[str], None]) -> Outcome:
    """Carry out every run of the plan; `say` gets what a person should know at once."""
    sweep = Sweep(plan)
    found: list[RunResult] = []
    with _delivering(sweep, say) as courier:
        sweep.open()
        try:
            with _shown(sweep.jobs, console), _carried_out(plan, sweep.jobs) as coming:
                for result in coming:
                    found.append(result)
                    console.end(result)
        except BaseException as error:
            sweep.save_results(found)
            sweep.close("FAILED" if isinstance(error, Exception) else "KILLED", f"{type(error).__name__}: {error}")
            raise
        found.sort(key=lambda result: result.index)
        outcome = Outcome(sweep.folder, tuple(found))
        sweep.save_results(found)
        failed = [result.name for result in found if result.status != "FINISHED"]
        sweep.close(outcome.status, f"{len(failed)} of {len(found)} runs failed" if failed else "")
    if not plan.tracked:
        return outcome
    return replace(outcome, waiting=courier.waiting(), address=courier.address(sweep.identity))


def _carried_out(plan: Plan, jobs: list[Job]) -> AbstractContextManager[Generator[RunResult, None, None]]:
    """Return the results to come; leaving the `with` block cancels the rest."""
    return closing(engine_of(plan.settings).run(Training(plan.data), jobs))


@contextmanager
def _delivering(sweep: Sweep, say: Callable[[str], None]) -> Iterator[BackgroundCourier]:
    courier = BackgroundCourier(Courier(sweep.plan.tracking.uri, sweep.folder), say)
    if sweep.plan.tracked:
        courier.start()
    try:
        yield courier
    finally:
        courier.finish(DELIVERY_TIMEOUT)


@contextmanager
def _shown(jobs: list[Job], console: Console) -> Iterator[None]:
    follower = Follower(jobs, console)
    with console:
        follower.start()
        try:
            yield
        finally:
            follower.stop()


def engine_of(settings: Settings) -> Engine:
    """Return the engine that carries the runs out."""
    if settings.engine == "serial":
        return Serial()
    return Processes(settings.workers, settings.retries)


def run_key(settings: RunSettings, data_digest: str) -> str:
    """Return what a run is recognised by: a hash of all that changes its numbers.

    `threads` and `device` are left out: they change no more than the last bits.
    """
    numbers = {name: value for name, value in asdict(settings).items() if name not in ("threads", "device")}
    text = json.dumps({**numbers, "data": data_digest}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def refuse(tracking_uri: str, run_id: str, error: UsageError) -> None:
    """Write on the run that `mlflow run` has opened why there is no sweep; MLflow then closes it as FAILED."""
    from sweeptrail.outbox.server import TrackingServer

    reason = "\n".join(error.problems)
    with suppress(SweeptrailError):  # the mistakes themselves are what the person must see
        tags = {"sweeptrail.reason": reason[:500], "mlflow.note.content": f"Not started:\n\n```\n{reason}\n```"}
        TrackingServer(usable_uri(tracking_uri)).log(run_id, metrics=[], params={}, tags=tags)


def whereabouts(plan: Plan, outcome: Outcome) -> Iterator[str]:
    """Yield a line for each place where the sweep can be looked at."""
    yield f"results:      {outcome.folder / folders.RESULTS}.csv and .json"
    if not plan.tracked:
        return
    yield f"TensorBoard:  {_program('tensorboard')} --logdir {shlex.quote(str(plan.runs_dir))}"
    uri = without_credentials(plan.tracking.uri)
    if plan.tracking.database:
        # Without its job runner and with one worker the server answers sooner, in a fifth of the memory.
        server = f"MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false {_program('mlflow')} ui --workers 1"
        yield f"MLflow:       {server} --backend-store-uri {shlex.quote(uri)}"
        uri = "http://127.0.0.1:5000"
    if outcome.address:
        yield f"the sweep:    {uri}/?workflowType=machine_learning{outcome.address}"
    if outcome.waiting:
        yield f"not sent yet: {outcome.waiting} records, kept in {outcome.folder}"


def _program(name: str) -> str:
    """Return how to start a program of this environment, which need not be the one of the person's shell."""
    is_virtual = sys.prefix != sys.base_prefix
    return shlex.quote(str(Path(sys.executable).with_name(name))) if is_virtual else name
