"""No call waits for a server that hangs, fails or is away; what only it can do says so, and works when it is there."""

from collections import Counter

import pytest

from tests.outboxes import Outboxes, plain, runs_in, values
from tests.proxy import Proxy
from tests.server import Server
from tests.waiting import wait_for

LOG = """
    import mlflow, os
    mlflow.set_experiment(os.environ["NAME"])
    with mlflow.start_run() as run:
        for number in range(300):
            mlflow.log_metric("loss", number, step=number)
        mlflow.log_metrics({"one": 1, "nan": float("nan"), "inf": float("inf")})
        mlflow.log_params({"lr": 0.1, "name": "größe"})
        mlflow.set_tag("tag", "value")
        mlflow.log_text("text", "file.txt")
        found = mlflow.get_run(run.info.run_id)
        assert found.data.metrics["loss"] == 299 and found.data.params["lr"] == "0.1", found
    print("logged", run.info.run_id, flush=True)
"""


@pytest.mark.parametrize("mode", ["hang", "error500", "refuse", "lost", "empty", "cut"])
def test_a_script_ends_while_the_server_does_not_work_and_all_arrives_when_it_does(
    box: Outboxes, proxy: Proxy, tracking: Server, mode: str
) -> None:
    proxy.mode = mode
    box.run(LOG, NAME=f"mode {mode}")  # while nothing has got through
    assert not [fault for fault in proxy.faults() if fault == "pass"]
    proxy.mode = "pass"
    proxy.release()
    box.settle()
    [run] = runs_in(tracking.uri, f"mode {mode}")
    assert run.info.status == "FINISHED"
    assert values(tracking.uri, run, "loss") == Counter(range(300))
    assert run.data.params == {"lr": "0.1", "name": "größe"}
    assert [each.path for each in plain(tracking.uri).list_artifacts(run.info.run_id)] == ["file.txt"]


def test_a_server_that_dies_and_returns_has_everything_once(box: Outboxes, proxy: Proxy, tracking: Server) -> None:
    script = box.begin(
        """
    import mlflow, os, time
    mlflow.set_experiment("dies")
    with mlflow.start_run() as run:
        number = 0
        while not os.path.exists("end"):
            mlflow.log_metric("loss", number, step=number)
            number += 1
            time.sleep(0.002)
    print("logged", number, flush=True)
    """
    )
    for _ in range(3):
        proxy.log.clear()
        wait_for(lambda: len(proxy.log) > 3)
        proxy.stop()
        proxy.start()
    (script.folder / "end").touch()
    number = int(script.said("logged"))
    assert script.process.wait() == 0, script.errors()
    box.settle()
    [run] = runs_in(tracking.uri, "dies")
    assert (run.info.status, values(tracking.uri, run, "loss")) == ("FINISHED", Counter(range(number)))


ONLY_THE_SERVER = {
    "delete_run": "client.delete_run(run_id)",
    "restore_run": "client.restore_run(run_id)",
    "rename_experiment": "client.rename_experiment(experiment_id, 'renamed')",
    "delete_experiment": "client.delete_experiment(experiment_id)",
    "search_registered_models": "client.search_registered_models()",
    "create_registered_model": "client.create_registered_model('name')",
    "update_model_version": "client.update_model_version('name', 1, 'text')",
    "transition_model_version_stage": "client.transition_model_version_stage('name', 1, 'Staging')",
    "search_traces": "client.search_traces(locations=[experiment_id])",
    "search_experiments": "client.search_experiments(filter_string=\"name = 'x'\")",
}


def test_what_only_the_server_can_do_is_refused_at_once_by_its_name_while_that_is_away(
    box: Outboxes, proxy: Proxy
) -> None:
    proxy.stop()
    calls = "".join(
        f"""
    try:
        {call}
        print({name!r}, "was done")
    except mlflow.MlflowException as error:
        print({name!r}, "refused:", error)
    """
        for name, call in ONLY_THE_SERVER.items()
    )
    printed = box.run(
        LOG
        + """
    import warnings
    warnings.simplefilter("ignore")
    client, run_id, experiment_id = mlflow.MlflowClient(), run.info.run_id, run.info.experiment_id
    """
        + calls,
        NAME="refused",
    )
    lines = printed.splitlines()[1:]
    assert len(lines) == len(ONLY_THE_SERVER)
    for name, line in zip(ONLY_THE_SERVER, lines, strict=True):
        asked = "get_registered_model" if "model_version" in name else name  # which MLflow asks first
        assert line.startswith(f"{name} refused: {asked}: only the tracking server can "), line


def test_what_only_the_server_can_do_works_with_our_ids_while_that_is_there(box: Outboxes, tracking: Server) -> None:
    printed = box.run(
        LOG
        + """
    import warnings
    warnings.simplefilter("ignore")
    client, run_id, experiment_id = mlflow.MlflowClient(), run.info.run_id, run.info.experiment_id
    client.create_registered_model("outbox")
    version = client.create_model_version("outbox", f"runs:/{run_id}/file.txt", run_id)
    client.transition_model_version_stage("outbox", version.version, "Staging")
    client.set_registered_model_alias("outbox", "best", version.version)
    assert client.get_model_version_by_alias("outbox", "best").version == version.version
    client.delete_run(run_id)
    assert mlflow.get_run(run_id).info.lifecycle_stage == "deleted"
    assert not client.search_runs([experiment_id])
    client.restore_run(run_id)
    [found] = client.search_runs([experiment_id])
    assert (found.info.run_id, found.info.experiment_id) == (run_id, experiment_id)
    client.rename_experiment(experiment_id, "renamed by us")
    [experiment] = client.search_experiments(filter_string="name = 'renamed by us'")
    assert experiment.experiment_id == experiment_id
    with mlflow.start_span("span") as span:
        span.set_outputs(1)
    mlflow.flush_trace_async_logging()
    [trace] = client.search_traces(locations=[experiment_id])
    assert trace.info.trace_location.mlflow_experiment.experiment_id == experiment_id
    assert client.get_trace(trace.info.trace_id).data.spans[0].name == "span"
    print("done")
    """,
        NAME="possible",
    )
    assert printed.endswith("done\n")
    box.settle()
    assert len(runs_in(tracking.uri, "renamed by us")) == 1


@pytest.mark.parametrize("mode", ["there", "away"])
def test_a_search_right_after_logging_shows_what_was_logged(box: Outboxes, proxy: Proxy, mode: str) -> None:
    if mode == "away":
        proxy.stop()
    box.run(
        """
    import mlflow, os
    experiment = mlflow.set_experiment(os.environ["NAME"])
    with mlflow.start_run() as run:
        for number in range(20):
            mlflow.log_metric("loss", number)
            found = mlflow.search_runs([experiment.experiment_id], output_format="list")
            assert [(each.info.run_id, each.data.metrics["loss"]) for each in found] == [(run.info.run_id, number)]
    with mlflow.start_run():
        mlflow.log_param("lr", 1)
    client = mlflow.MlflowClient()
    assert len(client.search_runs([experiment.experiment_id])) == 2
    [found] = client.search_runs([experiment.experiment_id], "metrics.loss > 18 and attributes.status = 'FINISHED'")
    assert found.info.run_id == run.info.run_id
    [found] = client.search_runs([experiment.experiment_id], "params.lr = '1'", max_results=1)
    assert not client.search_runs([experiment.experiment_id], "params.lr = '2'")
    """,
        NAME=f"search {mode}",
    )


@pytest.mark.parametrize("mode", ["there", "away"])
def test_another_value_of_a_param_is_refused(box: Outboxes, proxy: Proxy, tracking: Server, mode: str) -> None:
    if mode == "away":
        proxy.stop()
    box.run(
        """
    import mlflow, os
    mlflow.set_experiment(os.environ["NAME"])
    with mlflow.start_run():
        mlflow.log_param("lr", 1)
        mlflow.log_param("lr", 1)
        try:
            mlflow.log_params({"new": 1, "lr": 2})
        except mlflow.MlflowException as error:
            assert "lr" in str(error) and "already logged" in str(error), error
        else:
            raise AssertionError
    """,
        NAME=f"param {mode}",
    )
    if mode == "away":
        proxy.start()
    box.settle()
    [run] = runs_in(tracking.uri, f"param {mode}")
    assert run.data.params == {"lr": "1"}


def test_a_model_that_was_logged_without_the_server_loads_at_once_and_later(
    box: Outboxes, proxy: Proxy, tracking: Server
) -> None:
    proxy.stop()
    code = """
    import mlflow
    mlflow.set_experiment("models")
    def double(model_input: list[float]) -> list[float]:
        return [2 * each for each in model_input]
    with mlflow.start_run() as run:
        logged = mlflow.pyfunc.log_model(name="double", python_model=double, pip_requirements=[])
    for uri in (logged.model_uri, f"runs:/{run.info.run_id}/double"):
        assert mlflow.pyfunc.load_model(uri).predict([1.0]) == [2.0]
    [found] = mlflow.search_logged_models([run.info.experiment_id], output_format="list")
    assert found.model_id == logged.model_id
    print("uri", logged.model_uri, f"runs:/{run.info.run_id}/double", flush=True)
    """
    uris = box.run(code).split()[1:]
    proxy.start()
    box.settle()
    box.run(f"""
    import mlflow
    for uri in {uris}:
        assert mlflow.pyfunc.load_model(uri).predict([1.0]) == [2.0]
    """)
    [run] = runs_in(tracking.uri, "models")
    assert run.outputs
    assert len(run.outputs.model_outputs) == 1
