"""How a sweep ended, and where it can be looked at."""

import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sweeptrail.outbox import folders
from sweeptrail.records import RunResult, Status
from sweeptrail.results import report
from sweeptrail.sweeps.plan import Plan
from sweeptrail.tracking.uri import without_credentials


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended."""

    folder: Path
    results: tuple[RunResult, ...]
    """One for each run of the grid, in its order, also for those that an earlier sitting carried out."""
    waiting: int = 0
    """How many records the tracking server has not got yet."""
    address: str = ""
    """Where the tracking server shows the sweep, below its own address; empty while it has not answered."""
    comparison: str = ""
    """The same of the comparison of its runs, the best of them if they are many."""

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


def whereabouts(plan: Plan, outcome: Outcome) -> Iterator[str]:
    """Yield a line for each place where the sweep can be looked at."""
    yield f"results:      {outcome.folder / folders.RESULTS}.csv and .json"
    if not plan.tracked:
        return
    if (outcome.folder / report.FILE_NAME).exists():
        yield f"report:       {outcome.folder / report.FILE_NAME}"
    yield f"TensorBoard:  {program('tensorboard')} --logdir {shlex.quote(str(plan.runs_dir))}"
    uri = without_credentials(plan.tracking.uri)
    if plan.tracking.database:
        # Without its job runner and with one worker the server answers sooner, in a fifth of the memory.
        server = f"MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false {program('mlflow')} ui --workers 1"
        yield f"MLflow:       {server} --backend-store-uri {shlex.quote(uri)}"
        uri = "http://127.0.0.1:5000"
    if outcome.address:
        yield f"the sweep:    {uri}/{outcome.address}"
    if outcome.comparison:
        yield f"compare:      {uri}/{outcome.comparison}"
    if outcome.waiting:
        command = f"{program('sweeptrail')} sync {shlex.quote(str(outcome.folder))}"
        yield f"not sent yet: {outcome.waiting} records, kept on disk; to deliver them: {command}"


def program(name: str) -> str:
    """Return how to start a program of this environment, which need not be the one of the person's shell."""
    path = Path(sys.executable).with_name(name)
    if name == "sweeptrail" and not path.exists():  # a project that MLflow has fetched is not installed
        return f"{shlex.quote(sys.executable)} -m sweeptrail"
    return shlex.quote(str(path)) if sys.prefix != sys.base_prefix else name
