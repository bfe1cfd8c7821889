"""What a worker does whose machine does not see the folder of the sweep."""

import contextlib
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from sweeptrail.engines import Work
from sweeptrail.engines.ray import worker
from sweeptrail.engines.ray.worker import Answer, Home, Shared, home_of
from sweeptrail.outbox import journal
from sweeptrail.outbox.delivery.courier import Courier
from sweeptrail.outbox.journal import append
from sweeptrail.records import Job, RunResult
from tests import engine_works as works
from tests import written as entries
from tests.commands import new_store
from tests.server import Server


@contextlib.contextmanager
def elsewhere(tmp_path: Path, uri: str, **environment: str) -> Iterator[tuple[Home, Job]]:
    """Describe a sweep with its journal to a worker that does not see its folder, and a job of it."""
    folder = tmp_path / "sweep"
    opened = entries.opened("c0ffee", name="parent", time=1.0, tags={}, experiment={"name": "cluster"})
    append(folder / journal.FILE_NAME, opened)
    with home_of(folder, uri, environment) as home:
        (folder / worker.TOKEN_NAME).write_text("of another machine")
        yield home, works.training_jobs(1, folder)[0]


def carried_out(home: Home, job: Job, files: worker.Files | None = None, work: Work | None = None) -> Answer:
    shared = Shared(work or works.fashion_mnist(), home)
    answer: Answer = pickle.loads(worker.answer(home.token, shared, pickle.dumps((job, files or {}))))
    return answer


def test_a_worker_elsewhere_reports_its_run_to_the_server_and_brings_its_folder_back(
    tracking: Server, tmp_path: Path
) -> None:
    with elsewhere(tmp_path, tracking.uri) as (home, job):
        Courier(tracking.uri, tmp_path / "sweep").deliver()
        answer = carried_out(home, job)
        client = MlflowClient(tracking.uri)
        experiment = client.get_experiment_by_name("cluster")
        assert experiment
        runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
        assert runs["run 1"].info.status == "FINISHED"
        assert runs["run 1"].data.tags["mlflow.parentRunId"] == runs["parent"].info.run_id
        assert len(client.get_metric_history(runs["run 1"].info.run_id, "loss")) == 2
        worker.write_files(Path(job.folder), answer.files)
        assert Courier(tracking.uri, tmp_path / "sweep").waiting() == 0
    assert {"checkpoint.pt", journal.FILE_NAME} <= set(answer.files)


def test_what_a_worker_elsewhere_cannot_deliver_is_delivered_by_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "DELIVERY_TIMEOUT", 0.1)
    with elsewhere(tmp_path, "http://127.0.0.1:9") as (home, job):
        answer = carried_out(home, job)
    worker.write_files(Path(job.folder), answer.files)
    store = new_store(tmp_path)
    Courier(store, tmp_path / "sweep").deliver()
    client = MlflowClient(store)
    [experiment] = [found for found in client.search_experiments() if found.name == "cluster"]
    runs = client.search_runs([experiment.experiment_id])
    assert sorted((run.info.run_name, run.info.status) for run in runs) == [
        ("parent", "RUNNING"),
        ("run 1", "FINISHED"),
    ]


def test_a_run_that_had_begun_goes_on_elsewhere_after_its_last_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "DELIVERY_TIMEOUT", 0.1)
    with elsewhere(tmp_path, "http://127.0.0.1:9") as (home, job):
        first = carried_out(home, replace(job, settings={**job.settings, "epochs": 1}))
        second = carried_out(home, job, first.files)
        assert isinstance(first.result, RunResult)
        assert isinstance(second.result, RunResult)
    assert second.result.epochs[0] == first.result.epochs[0]
    assert len(second.result.epochs) == 2


def test_a_run_that_is_cancelled_elsewhere_leaves_what_is_needed_to_go_on(tmp_path: Path) -> None:
    def write_and_stop(job: Job) -> RunResult:
        Path(job.folder, "checkpoint.pt").parent.mkdir(exist_ok=True)
        Path(job.folder, "checkpoint.pt").write_text("weights")
        raise KeyboardInterrupt

    with elsewhere(tmp_path, "http://127.0.0.1:9") as (home, job):
        answer = carried_out(home, job, work=write_and_stop)
    assert (answer.result, answer.files["checkpoint.pt"]) == ("the run was cancelled", b"weights")


def test_a_worker_elsewhere_refuses_what_is_tracked_in_a_file(tmp_path: Path) -> None:
    with elsewhere(tmp_path, "sqlite:///mlflow.db") as (home, job):
        answer = carried_out(home, job)
    assert "write tracking_uri=http://HOST:5000" in str(answer.result)
    assert answer.files == {}


def test_only_the_variables_that_say_who_is_there_go_along_and_are_never_shown(tmp_path: Path) -> None:
    environment = {"AWS_SECRET_ACCESS_KEY": "open-sesame", "HOME": "/"}
    with elsewhere(tmp_path, "http://ada:open-sesame@127.0.0.1:9", **environment) as (home, _):
        assert home.credentials == {"AWS_SECRET_ACCESS_KEY": "open-sesame"}
        assert "open-sesame" not in repr(home)


def test_a_run_that_pauses_elsewhere_goes_on_there_and_costs_no_epoch_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "DELIVERY_TIMEOUT", 0.1)
    with elsewhere(tmp_path, "http://127.0.0.1:9") as (home, job):
        first = carried_out(home, replace(job, pause_after=1))
        second = carried_out(home, job, first.files)
    assert isinstance(first.result, RunResult)
    assert isinstance(second.result, RunResult)
    assert (first.result.status, second.result.status) == ("PAUSED", "FINISHED")
    assert second.result.epochs[0] == first.result.epochs[0]
    assert len(second.result.epochs) == 2
