"""A run that MLflow code can belong to, over its journal alone; and what of it is on MLflow after delivery."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from sweeptrail.outbox.delivery.courier import Courier
from sweeptrail.outbox.plugin.inside import belongs_to
from sweeptrail.outbox.plugin.open_run import run_id_of
from sweeptrail.outbox.run_journal import RunJournal, run_identity
from sweeptrail.records import RunResult, RunStart
from sweeptrail.tracking.facts import Dataset
from tests.commands import ROOT, environment
from tests.small_sweep import close_parent, open_parent, runs_of
from tests.waiting import PATIENCE

PARAMS = {"lr": "0.1"}


@dataclass(frozen=True)
class JournalledRun:
    """What the manager is for a task, as far as MLflow needs it."""

    journal: RunJournal
    run_id: str
    name: str
    folder: Path
    params: Mapping[str, str]
    tags: Mapping[str, str]

    def log_metrics(self, values: Mapping[str, float], step: int, time: float) -> None:
        self.journal.measure(values, step, time)

    def log_params(self, values: Mapping[str, str]) -> None:
        self.journal.add_params(values)

    def set_tags(self, values: Mapping[str, str]) -> None:
        self.journal.add_tags(values)

    def log_artifact(self, path: Path, to: str) -> None:
        self.journal.add_artifact(path, to)

    def add_dataset(self, dataset: Dataset) -> None:
        self.journal.add_dataset(dataset)


@contextmanager
def inside(sweep: Path, index: int = 1) -> Iterator[JournalledRun]:
    """Be inside of a run of the sweep in this folder, from its beginning to its end."""
    name, tags = f"{index}_lr=0.1", {"mlflow.user": "ada"}
    journal = RunJournal(str(sweep), parent=sweep.name, tags=tags)
    journal.begin(RunStart(index, name, PARAMS, time=1000.0))
    run_id = run_id_of(run_identity(sweep.name, index))
    run = JournalledRun(journal, run_id, name, sweep / name, PARAMS, tags)
    with belongs_to(run):
        yield run
    journal.end(RunResult(index, name, PARAMS, "FINISHED", time=1010.0))


def deliver(uri: str, sweep: Path) -> tuple[MlflowClient, list[Run]]:
    """Have all of a sweep delivered, and return its nested runs; there is its own run, and no other."""
    close_parent(sweep, open_parent(sweep))
    courier = Courier(uri, sweep)
    courier.deliver()
    assert (courier.refusals, courier.waiting()) == ([], 0)
    client = MlflowClient(uri)
    assert {each.name for each in client.search_experiments()} == {"Default", sweep.name}
    assert not client.search_runs(["0"])
    runs = runs_of(uri, sweep.name)
    [parent] = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == len(runs) - 1
    return client, sorted(children, key=lambda run: int(run.data.tags["sweeptrail.run"]))


def files_of(client: MlflowClient, run: Run, into: Path) -> dict[str, bytes]:
    """Return all artifacts of a run by their paths."""
    into.mkdir()
    top = [item.path for item in client.list_artifacts(run.info.run_id)]
    for path in top:
        client.download_artifacts(run.info.run_id, path, str(into))
    return {path.relative_to(into).as_posix(): path.read_bytes() for path in into.rglob("*") if path.is_file()}


# As a worker has it: the run is opened without MLflow, which only the task loads.
WORKER = """
from sweeptrail.outbox.plugin.inside import belongs_to
from sweeptrail.outbox.plugin.open_run import run_id_of
from sweeptrail.outbox.run_journal import RunJournal
from sweeptrail.records import RunResult, RunStart

class Open:
    def __init__(self, index):
        self.name, self.params, self.tags = f"{index}_lr=0.1", {"lr": "0.1"}, {"mlflow.user": "ada"}
        self.folder, self.run_id = sweep / self.name, run_id_of(f"{sweep.name}/{index}")
        self.journal = RunJournal(str(sweep), parent=sweep.name, tags=self.tags)
        self.journal.begin(RunStart(index, self.name, self.params, time=1000.0))
        self.log_metrics, self.log_params = self.journal.measure, self.journal.add_params
        self.set_tags, self.log_artifact = self.journal.add_tags, self.journal.add_artifact
        self.add_dataset = self.journal.add_dataset

def carry_out(index, task):
    run = Open(index)
    with belongs_to(run):
        task(run)
    run.journal.end(RunResult(index, run.name, run.params, "FINISHED", time=1010.0))

"""


def alone(code: str, sweep: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run code in a process that has not loaded MLflow, with the sweep's folder as `sweep`."""
    begin = f"import sys\nfrom pathlib import Path\nsweep = Path({str(sweep)!r})\n"
    env = environment(PYTHONPATH=f"{ROOT / 'src'}{os.pathsep}{ROOT}", **more)
    sweep.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-c", begin + code],
        cwd=sweep,
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
