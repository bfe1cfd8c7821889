"""What the courier makes of journals on a real MLflow store."""

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from sweeptrail.errors import DeliveryError
from sweeptrail.outbox import journal
from sweeptrail.outbox.delivery.background import BackgroundCourier
from sweeptrail.outbox.delivery.courier import Courier
from sweeptrail.outbox.delivery.state import STATE_NAME
from sweeptrail.outbox.entries import Unknown
from sweeptrail.outbox.run_journal import RunJournal
from sweeptrail.records import Epoch, RunResult, RunStart
from sweeptrail.tracking.client import TrackingServer
from tests import written as entries
from tests.commands import new_store
from tests.waiting import PATIENCE

SWEEP = "c0ffee"


def store(tmp_path: Path) -> str:
    return new_store(tmp_path)


def write_parent(folder: Path, **more: dict[str, str]) -> journal.Journal:
    written = journal.Journal(folder / journal.FILE_NAME)
    written.append(entries.opened(SWEEP, name="parent", time=1000.5, tags={"mlflow.user": "ada"}, **more))
    written.append(entries.params({"lr": "0.1,0.2", "epochs": "2"}))
    return written


def write_run(folder: Path, index: int = 1, *, end: bool = True) -> None:
    sink = RunJournal(str(folder), parent=SWEEP, tags={"mlflow.user": "ada"})
    sink.begin(RunStart(index, f"{index}_lr=0.1", {"lr": 0.1}, {"epochs": 2}, time=1001.0))
    epochs = tuple(Epoch(index, step, 0.5 / step, 0.8, 2.0, 2.0 * step, time=1001.0 + step) for step in (1, 2))
    for epoch in epochs:
        sink.epoch(epoch)
    if end:
        sink.end(RunResult(index, f"{index}_lr=0.1", {"lr": 0.1}, "FINISHED", epochs, {"test_loss": 0.4}, time=1010.0))


class Counting(TrackingServer):
    """A tracking store that remembers what it was told."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.uploads: list[str] = []
        self.num_logs = 0

    def upload(self, run_id: str, path: Path, to: str) -> int:
        size = super().upload(run_id, path, to)
        self.uploads.append(path.name)
        return size

    def log(self, run_id: str, **what: Any) -> None:
        super().log(run_id, **what)
        self.num_logs += 1


class GrowingRun:
    """A run whose event file is longer after each epoch, and the courier that delivers it."""

    def __init__(self, tmp_path: Path) -> None:
        write_parent(tmp_path / "sweep")
        self.courier = Courier(store(tmp_path), tmp_path / "sweep")
        self.server = self.courier.server = Counting(store(tmp_path))
        self.sink = RunJournal(str(tmp_path / "sweep"), parent=SWEEP, tags={})
        self.sink.begin(RunStart(1, "1_lr=0.1", {"lr": 0.1}, time=1001.0))
        self.events = tmp_path / "sweep" / "1_lr=0.1" / "events.out.tfevents.1"

    def epoch(self, step: int) -> None:
        with self.events.open("ab") as file:
            file.write(b"event " * 100)
        self.sink.epoch(Epoch(1, step, 0.5, 0.8, 2.0, 2.0 * step, time=1001.0 + step))

    def end(self) -> None:
        self.sink.end(RunResult(1, "1_lr=0.1", {"lr": 0.1}, "FINISHED", time=1010.0))

    def stored(self) -> bytes:
        [child] = children(MlflowClient(self.server.uri))
        return (Path(child.info.artifact_uri or "") / "tensorboard" / self.events.name).read_bytes()


def run_id(courier: Courier) -> str:
    box = courier.where(SWEEP)
    assert box
    assert box.run_id
    return box.run_id


def children(client: MlflowClient) -> list[Run]:
    return list(client.search_runs(["0"], "tags.`mlflow.parentRunId` != ''"))


def test_a_sweep_arrives_with_its_original_times(tmp_path: Path) -> None:
    parent = write_parent(tmp_path / "sweep")
    write_run(tmp_path / "sweep")
    parent.append(entries.dataset(name="Fashion-MNIST", digest="d1", source="here", profile={"train": 3}))
    parent.append(entries.closed("FINISHED", time=1020.25))
    courier = Courier(store(tmp_path), tmp_path / "sweep")
    waiting = courier.waiting()
    assert courier.deliver() == waiting > 0
    assert courier.waiting() == 0

    client = MlflowClient(store(tmp_path))
    parent_run = client.get_run(run_id(courier))
    assert (parent_run.info.run_name, parent_run.info.status) == ("parent", "FINISHED")
    assert (parent_run.info.start_time, parent_run.info.end_time) == (1000500, 1020250)
    assert parent_run.data.params == {"lr": "0.1,0.2", "epochs": "2"}
    assert parent_run.inputs
    assert [item.dataset.name for item in parent_run.inputs.dataset_inputs] == ["Fashion-MNIST"]
    [child] = children(client)
    assert child.data.tags["mlflow.parentRunId"] == parent_run.info.run_id
    assert child.data.tags["mlflow.user"] == child.info.user_id == "ada"
    assert child.data.params == {"lr": "0.1", "epochs": "2"}
    assert child.data.metrics["test_loss"] == 0.4
    history = client.get_metric_history(child.info.run_id, "loss")
    assert [(metric.step, metric.value, metric.timestamp) for metric in history] == [
        (1, 0.5, 1002000),
        (2, 0.25, 1003000),
    ]


def test_delivering_twice_changes_nothing(tmp_path: Path) -> None:
    parent = write_parent(tmp_path / "sweep")
    write_run(tmp_path / "sweep")
    parent.append(entries.dataset(name="Fashion-MNIST", digest="d1", source="here", profile={}))
    parent.append(entries.closed("FINISHED", time=1020))
    courier = Courier(store(tmp_path), tmp_path / "sweep")
    courier.deliver()
    for state in (tmp_path / "sweep").rglob(STATE_NAME):
        state.unlink()
    assert Courier(store(tmp_path), tmp_path / "sweep").deliver() > 0

    client = MlflowClient(store(tmp_path))
    runs = client.search_runs(["0"])
    assert sorted(run.info.run_name for run in runs) == ["1_lr=0.1", "parent"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    [child] = children(client)
    assert len(client.get_metric_history(child.info.run_id, "loss")) == 2
    [parent_run] = [run for run in runs if run.info.run_name == "parent"]
    assert parent_run.inputs
    assert len(parent_run.inputs.dataset_inputs) == 1


def test_a_later_courier_delivers_what_was_written_since(tmp_path: Path) -> None:
    write_parent(tmp_path / "sweep")
    write_run(tmp_path / "sweep", 1)
    Courier(store(tmp_path), tmp_path / "sweep").deliver()
    write_run(tmp_path / "sweep", 2)
    Courier(store(tmp_path), tmp_path / "sweep").deliver()
    runs = children(MlflowClient(store(tmp_path)))
    assert sorted(run.info.run_name for run in runs) == ["1_lr=0.1", "2_lr=0.1"]
    assert len({run.data.tags["mlflow.parentRunId"] for run in runs}) == 1


def test_an_open_run_is_adopted_and_its_own_params_and_tags_stand(tmp_path: Path) -> None:
    client = MlflowClient(store(tmp_path))
    run_id = client.create_run("0", tags={"mlflow.user": "grace"}).info.run_id
    client.log_param(run_id, "lr", "given by hand")
    write_parent(tmp_path / "sweep", adopt={"uri": store(tmp_path), "run_id": run_id})
    write_run(tmp_path / "sweep")
    courier = Courier(store(tmp_path), tmp_path / "sweep")
    courier.deliver()
    parent_run = client.get_run(run_id)
    assert parent_run.data.params == {"lr": "given by hand", "epochs": "2"}
    assert parent_run.data.tags["mlflow.user"] == "grace"
    assert children(client)[0].data.tags["mlflow.parentRunId"] == run_id
    assert courier.refusals == []


def test_what_the_server_refuses_is_said_and_does_not_stop_the_rest(tmp_path: Path) -> None:
    parent = write_parent(tmp_path / "sweep")
    parent.append(entries.metrics({"not/a\nname": 1.0}, step=1, time=1.0))
    parent.append(entries.artifact("missing.txt"))
    parent.append(Unknown("from the future"))
    parent.append(entries.metrics({"loss": 1.0}, step=1, time=1.0))
    courier = Courier(store(tmp_path), tmp_path / "sweep")
    courier.deliver()
    assert len(courier.refusals) == 3
    assert "epoch of sweep" in courier.refusals[0]
    assert "missing.txt: the file is gone" in courier.refusals[1]
    run = MlflowClient(store(tmp_path)).get_run(run_id(courier))
    assert run.data.metrics == {"loss": 1.0}


@pytest.mark.parametrize("way", ["upwards", "absolute", "through a link", "through a linked folder"])
def test_a_file_outside_the_sweep_s_folder_is_never_sent(tmp_path: Path, way: str) -> None:
    sweep, private = tmp_path / "sweep", tmp_path / "private" / "key.txt"
    private.parent.mkdir()
    private.write_text("only its owner may read this")
    parent = write_parent(sweep)
    (sweep / "link.txt").symlink_to(private)
    (sweep / "folder").symlink_to(private.parent)
    names = {"upwards": "../private/key.txt", "absolute": str(private), "through a link": "link.txt"}
    parent.append(entries.artifact(names.get(way, "folder/key.txt")))
    courier = Courier(store(tmp_path), sweep)
    courier.deliver()
    [refusal] = courier.refusals
    assert "lies outside the sweep's folder, and is not sent" in refusal
    assert MlflowClient(store(tmp_path)).list_artifacts(run_id(courier)) == []


def test_a_server_that_is_not_there_is_an_error_at_the_first_attempt_and_everything_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parent(tmp_path / "sweep")
    courier = Courier("http://127.0.0.1:9", tmp_path / "sweep")
    pauses: list[float] = []  # between attempts of one request, of which MLflow makes eight
    monkeypatch.setattr("urllib3.util.retry.Retry.sleep", lambda *_: pauses.append(1))
    with pytest.raises(DeliveryError, match=r"^http://127.0.0.1:9: \[Errno 111\] Connection refused$"):
        courier.deliver()
    assert pauses == []
    assert courier.waiting() == 2


def test_an_experiment_is_made_by_its_name_once(tmp_path: Path) -> None:
    for number in (1, 2):
        write_parent(tmp_path / f"sweep{number}", experiment={"name": "mine"})
        (tmp_path / f"sweep{number}" / STATE_NAME).unlink(missing_ok=True)
        Courier(store(tmp_path), tmp_path / f"sweep{number}").deliver()
    client = MlflowClient(store(tmp_path))
    experiment = client.get_experiment_by_name("mine")
    assert experiment
    assert len(client.search_runs([experiment.experiment_id])) == 1  # the same sweep, found again by its identity


def test_what_the_server_refuses_for_good_is_said_at_the_end(tmp_path: Path) -> None:
    parent = write_parent(tmp_path / "sweep")
    parent.append(entries.artifact("missing.txt"))
    said: list[str] = []
    courier = BackgroundCourier(Courier(store(tmp_path), tmp_path / "sweep"), said.append)
    courier.start()
    courier.finish(PATIENCE)
    [line] = said
    assert "refused 1 records for good" in line
    assert "missing.txt: the file is gone" in line


def test_an_event_file_arrives_after_an_epoch_while_the_run_goes_on(tmp_path: Path) -> None:
    run = GrowingRun(tmp_path)
    run.epoch(1)
    run.courier.deliver()
    assert run.stored() == run.events.read_bytes()
    assert children(MlflowClient(run.server.uri))[0].info.status == "RUNNING"


def test_an_event_file_that_was_uploaded_a_moment_ago_waits_for_the_end_of_its_run(tmp_path: Path) -> None:
    run = GrowingRun(tmp_path)
    for step in range(1, 6):
        run.epoch(step)
        run.courier.deliver()
        assert run.courier.waiting() == 0
    assert len(run.server.uploads) == 1
    run.end()
    run.courier.deliver()
    assert len(run.server.uploads) == 2
    assert run.stored() == run.events.read_bytes() == b"event " * 500


def test_an_event_file_is_uploaded_again_when_some_time_has_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeptrail.outbox.delivery.requests.UPLOAD_INTERVAL", 0.0)
    run = GrowingRun(tmp_path)
    for step in (1, 2):
        run.epoch(step)
        run.courier.deliver()
        assert run.stored() == run.events.read_bytes()


def test_what_waits_is_sent_in_few_requests_and_each_event_file_once(tmp_path: Path) -> None:
    run = GrowingRun(tmp_path)
    for step in range(1, 51):
        run.epoch(step)
    run.end()
    run.courier.deliver()
    assert run.server.uploads == [run.events.name]
    assert run.server.num_logs == 2  # the parent's params, and the params of the run with its metrics
    assert run.stored() == run.events.read_bytes()


def test_an_event_file_that_was_cut_replaces_the_longer_one(tmp_path: Path) -> None:
    run = GrowingRun(tmp_path)
    run.epoch(1)
    run.courier.deliver()
    run.events.write_bytes(b"event")
    run.end()
    run.courier.deliver()
    assert run.stored() == b"event"


def test_an_event_file_that_is_gone_before_its_run_has_ended_is_nothing_that_was_refused(tmp_path: Path) -> None:
    run = GrowingRun(tmp_path)
    run.epoch(1)
    run.events.unlink()
    run.courier.deliver()
    assert (run.courier.waiting(), run.server.uploads, run.courier.refusals) == (0, [], [])


def test_the_id_of_an_experiment_means_nothing_on_another_server(tmp_path: Path) -> None:
    write_parent(tmp_path / "sweep", experiment={"id": "7", "uri": "http://elsewhere:5000"}).close()
    courier = Courier(store(tmp_path), tmp_path / "sweep")
    courier.deliver()
    assert MlflowClient(store(tmp_path)).get_run(run_id(courier)).info.experiment_id == "0"


def test_a_sweep_that_cannot_be_opened_waits_as_a_whole(tmp_path: Path) -> None:
    write_parent(tmp_path / "sweep", experiment={"id": "7"}).close()
    write_run(tmp_path / "sweep")
    courier = Courier(store(tmp_path), tmp_path / "sweep")
    waiting = courier.waiting()
    with pytest.raises(DeliveryError, match="No Experiment with id=7 exists"):
        courier.deliver()
    assert courier.waiting() == waiting


def test_the_last_note_links_to_runs_that_began_and_ended_during_the_delivery(tmp_path: Path) -> None:
    parent = write_parent(tmp_path / "sweep")

    class Slow(Counting):
        """While it creates the parent, the sweep begins and ends."""

        def create(self, experiment_id: str, **what: Any) -> str:
            if what["name"] == "parent":
                write_run(tmp_path / "sweep")
                parent.append(entries.note(f"[one](run:{SWEEP}/1)"))
                parent.append(entries.link("champion", f"{SWEEP}/1"))
                parent.append(entries.closed("FINISHED", time=1020.0))
            return super().create(experiment_id, **what)

    courier = Courier(store(tmp_path), tmp_path / "sweep")
    courier.server = Slow(store(tmp_path))
    while courier.waiting():
        courier.deliver()
    client = MlflowClient(store(tmp_path))
    [child] = children(client)
    tags = client.get_run(run_id(courier)).data.tags
    assert tags["champion"] == child.info.run_id
    assert child.info.run_id in tags["mlflow.note.content"]
