"""Models that are logged and registered through an outbox."""

from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from tests.client_machine import machine_in
from tests.server import Server, free_port
from tests.waiting import wait_for

LOGGED = """
import mlflow
from sklearn.dummy import DummyRegressor

def log(**more):
    model = DummyRegressor(strategy="constant", constant=7).fit([[0]], [0])
    return mlflow.sklearn.log_model(model, name="seven", pip_requirements=["scikit-learn"], **more)

mlflow.set_experiment("registered")
"""


def test_a_model_is_registered_as_soon_as_the_server_has_it(
    tracking: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
with mlflow.start_run() as run:
    first = log(registered_model_name="seven")
    assert int(first.registered_model_version) == 1
    assert int(mlflow.register_model(first.model_uri, "seven").version) == 2
    assert int(mlflow.register_model(f"runs:/{run.info.run_id}/seven", "seven").version) == 3
    assert mlflow.sklearn.load_model("models:/seven/2").predict([[0]]) == [7]
"""
    with machine_in(tmp_path / "machine") as machine:
        done = machine.start(f"sweeptrail+{tracking.uri}", "-c", LOGGED + code)
        assert done.returncode == 0, done.stderr
        wait_for(machine.is_delivered)
    client = MlflowClient(tracking.uri)
    versions = client.search_model_versions("name='seven'")
    experiment = client.get_experiment_by_name("registered")
    assert experiment
    [made] = client.search_logged_models([experiment.experiment_id])
    assert {(version.source, version.run_id) for version in versions} == {
        (f"models:/{made.model_id}", made.source_run_id)
    }
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri)
    assert mlflow.sklearn.load_model("models:/seven/3").predict([[0]]) == [7]
    described = Path(mlflow.artifacts.download_artifacts("models:/seven/1", dst_path=str(tmp_path)), "MLmodel")
    assert f"artifact_path: {made.artifact_location}\n" in described.read_text()


def test_without_a_server_a_model_is_logged_and_the_call_that_registers_it_is_named(tmp_path: Path) -> None:
    code = """
from mlflow.exceptions import MlflowException
with mlflow.start_run():
    try:
        log(registered_model_name="seven")
    except MlflowException as error:
        print(error)
    [model] = mlflow.search_logged_models(output_format="list")
    print(mlflow.pyfunc.load_model(model.model_uri).predict([[0]]))
"""
    uri = f"http://127.0.0.1:{free_port()}"
    with machine_in(tmp_path / "machine") as machine:
        done = machine.start(f"sweeptrail+{uri}", "-c", LOGGED + code)
    assert done.returncode == 0, done.stderr
    refused, predicted = done.stdout.splitlines()
    assert refused.startswith(f"create_registered_model: only the tracking server can do this, and {uri} does not ")
    assert predicted == "[7]"


def test_what_this_machine_called_an_experiment_is_known_to_later_processes(tracking: Server, tmp_path: Path) -> None:
    code = """
import sys, mlflow
if len(sys.argv) == 1:
    with mlflow.start_run(experiment_id=mlflow.create_experiment("made here")) as run:
        print(run.info.experiment_id)
else:
    print(len(mlflow.search_runs([sys.argv[1]], "attributes.status = 'FINISHED'", output_format="list")))
"""
    with machine_in(tmp_path / "machine") as machine:
        made = machine.start(f"sweeptrail+{tracking.uri}", "-c", code)
        assert made.returncode == 0, made.stderr
        assert made.stdout.startswith("sweeptrail-")
        wait_for(machine.is_delivered)
        found = machine.start(f"sweeptrail+{tracking.uri}", "-c", code, made.stdout.strip())
        assert found.stdout == "1\n", found.stderr
