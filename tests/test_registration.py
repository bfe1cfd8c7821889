"""The best run of a sweep as a version of a registered model, and the alias of the champion of all sweeps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from sweeptrail.errors import DeliveryError, UsageError
from sweeptrail.fashion_mnist.evaluation.predict import load
from sweeptrail.outbox import journal
from sweeptrail.outbox.delivery.courier import Courier
from sweeptrail.outbox.delivery.state import STATE_NAME
from sweeptrail.outbox.history import read_history
from sweeptrail.outbox.journal import append
from sweeptrail.outbox.run_journal import RunJournal
from sweeptrail.records import Epoch, RunResult, RunStart
from tests import written as entries
from tests.commands import new_store
from tests.exported import NAME, export, images, job, probabilities
from tests.server import Server


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URI of a store for all tests, each with a model of its own: making one takes seconds."""
    return new_store(tmp_path_factory.mktemp("store"))


def write_sweep(folder: Path) -> Path:
    """Write the journals of a sweep with one run, both ended, and return the run's."""
    identity = str(folder)
    append(
        folder / journal.FILE_NAME,
        entries.opened(identity, name=folder.name, time=1000, tags={}),
        entries.closed("FINISHED", time=1020),
    )
    sink = RunJournal(str(folder), parent=identity, tags={})
    sink.begin(RunStart(1, NAME, {"lr": 0.1}, time=1001))
    epoch = Epoch(1, 1, 0.5, 0.8, 2.0, 2.0, {"validation_accuracy": 0.8}, time=1002)
    sink.epoch(epoch)
    sink.end(RunResult(1, NAME, {"lr": 0.1}, "FINISHED", (epoch,), time=1010))
    return folder / NAME / journal.FILE_NAME


def register(folder: Path, uri: str, **facts: Any) -> str:
    """Deliver a sweep whose champion is registered, and return the id of that run."""
    path = write_sweep(folder)
    (path.parent / "model").mkdir()
    (path.parent / "model" / "MLmodel").write_text("flavors: {}")
    version = {
        "name": folder.parent.name,
        "metric": "validation_accuracy",
        "value": 0.9,
        "data": "d1, 5000 held out",
        **facts,
    }
    append(
        path,
        entries.artifact("model/MLmodel", "model"),
        entries.version(**version, parent=str(folder), tags={"sweeptrail.sweep": folder.name}),
    )
    return deliver(folder, uri)


def deliver(folder: Path, uri: str) -> str:
    courier = Courier(uri, folder)
    courier.deliver()
    assert courier.refusals == []
    box = courier.where(f"{folder}/1")
    assert box
    return str(box.run_id)


def champion(uri: str, name: str) -> int:
    return int(MlflowClient(uri).get_registered_model(name).aliases["champion"])


def versions(uri: str, name: str) -> list[ModelVersion]:
    found = MlflowClient(uri).search_model_versions(f"name = '{name}'")
    return sorted(found, key=lambda version: int(version.version))


def decision(uri: str, name: str) -> str:
    return str(versions(uri, name)[-1].tags["sweeptrail.decision"])


def test_the_first_champion_is_registered_with_all_that_it_can_be_compared_by(tmp_path: Path, store: str) -> None:
    run_id = register(tmp_path / "monday", store)
    [version] = versions(store, tmp_path.name)
    parent = MlflowClient(store).get_run(run_id).data.tags["mlflow.parentRunId"]
    assert (version.run_id, version.source) == (run_id, f"runs:/{run_id}/model")
    assert version.tags == {
        "sweeptrail.sweep": "monday",
        "sweeptrail.sweep_run_id": parent,
        "sweeptrail.metric": "validation_accuracy",
        "sweeptrail.value": "0.9",
        "sweeptrail.chosen_on": "d1, 5000 held out",
        "sweeptrail.decision": "became the champion after version none",
    }
    assert champion(store, tmp_path.name) == 1


@pytest.mark.parametrize(
    ("facts", "holder", "said"),
    [
        ({"value": 0.91}, 2, "became the champion after version 1"),
        ({"value": 0.89}, 1, "not the champion: version 1 has validation_accuracy 0.9000, this one 0.8900"),
        ({"value": 0.9}, 1, "not the champion: version 1 has validation_accuracy 0.9000, this one 0.9000"),
        ({"value": float("nan")}, 1, "not the champion: version 1 has validation_accuracy 0.9000, this one nan"),
        ({"value": 0.99, "data": "d1, 1000 held out"}, 1, "not the champion: version 1 cannot be compared: "),
        ({"value": 0.99, "data": "d2, 5000 held out"}, 1, "not the champion: version 1 cannot be compared: "),
        ({"value": 0.99, "metric": "accuracy"}, 1, "not the champion: version 1 cannot be compared: "),
    ],
)
def test_only_a_better_one_on_the_same_data_takes_the_alias_over(
    tmp_path: Path, store: str, facts: dict[str, Any], holder: int, said: str
) -> None:
    register(tmp_path / "monday", store)
    register(tmp_path / "tuesday", store, **facts)
    assert champion(store, tmp_path.name) == holder
    assert decision(store, tmp_path.name).startswith(said)


def test_a_version_that_somebody_else_registered_keeps_the_alias(tmp_path: Path, store: str) -> None:
    client = MlflowClient(store)
    client.create_registered_model(tmp_path.name)
    client.create_model_version(tmp_path.name, "s3://elsewhere/model")
    client.set_registered_model_alias(tmp_path.name, "champion", "1")
    register(tmp_path / "monday", store)
    assert champion(store, tmp_path.name) == 1
    assert "version 1 cannot be compared: sweeptrail.metric is None there" in decision(store, tmp_path.name)


def test_an_alias_that_nobody_holds_any_more_is_taken(tmp_path: Path, store: str) -> None:
    register(tmp_path / "monday", store)
    MlflowClient(store).delete_model_version(tmp_path.name, "1")
    register(tmp_path / "tuesday", store, value=0.1)
    assert champion(store, tmp_path.name) == 2


def forget(folder: Path) -> None:
    for state in folder.rglob(STATE_NAME):
        state.unlink()


def test_delivered_twice_it_is_one_version_and_no_second_decision(tmp_path: Path, store: str) -> None:
    register(tmp_path / "monday", store)
    register(tmp_path / "tuesday", store, value=0.95)
    MlflowClient(store).set_registered_model_alias(tmp_path.name, "champion", "1")  # somebody takes it back
    forget(tmp_path)
    deliver(tmp_path / "tuesday", store)
    assert len(versions(store, tmp_path.name)) == 2
    assert champion(store, tmp_path.name) == 1


def test_a_delivery_that_broke_off_before_the_decision_is_made_up(tmp_path: Path, store: str) -> None:
    register(tmp_path / "monday", store)
    client = MlflowClient(store)
    client.delete_registered_model_alias(tmp_path.name, "champion")
    client.delete_model_version_tag(tmp_path.name, "1", "sweeptrail.decision")
    forget(tmp_path)
    deliver(tmp_path / "monday", store)
    assert (len(versions(store, tmp_path.name)), champion(store, tmp_path.name)) == (1, 1)


def test_a_name_that_no_model_can_have_is_refused_and_the_rest_delivered(tmp_path: Path, store: str) -> None:
    path = write_sweep(tmp_path / "monday")
    version = entries.version(name="a/b", metric="accuracy", value=0.9, data="d1", parent=str(tmp_path / "monday"))
    append(path, version, entries.tags({"after": "it"}))
    courier = Courier(store, tmp_path / "monday")
    courier.deliver()
    [refusal] = courier.refusals
    assert "version of 1_lr=0.01" in refusal
    assert "Names cannot contain '/'" in refusal
    box = courier.where(f"{tmp_path}/monday/1")
    assert box
    assert MlflowClient(store).get_run(str(box.run_id)).data.tags["after"] == "it"


def test_a_registered_model_that_is_none_of_ours_is_refused_by_its_name(tmp_path: Path, store: str) -> None:
    register(tmp_path / "monday", store)
    with pytest.raises(UsageError) as caught:
        load(f"models:/{tmp_path.name}@champion", store)
    expected = "expected a model that sweeptrail has exported, got none"
    assert str(caught.value) == f"model: models:/{tmp_path.name}@champion: {expected}"


def test_what_is_said_after_a_run_was_closed_leaves_it_finished(tmp_path: Path, store: str) -> None:
    run_id = register(tmp_path / "monday", store)
    history = read_history(tmp_path / "monday" / NAME, 1)
    assert (history.status, history.time, history.is_open) == ("FINISHED", 1010, False)
    run = MlflowClient(store).get_run(run_id)
    assert (run.info.status, run.info.end_time) == ("FINISHED", 1010_000)


def test_without_a_server_everything_waits(tmp_path: Path, store: str) -> None:
    with pytest.raises(DeliveryError):
        register(tmp_path / "monday", "http://127.0.0.1:9")
    assert Courier("http://127.0.0.1:9", tmp_path / "monday").waiting() > 0


def test_a_real_server_keeps_the_champion_and_gives_it_back(tracking: Server, tmp_path: Path) -> None:
    given = replace(job(tmp_path / "monday"), parent=str(tmp_path / "monday"))
    path = write_sweep(tmp_path / "monday")
    append(path, *export(given))
    run_id = deliver(tmp_path / "monday", tracking.uri)
    register(tmp_path / "tuesday", tracking.uri, name="fashion-mnist", value=0.5)
    forget(tmp_path)
    deliver(tmp_path / "monday", tracking.uri)
    assert len(versions(tracking.uri, "fashion-mnist")) == 2
    assert champion(tracking.uri, "fashion-mnist") == 1
    for name in ("models:/fashion-mnist@champion", "models:/fashion-mnist/1", f"runs:/{run_id}/model"):
        answer = load(name, tracking.uri).network(torch.from_numpy(images(3)).unsqueeze(1) / 255)
        assert torch.allclose(answer, probabilities(given, images(3)), atol=1e-6)
    for name in ("models:/fashion-mnist@newest", "models:/fashion-mnist/7", "models:/nothing/1", "runs:/0/model"):
        with pytest.raises(UsageError) as caught:
            load(name, tracking.uri)
        assert f"has no {name}" in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(DeliveryError):
        load("models:/fashion-mnist@champion", "http://127.0.0.1:9")
