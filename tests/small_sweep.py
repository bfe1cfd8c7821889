"""A small sweep for the courier: what is written, and what a tracking store must hold in the end."""

import random
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from sweeptrail.errors import DeliveryError
from sweeptrail.outbox import journal
from sweeptrail.outbox.delivery.courier import Courier
from sweeptrail.outbox.run_journal import RunJournal
from sweeptrail.records import Epoch, RunResult, RunStart, Status
from sweeptrail.tracking import tags
from tests import written as entries
from tests.proxy import Proxy

EPOCHS = 3
STATUSES: dict[int, Status] = {1: "FINISHED", 2: "FAILED"}
"""How the nested runs of the small sweep end, by their number."""


def open_parent(folder: Path, **where: dict[str, str]) -> journal.Journal:
    written = journal.Journal(folder / journal.FILE_NAME)
    written.append(
        entries.opened(
            folder.name,
            name="parent",
            time=1000.5,
            tags={"mlflow.user": "ada"},
            experiment={"name": folder.name},
            adopt=where.get("adopt", {}),
        )
    )
    written.append(entries.params({"lr": "0.1,0.2", "epochs": EPOCHS}))
    written.append(entries.dataset(name="Fashion-MNIST", digest="d1", source="here", profile={"train": 3}))
    return written


def close_parent(folder: Path, written: journal.Journal) -> None:
    (folder / "results.csv").write_text(",loss\n" + "0,0.5\n" * 5000)
    written.append(entries.artifact("results.csv"))
    written.append(entries.closed("FAILED", time=1020.25))
    written.close()


def epochs_of(index: int) -> tuple[Epoch, ...]:
    return tuple(
        Epoch(index, step, index / step, 0.8, 2.0, 2.0 * step, time=1000.0 + 10 * index + step)
        for step in range(1, EPOCHS + 1)
    )


def open_run(folder: Path, index: int) -> RunJournal:
    sink = RunJournal(str(folder), parent=folder.name, tags={"mlflow.user": "ada"})
    sink.begin(RunStart(index, f"{index}_lr=0.{index}", {"lr": index / 10}, {"epochs": EPOCHS}, time=1000.0 + index))
    return sink


def close_run(folder: Path, index: int, sink: RunJournal) -> None:
    name = f"{index}_lr=0.{index}"
    # TensorBoard's sink, which is told first, has left its file by then.
    (folder / name / "events.out.tfevents.1").write_bytes(random.Random(index).randbytes(100_000))
    error = None if STATUSES[index] == "FINISHED" else "Traceback\nValueError: nan"
    params, metrics = {"lr": index / 10}, {"test_loss": 0.4}
    sink.end(RunResult(index, name, params, STATUSES[index], epochs_of(index), metrics, error, time=1010.0 + index))


def write_run(folder: Path, index: int) -> None:
    sink = open_run(folder, index)
    for epoch in epochs_of(index):
        sink.epoch(epoch)
    close_run(folder, index, sink)


def write_sweep(folder: Path, **where: dict[str, str]) -> None:
    parent = open_parent(folder, **where)
    for index in STATUSES:
        write_run(folder, index)
    close_parent(folder, parent)


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def runs_of(uri: str, experiment: str) -> list[Run]:
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    assert found, f"there is no experiment {experiment}"
    return list(client.search_runs([found.experiment_id]))


def assert_arrived(uri: str, artifacts: Path, folder: Path) -> None:
    """Assert that the store holds the small sweep: every record once, every file whole."""
    found = runs_of(uri, folder.name)
    runs = {run.data.tags[tags.IDENTITY]: run for run in found}
    assert len(found) == len(runs), "a run is there twice"
    assert runs.keys() == {folder.name, *(f"{folder.name}/{index}" for index in STATUSES)}
    parent = runs[folder.name]
    assert parent.data.params == {"lr": "0.1,0.2", "epochs": str(EPOCHS)}
    assert (parent.info.status, parent.info.end_time) == ("FAILED", 1020250)
    assert parent.inputs
    assert [item.dataset.digest for item in parent.inputs.dataset_inputs] == ["d1"]
    stored = files_below(artifacts / parent.info.experiment_id / parent.info.run_id / "artifacts")
    assert stored == {"results.csv": (folder / "results.csv").read_bytes()}
    for index in STATUSES:
        child = runs[f"{folder.name}/{index}"]
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert_run_arrived(MlflowClient(uri), child, index)
        stored = files_below(artifacts / child.info.experiment_id / child.info.run_id / "artifacts")
        kept = folder / f"{index}_lr=0.{index}"
        expected = {"tensorboard/events.out.tfevents.1": (kept / "events.out.tfevents.1").read_bytes()}
        if STATUSES[index] == "FAILED":
            expected["error.txt"] = (kept / "error.txt").read_bytes()
        assert stored == expected


def assert_run_arrived(client: MlflowClient, run: Run, index: int) -> None:
    assert run.info.status == STATUSES[index]
    assert (run.info.start_time, run.info.end_time) == (1000_000 + 1000 * index, 1010_000 + 1000 * index)
    assert run.info.run_name == f"{index}_lr=0.{index}"
    assert run.data.params == {"lr": str(index / 10), "epochs": str(EPOCHS)}
    assert (run.data.tags["mlflow.user"], run.data.tags["sweeptrail.run"]) == ("ada", str(index))
    assert run.data.tags.get("sweeptrail.reason") == (None if STATUSES[index] == "FINISHED" else "ValueError: nan")
    for metric in ("loss", "accuracy", "epoch_duration", "run_duration"):
        history = client.get_metric_history(run.info.run_id, metric)
        assert sorted((item.step, item.timestamp, item.value) for item in history) == [
            (epoch.epoch, round(epoch.time * 1000), epoch.metrics[metric]) for epoch in epochs_of(index)
        ]
    assert [(item.step, item.value) for item in client.get_metric_history(run.info.run_id, "test_loss")] == [
        (EPOCHS, 0.4)
    ]


def deliver_at_last(proxy: Proxy, courier: Courier, *, fresh: bool) -> int:
    """Deliver until nothing waits, by the same courier or by a fresh one each time; return the failed attempts."""
    for failures in range(1000):
        try:
            courier.deliver()
        except DeliveryError:
            proxy.release()
            courier = Courier(courier.uri, courier.folder) if fresh else courier
        else:
            assert courier.refusals == []
            assert courier.waiting() == 0
            return failures
    raise AssertionError("1000 attempts were not enough")
