"""Plain MLflow inside a run belongs to the run."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from mlflow.entities import DatasetInput, Run
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.tracking.abstract_store import AbstractStore
from PIL import Image
from sklearn.linear_model import LogisticRegression

from sweeptrail.outbox import journal
from sweeptrail.outbox.entries import Metrics
from sweeptrail.outbox.plugin import refusals
from sweeptrail.outbox.plugin.store import BUILT_ON_OTHERS, RunStore, run_store
from tests.inside_run import WORKER, alone, deliver, files_of, inside
from tests.server import mlflow_server

pytestmark = pytest.mark.slow

IRIS = "from sklearn.datasets import load_iris\nx, y = load_iris(return_X_y=True)\n"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return tmp_path / "sweep"


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture(params=["database", "server"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path, store: str) -> Iterator[str]:
    if request.param == "database":
        yield store
    else:
        with mlflow_server(tmp_path / "server") as server:
            yield server.uri


@contextmanager
def tracking(uri: str) -> Iterator[None]:
    """Let this be the person's tracking URI, for the `with` block."""
    none: Any = None
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(none)


def active_id() -> str:
    run = mlflow.active_run()
    assert run
    return str(run.info.run_id)


def datasets_of(run: Run) -> list[DatasetInput]:
    assert run.inputs
    return list(run.inputs.dataset_inputs)


def log_everything(folder: Path) -> dict[str, bytes]:
    """Log one of each kind to the active run, and return the files that must arrive as they are."""
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "a b.bin").write_bytes(os.urandom(100_000))
    (folder / "one.txt").write_text("one")
    mlflow.log_metric("rmse", 0.5, step=1, timestamp=1_700_000_000_123)
    mlflow.log_metric("rmse", 0.25, step=2, timestamp=1_700_000_000_456)
    mlflow.log_metrics({"mae": 1.5, "infinite": float("inf"), "no number": float("nan")}, step=7)
    mlflow.log_param("optimizer", "adam")
    mlflow.log_params({"layers": [1, 2], "lr": 0.1})
    mlflow.set_tag("mine", "yes")
    mlflow.set_tags({"team": "blue", "mlflow.note.content": "**a note**"})
    mlflow.log_artifact(str(folder / "one.txt"))
    mlflow.log_artifacts(str(folder), "all")
    mlflow.log_text("text", "texts/deep/text.txt")
    mlflow.log_dict({"a": [1]}, "a.json")
    figure = import_module("matplotlib.figure").Figure()
    figure.subplots().plot([1, 2])
    mlflow.log_figure(figure, "plot.png")
    mlflow.log_image(Image.new("RGB", (2, 2)), "image.png")
    mlflow.log_image(Image.new("RGB", (2, 2)), key="steps", step=3)
    mlflow.log_table({"a": [1]}, "table.json")
    mlflow.log_table({"a": [2]}, "table.json")  # reads the first one back
    mlflow.log_input(import_module("mlflow.data").from_numpy(np.ones((3, 2)), name="ones"), context="validation")
    files = {"one.txt": b"one", "all/one.txt": b"one", "texts/deep/text.txt": b"text"}
    (folder / "one.txt").write_text("changed after it was logged")
    return {**files, "all/figures/a b.bin": (folder / "figures" / "a b.bin").read_bytes()}


def test_all_that_is_logged_arrives_in_the_nested_run(tmp_path: Path, sweep: Path, any_store: str) -> None:
    with inside(sweep):
        files = log_everything(tmp_path / "made")
    client, [run] = deliver(any_store, sweep)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "1_lr=0.1"
    assert run.data.params == {"lr": "0.1", "optimizer": "adam", "layers": "[1, 2]"}
    history = client.get_metric_history(run.info.run_id, "rmse")
    assert [(item.step, item.timestamp, item.value) for item in history] == [
        (1, 1_700_000_000_123, 0.5),
        (2, 1_700_000_000_456, 0.25),
    ]
    assert run.data.metrics["mae"] == 1.5
    assert [item.step for item in client.get_metric_history(run.info.run_id, "mae")] == [7]
    assert {"infinite", "no number"} < run.data.metrics.keys()
    assert {"mine": "yes", "team": "blue", "mlflow.note.content": "**a note**", "mlflow.user": "ada"}.items() <= (
        run.data.tags.items()
    )
    [used] = datasets_of(run)
    assert (used.dataset.name, [tag.value for tag in used.tags]) == ("ones", ["validation"])
    assert '"features_shape": [3, 2]' in str(used.dataset.profile)
    arrived = files_of(client, run, tmp_path / "arrived")
    assert files.items() <= arrived.items()
    assert json.loads(arrived["table.json"])["data"] == [[1], [2]]
    assert {"a.json", "plot.png", "image.png"} < arrived.keys()
    assert len([name for name in arrived if name.startswith("images/steps")]) == 2


def test_what_was_logged_is_read_back_without_a_server(sweep: Path, tmp_path: Path) -> None:
    with inside(sweep) as run:
        files = log_everything(tmp_path / "made")
        client = mlflow.MlflowClient()
        known = client.get_run(run.run_id)
        assert active_id() == run.run_id == known.info.run_id
        assert known.data.params == {"lr": "0.1", "optimizer": "adam", "layers": "[1, 2]"}
        assert known.data.metrics["rmse"] == 0.25
        assert [item.value for item in client.get_metric_history(run.run_id, "rmse")] == [0.5, 0.25]
        assert known.data.tags["mine"] == "yes"
        assert [used.dataset.name for used in datasets_of(known)] == ["ones"]
        read = files_of(client, known, tmp_path / "read")
        assert files.items() <= read.items()
        assert mlflow.artifacts.load_text(f"runs:/{run.run_id}/texts/deep/text.txt") == "text"
        assert Path(mlflow.artifacts.download_artifacts(run_id=run.run_id, artifact_path="a.json")).exists()


def test_runs_that_are_started_are_this_run_and_ending_them_does_not_end_it(sweep: Path, store: str) -> None:
    from mlflow import start_run  # bound before, as at the top of a module

    with inside(sweep) as run:
        with start_run(run_name="mine", tags={"a": "1", "mlflow.user": "eve"}, description="words") as first:
            mlflow.log_metric("a", 1)
        with pytest.raises(ZeroDivisionError), mlflow.start_run(nested=True):
            raise ZeroDivisionError
        mlflow.end_run("FAILED")
        mlflow.log_metric("b", 2)
        mlflow.set_experiment("another name")
        mlflow.end_run()
        with mlflow.start_run() as again:
            mlflow.MlflowClient().set_terminated(again.info.run_id)
        client = mlflow.MlflowClient()
        experiment = client.get_experiment_by_name("any")
        assert experiment
        made = client.create_run(experiment.experiment_id)
        client.log_metric(made.info.run_id, "c", 3)
        assert {first.info.run_id, again.info.run_id, made.info.run_id} == {run.run_id}
    _, [arrived] = deliver(store, sweep)
    assert arrived.data.metrics == {"a": 1, "b": 2, "c": 3}
    assert arrived.info.run_name == "1_lr=0.1"
    assert arrived.info.status == "FINISHED"
    assert arrived.data.tags["mlflow.note.content"] == "words"
    assert (arrived.data.tags["a"], arrived.data.tags["mlflow.user"]) == ("1", "ada")


def test_afterwards_the_process_is_as_before(sweep: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    with tracking(store):
        with mlflow.start_run() as theirs:
            before = dict(os.environ)
            with suppress(ZeroDivisionError), inside(sweep) as run:
                assert active_id() == run.run_id
                mlflow.set_experiment("another")
                mlflow.log_metric("ours", 1)
                mlflow.start_run()
                raise ZeroDivisionError
            assert dict(os.environ) == before
            assert mlflow.active_run() is theirs
            assert mlflow.get_tracking_uri() == store
            mlflow.log_metric("theirs", 2)
            with pytest.raises(Exception, match="already active"):
                mlflow.start_run()
        [kept] = mlflow.search_runs(experiment_names=["theirs"], output_format="list")
        assert (kept.data.metrics, kept.info.status) == ({"theirs": 2}, "FINISHED")


def test_a_sweep_inside_a_run_of_a_sweep_gives_the_run_back(tmp_path: Path) -> None:
    with inside(tmp_path / "outer") as outer:
        mlflow.log_metric("outer", 1)
        with inside(tmp_path / "inner") as inner:
            mlflow.log_metric("inner", 1)
            assert active_id() == inner.run_id
        mlflow.log_metric("outer", 2, step=1)
        assert active_id() == outer.run_id
        assert mlflow.get_run(outer.run_id).data.metrics == {"outer": 2}


def test_entering_a_run_does_not_load_mlflow_and_loading_it_later_enters(sweep: Path, store: str) -> None:
    code = """
def task(run):
    assert "mlflow" not in sys.modules
    import mlflow.sklearn
    assert mlflow.active_run().info.run_id == run.run_id
    mlflow.log_metric("a", 1)

def nothing(run): ...

def again(run):
    import mlflow
    mlflow.log_metric("a", 3)

carry_out(1, nothing)
assert "mlflow" not in sys.modules
carry_out(2, task)
import mlflow, os
assert mlflow.active_run() is None
assert not any(name.startswith("MLFLOW") and name != "MLFLOW_DISABLE_TELEMETRY" for name in os.environ)
carry_out(3, again)
"""
    done = alone(WORKER + code, sweep)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    _, runs = deliver(store, sweep)
    assert [run.data.metrics for run in runs] == [{}, {"a": 1}, {"a": 3}]


def test_it_does_not_matter_which_thread_loads_mlflow(sweep: Path, store: str) -> None:
    code = """
import threading

def task(run):
    courier = threading.Thread(target=__import__, args=("mlflow",))
    courier.start()
    import mlflow
    mlflow.log_metric("a", 1)
    courier.join()
    assert mlflow.active_run().info.run_id == run.run_id

carry_out(1, task)
loading = threading.Thread(target=__import__, args=("mlflow",))
loading.start()
carry_out(2, task)
"""
    done = alone(WORKER + code, sweep)
    assert (done.returncode, done.stderr) == (0, "")
    _, runs = deliver(store, sweep)
    assert [run.data.metrics for run in runs] == [{"a": 1}, {"a": 1}]


def test_what_is_logged_asynchronously_and_from_threads_is_there_at_the_end(sweep: Path, store: str) -> None:
    with inside(sweep) as run:

        def log(name: str) -> None:
            for step in range(200):
                mlflow.log_metric(name, step, step=step, synchronous=False)
            mlflow.MlflowClient().log_batch(run.run_id, params=[mlflow.entities.Param(name, "1")], synchronous=False)

        threads = [threading.Thread(target=log, args=(f"thread {number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        mlflow.log_param("a", 1, synchronous=False)
        mlflow.set_tag("b", 2, synchronous=False)
        mlflow.log_image(Image.new("RGB", (2, 2)), key="image", step=1, synchronous=False)
        for thread in threads:
            thread.join()
    client, [arrived] = deliver(store, sweep)
    assert (arrived.data.params["a"], arrived.data.tags["b"]) == ("1", "2")
    for number in range(4):
        history = client.get_metric_history(arrived.info.run_id, f"thread {number}")
        assert sorted(item.value for item in history) == list(range(200))
        assert arrived.data.params[f"thread {number}"] == "1"
    assert client.list_artifacts(arrived.info.run_id, "images")


REFUSED: dict[str, Callable[[str], Any]] = {
    "search_runs": lambda run_id: mlflow.search_runs(),
    "search_experiments": lambda run_id: mlflow.search_experiments(),
    "get_run of another run": lambda run_id: mlflow.get_run("a" * 32),
    "log_batch of another run": lambda run_id: mlflow.MlflowClient().log_metric("a" * 32, "a", 1),
    "delete_run": lambda run_id: mlflow.delete_run(run_id),
    "delete_tag": lambda run_id: mlflow.delete_tag("mine"),
    "delete_artifacts": lambda run_id: get_artifact_repository(mlflow.get_artifact_uri()).delete_artifacts("a"),
    "create_run in another experiment": lambda run_id: mlflow.start_run(experiment_id="7"),
    "create_experiment": lambda run_id: mlflow.create_experiment("new"),
    "set_tracking_uri": lambda run_id: mlflow.set_tracking_uri("http://127.0.0.1:1"),
    "set_experiment_tag": lambda run_id: mlflow.set_experiment_tag("a", "b"),
    "create_registered_model": lambda run_id: mlflow.register_model(f"runs:/{run_id}/model", "name"),
    "search_traces": lambda run_id: mlflow.MlflowClient()._tracing_client.store.search_traces(["0"]),
}


@pytest.mark.parametrize("call", REFUSED)
def test_what_needs_a_server_is_refused_in_a_line_that_names_the_call(call: str, sweep: Path) -> None:
    with inside(sweep) as run:
        mlflow.set_tag("mine", 1)
        with pytest.raises(MlflowException, match=call) as caught:
            REFUSED[call](run.run_id)
    assert "\n" not in str(caught.value)


def test_no_method_of_the_store_does_nothing() -> None:
    names = {name for name in dir(AbstractStore) if not name.startswith("_") and callable(getattr(AbstractStore, name))}
    assert names <= vars(RunStore).keys() | set(BUILT_ON_OTHERS)
    refusing = [name for name in names & vars(RunStore).keys() if vars(RunStore)[name].__module__ == refusals.__name__]
    assert len(refusing) > 80
    for name in refusing:
        with pytest.raises(MlflowException, match=f"^{name}: not possible"):
            getattr(run_store(), name)()


def test_a_param_has_one_value(sweep: Path) -> None:
    with inside(sweep):
        mlflow.log_param("a", 1)
        mlflow.log_param("a", 1)
        mlflow.log_param("lr", 0.1)
        with pytest.raises(MlflowException, match=r"Changing param values is not allowed.*'lr'.*'0.1'.*'0.2'"):
            mlflow.log_params({"new": 1, "lr": 0.2})
        assert "new" not in mlflow.get_run(active_id()).data.params


def test_a_name_that_mlflow_would_refuse_later_is_refused_at_once(sweep: Path) -> None:
    with inside(sweep), pytest.raises(MlflowException, match="Invalid value"):
        mlflow.log_metric("a name with a |", 1)


@pytest.mark.parametrize("tag", ["sweeptrail.run", "sweeptrail.new", "mlflow.parentRunId", "mlflow.runName"])
def test_tags_of_ours_are_not_overwritten(tag: str, sweep: Path, store: str) -> None:
    with inside(sweep):
        with pytest.raises(MlflowException, match=tag):
            mlflow.set_tag(tag, "theirs")
        with mlflow.start_run(tags={tag: "theirs", "other": "kept"}):
            pass
    _, [run] = deliver(store, sweep)
    assert run.data.tags.get(tag) != "theirs"
    assert run.data.tags["other"] == "kept"


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")  # of MLflow, about its own
def test_models_that_are_logged_load_from_the_server(sweep: Path, store: str, tmp_path: Path) -> None:
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    estimator = LogisticRegression().fit(x, [0, 0, 1, 1])
    network = torch.nn.Linear(2, 1)
    with inside(sweep) as run:
        requirements = {"pip_requirements": ["numpy"]}
        sklearn_info = mlflow.sklearn.log_model(estimator, name="estimator", **requirements)
        mlflow.pytorch.log_model(network, name="network", input_example=x, **requirements)
        mlflow.sklearn.log_model(estimator, name="estimator", **requirements)
        for uri in (sklearn_info.model_uri, f"runs:/{run.run_id}/estimator"):
            assert (mlflow.sklearn.load_model(uri).predict(x) == [0, 0, 1, 1]).all()
        assert {model.name for model in mlflow.search_logged_models(output_format="list")} == {"estimator", "network"}
    client, [arrived] = deliver(store, sweep)
    assert {item.path for item in client.list_artifacts(arrived.info.run_id)} == {"estimator", "estimator_2", "network"}
    with tracking(store):
        for name in ("estimator", "estimator_2"):
            loaded = mlflow.sklearn.load_model(f"runs:/{arrived.info.run_id}/{name}")
            assert (loaded.predict(x) == [0, 0, 1, 1]).all()
        assert mlflow.pyfunc.load_model(f"runs:/{arrived.info.run_id}/network").predict(x).shape == (4, 1)
        version = mlflow.register_model(f"runs:/{arrived.info.run_id}/network", "network")
        again = mlflow.pytorch.load_model(f"models:/network/{version.version}")
        assert torch.equal(again.weight, network.weight)
    description = files_of(client, arrived, tmp_path / "files")["network/MLmodel"].decode()
    assert run.run_id not in description
    assert "model_id" not in description


def test_autologging_goes_to_the_run_that_is_open_without_a_warning(sweep: Path, store: str) -> None:
    code = (
        IRIS
        + """
from sklearn.linear_model import LogisticRegression

def first(run):
    import mlflow
    mlflow.autolog(log_models=False)
    fit(run)

def fit(run):
    LogisticRegression(C=float(run.name[0]), max_iter=300).fit(x, y)

carry_out(1, first)
carry_out(2, fit)
"""
    )
    done = alone(WORKER + code, sweep, PYTHONWARNINGS="ignore::FutureWarning")
    assert (done.returncode, "WARNING" in done.stderr, "rror" in done.stderr) == (0, False, False), done.stderr
    client, runs = deliver(store, sweep)
    assert [run.data.params["C"] for run in runs] == ["1.0", "2.0"]
    for run in runs:
        assert run.data.metrics["training_accuracy_score"] > 0.9
        assert "training_confusion_matrix.png" in {item.path for item in client.list_artifacts(run.info.run_id)}
        assert datasets_of(run)


def test_the_trials_of_an_autologged_search_are_in_its_table_and_no_runs(sweep: Path, store: str) -> None:
    code = (
        IRIS
        + """
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeClassifier

def search(run):
    import mlflow
    mlflow.sklearn.autolog(log_models=False)
    GridSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": [1, 2, 3]}).fit(x, y)

carry_out(1, search)
"""
    )
    done = alone(WORKER + code, sweep, PYTHONWARNINGS="ignore::FutureWarning")
    assert (done.returncode, "WARNING" in done.stderr) == (0, False), done.stderr
    _, [run] = deliver(store, sweep)
    assert run.data.params["best_max_depth"] in "123"
    table = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/cv_results.csv")
    assert len(table.splitlines()) == 4


def test_another_process_is_told_where_to_log(sweep: Path) -> None:
    code = """
import os

def task(run):
    import mlflow
    mlflow.log_metric("a", 1)
    if os.fork() == 0:
        try:
            mlflow.log_metric("a", 2)
        except mlflow.MlflowException as error:
            print(error, flush=True)
        os._exit(0)
    os.wait()

carry_out(1, task)
from sweeptrail.outbox.plugin.inside import tracking_store  # that of a process which inherits the URI
try:
    tracking_store("sweeptrail-run:open", None).get_run("a")
except __import__("mlflow").MlflowException as error:
    print(error)
"""
    done = alone(WORKER + code, sweep)
    forked, other = done.stdout.splitlines()
    assert "the run 1_lr=0.1 is open in process" in forked
    assert "no run of a sweep is open in this process" in other
    written = [entry for entry, _ in journal.read(sweep / "1_lr=0.1" / journal.FILE_NAME)]
    assert [entry.values for entry in written if isinstance(entry, Metrics)] == [{"a": 1.0}]


def test_values_are_synced_once_a_second_and_not_one_by_one(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs, sync = list[int](), os.fsync

    def count_and_sync(file: int) -> None:
        syncs.append(file)
        sync(file)

    with inside(sweep) as run:
        monkeypatch.setattr(os, "fsync", count_and_sync)
        began = time.monotonic()
        for step in range(10_000):
            run.journal.measure({"loss": 0.5}, step, 1000.0 + step)
        seconds = time.monotonic() - began
        monkeypatch.undo()
    assert 1 <= len(syncs) <= seconds + 1
    written = [entry for entry, _ in journal.read(run.folder / journal.FILE_NAME)]
    assert len([entry for entry in written if isinstance(entry, Metrics)]) == 10_000


def test_nothing_is_left_in_the_way_of_imports(sweep: Path) -> None:
    finders = list(sys.meta_path)
    with inside(sweep):
        assert len(sys.meta_path) == len(finders) + 1
    assert sys.meta_path == finders
