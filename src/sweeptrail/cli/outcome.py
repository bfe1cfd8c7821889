"""Where a sweep that has ended can be looked at."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from sweeptrail.outbox import sweep_folder
from sweeptrail.results import report
from sweeptrail.sweeps.plan import Plan
from sweeptrail.sweeps.run import Outcome
from sweeptrail.system.extras import is_installed
from sweeptrail.tracking.uri import without_credentials


def where_to_look(plan: Plan, outcome: Outcome) -> Iterator[str]:
    """Yield a line for each place where the sweep can be looked at."""
    yield f"results:      {outcome.folder / sweep_folder.RESULTS}.csv and .json"
    if not plan.tracked:
        return
    if (outcome.folder / report.FILE_NAME).exists():
        yield f"report:       {outcome.folder / report.FILE_NAME}"
    if is_installed("tensorboard"):  # else there are no event files
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
