"""Other people's clients of MLflow, unchanged, through an outbox: their runs are what they are without one."""

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Run
from sklearn.datasets import load_iris

from sweeptrail.outbox.entries import Artifact
from sweeptrail.outbox.machine.facts import RunFacts, entries
from sweeptrail.tracking.tags import IDENTITY, PARENT_RUN_ID
from tests.client_machine import machine_in
from tests.on_server import differences, everything, models_of, paths_of
from tests.proxy import proxy_before
from tests.server import Server
from tests.waiting import wait_for

SCRIPTS = Path(__file__).parent / "clients"
FLOWERS = load_iris(as_frame=True).data

CLIENTS: dict[str, tuple[int, Any]] = {
    "lightning_logger": (3, None),
    "transformers_trainer": (2, None),
    "sklearn_autolog": (1, FLOWERS),
    "pytorch_autolog": (2, numpy.ones((2, 1), "float32")),
    "optuna_trials": (6, None),
    "xgboost_autolog": (1, FLOWERS),
}
"""After how many measurements each is killed, and what its models are tried on."""


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")  # whatever the packages say that the models need
@pytest.mark.parametrize("script", CLIENTS)
def test_a_client_loses_nothing(script: str, tracking: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measurements, sample = CLIENTS[script]
    code = str(SCRIPTS / f"{script}.py")
    with proxy_before(tracking.port, seed=0) as proxy, machine_in(tmp_path / "machine") as machine:
        uri = f"sweeptrail+{proxy.uri}"
        proxy.stop()
        away = machine.start(uri, code)
        assert away.returncode == 0, away.stderr
        assert away.stderr.count("does not answer") <= 1
        proxy.start()
        plain = machine.start(tracking.uri, code)
        assert plain.returncode == 0, plain.stderr
        wait_for(machine.is_delivered)
        proxy.mode = "hang"
        killed = machine.start(uri, str(SCRIPTS.parent / "killed_client.py"), code, str(measurements))
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        proxy.outage("error500", after=0, requests=3)
        proxy.mode = "pass"
        proxy.release()
        wait_for(machine.is_delivered)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri)
    client = MlflowClient()
    reference, delivered, partial = families(client, code)
    whole = everything(client, reference, tmp_path / "reference")
    assert list(differences(whole, everything(client, delivered, tmp_path / "delivered"))) == []
    for one, other in zip(models_of(client, reference), models_of(client, delivered), strict=True):
        compare_models(one, other, sample)
    assert partial[0].info.status == "KILLED"
    for run in partial:
        compare_with_journal(client, run, machine.told(run))
    is_begun_like(everything(client, partial, tmp_path / "partial"), whole)


def families(client: MlflowClient, code: str) -> list[list[Run]]:
    """Return the runs that a script has made: what each start of it has, its outermost run first.

    The first is that without an outbox; there are two others, each run of which there is once.
    """
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    of_script = f"tags.`mlflow.source.name` = '{code}'"
    runs = sorted(client.search_runs(experiments, of_script), key=lambda run: run.info.start_time)
    outermost = [run for run in runs if PARENT_RUN_ID not in run.data.tags]
    found = [
        [run, *(each for each in runs if each.data.tags.get(PARENT_RUN_ID) == run.info.run_id)] for run in outermost
    ]
    delivered, reference, partial = found
    identities = [run.data.tags[IDENTITY] for run in delivered + partial]
    assert len(identities) == len(set(identities))
    assert not any(IDENTITY in run.data.tags for run in reference)
    return [reference, delivered, partial]


def compare_models(one: LoggedModel, other: LoggedModel, sample: Any) -> None:
    """See that two models can be loaded from the server, and predict the same."""
    loaded = [mlflow.pyfunc.load_model(f"models:/{model.model_id}") for model in (one, other)]
    if sample is not None:
        assert numpy.array_equal(*(model.predict(sample) for model in loaded))


def compare_with_journal(client: MlflowClient, run: Run, told: RunFacts) -> None:
    """See that all is on the server, and nothing twice, that a journal says of a run."""
    assert run.info.status == told.status != "RUNNING"
    assert run.info.end_time == told.end_time
    assert run.data.params == told.params
    assert {**run.data.tags, **told.tags, PARENT_RUN_ID: ""} == {**run.data.tags, PARENT_RUN_ID: ""}
    assert run.data.metrics.keys() == told.latest.keys()
    for name in told.latest:
        history = client.get_metric_history(run.info.run_id, name)
        on_server = [(each.step, each.timestamp, each.value) for each in history]
        assert sorted(on_server) == sorted(measured.moment for measured in told.history(name))
    assert paths_of(client, run) == {
        f"{entry.to}/{Path(entry.path).name}".lstrip("/") for entry in entries(told.path) if type(entry) is Artifact
    }


def is_begun_like(partial: Mapping[str, Any], whole: Mapping[str, Any]) -> None:
    """See that what was logged before the end is what is logged by then when nothing happens."""
    for name, begun in partial.items():
        assert begun["params"].items() <= whole[name]["params"].items()
        for metric, values in begun["metrics"].items():
            assert values == whole[name]["metrics"][metric][: len(values)]
