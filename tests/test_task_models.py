"""The model that a task logs becomes the registered version if its run is the champion."""

import random
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import sweeptrail
from sweeptrail.errors import SweeptrailError, UsageError
from sweeptrail.outbox import journal
from sweeptrail.outbox.entries import Artifact
from sweeptrail.outbox.run_journal import RunJournal
from sweeptrail.records import Job
from sweeptrail.sweeps.run import Outcome
from sweeptrail.tasks.task_run import TaskRun
from sweeptrail.training.manager import RunManager
from tests.commands import family

SAMPLES = np.random.default_rng(0).random((6, 4), np.float32)


class Network(nn.Module):
    """Behaves otherwise in training, and answers to any number of samples."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm, self.drop = nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        return self.drop(self.norm(self.inner(samples)))  # type: ignore[no-any-return]  # calling a module has no type


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.memory = nn.Embedding(10, 4), nn.LSTM(4, 5, batch_first=True)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        answers, _ = self.memory(self.words(tokens))
        return answers  # type: ignore[no-any-return]  # calling a module has no type


def open_run(tmp_path: Path) -> TaskRun:
    folder = tmp_path / "sweep" / "1_lr=0.1"
    job = Job(1, folder.name, {"lr": 0.1}, {}, str(folder), parent="sweep", sinks=("outbox",))
    return TaskRun(job, [RunJournal(str(folder.parent), parent="sweep", tags={})], shared={}, checkpoint=None)


def model_folder(tmp_path: Path, content: str = "flavors: {}\n") -> Path:
    folder = tmp_path / f"made{random.random()}"
    (folder / "data").mkdir(parents=True)
    (folder / "MLmodel").write_text(content)
    (folder / "data" / "weights").write_bytes(b"1234")
    return folder


def test_a_network_is_exported_without_a_pickle_and_without_a_trace_in_the_training(tmp_path: Path) -> None:
    manager, network = open_run(tmp_path), Network()
    state = torch.get_rng_state()
    manager.log_model(network, torch.from_numpy(SAMPLES[:2]))
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training
    folder = tmp_path / "sweep" / "1_lr=0.1" / "model"
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pickle", ".pth", ".pt")]
    found = mlflow.pyfunc.load_model(str(folder)).predict(SAMPLES)
    with torch.no_grad():
        np.testing.assert_allclose(found, network.eval()(torch.from_numpy(SAMPLES)).numpy(), atol=1e-5)


def test_a_network_for_tokens_is_exported_from_an_array_and_replaces_what_was_logged_before(tmp_path: Path) -> None:
    manager, network, tokens = open_run(tmp_path), Recurrent(), np.arange(10).reshape(2, 5)
    manager.log_model(model_folder(tmp_path))
    manager.log_model(network, tokens)
    folder = tmp_path / "sweep" / "1_lr=0.1" / "model"
    assert not (folder / "data" / "weights").exists()
    found = mlflow.pyfunc.load_model(str(folder)).predict(tokens)
    with torch.no_grad():
        np.testing.assert_allclose(found, network(torch.from_numpy(tokens)).numpy(), atol=1e-5)


class OneSize(nn.Module):
    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        return samples.reshape(2, 4)


def test_what_is_no_model_is_refused_in_one_line(tmp_path: Path) -> None:
    manager = open_run(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "MLmodel").write_text("flavors: {}")
    cases: list[tuple[str, type[SweeptrailError], Any, Any]] = [
        ("got a LogisticRegression", UsageError, LogisticRegression(), None),
        ("got a NoneType", UsageError, None, None),
        ("got a type", UsageError, Network, SAMPLES),
        ("expected a folder with a file MLmodel", UsageError, tmp_path / "empty", None),
        ("expected a folder with a file MLmodel", UsageError, str(tmp_path / "nothing"), None),
        ("holds the run's own folder", UsageError, tmp_path, None),
        ("at least two samples, a tensor or an array, got none", UsageError, Network(), None),
        ("got a ndarray of float32 (1, 4)", UsageError, Network(), SAMPLES[:1]),
        ("got a str of <U5 ()", UsageError, Network(), "words"),
        ("Network cannot be exported", SweeptrailError, Network(), SAMPLES[:, :3]),
        ("OneSize cannot be exported", SweeptrailError, OneSize(), SAMPLES[:2]),
    ]
    for said, kind, model, example in cases:
        with pytest.raises(kind) as caught:
            manager.log_model(model, example)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "sweep" / "1_lr=0.1" / "model").exists()


def test_the_ids_of_another_run_are_taken_out_of_a_folder(tmp_path: Path) -> None:
    open_run(tmp_path).log_model(model_folder(tmp_path, "flavors: {}\nmodel_id: m-1\nrun_id: abc\n"))
    description = tmp_path / "sweep" / "1_lr=0.1" / "model" / "MLmodel"
    assert description.read_text() == "flavors: {}\nartifact_path: model\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def sweep(task: Any, space: Mapping[str, Any], **settings: Any) -> Outcome:
    outcome: Outcome = sweeptrail.sweep(task, space, engine="serial", report=False, **settings)
    assert outcome.exit_code == 0
    return outcome


def versions(folder: Path, name: str) -> list[ModelVersion]:
    found = MlflowClient(f"sqlite:///{folder}/mlflow.db").search_model_versions(f"name = '{name}'")
    return sorted(found, key=lambda version: int(version.version))


def champion(folder: Path, name: str) -> int:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    return int(client.get_registered_model(name).aliases["champion"])


def learn(manager: Any, *, score: float = 0.5) -> None:
    """Log a folder whose weights are the score."""
    folder = Path(f"made_{score}")
    folder.mkdir(exist_ok=True)
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / "weights").write_text(str(score))
    manager.log(validation_accuracy=score, rmse=score)
    manager.log_model(folder)


def learn_by_another_name() -> Callable[..., None]:
    """Return another task that is called `learn`."""

    def learn(manager: Any, *, score: float = 0.5) -> None:
        manager.log(validation_accuracy=score)
        manager.log_model(f"made_{score}")

    return learn


DATA = {"images": np.arange(10)}


@pytest.mark.slow
def test_the_alias_goes_to_a_better_champion_of_the_same_task_goal_and_data_only(here: Path) -> None:
    decisions: list[tuple[Any, float, dict[str, Any], int, str]] = [
        (learn, 0.5, {}, 1, "became the champion after version none"),
        (learn, 0.4, {}, 1, "version 1 has validation_accuracy 0.5000, this one 0.4000"),
        (learn, 0.6, {}, 3, "became the champion after version 1"),
        (learn, 0.7, {"goal": "max:rmse"}, 3, "sweeptrail.metric is 'validation_accuracy' there, 'rmse' here"),
        (learn, 0.7, {"goal": "min:validation_accuracy"}, 3, "less validation_accuracy is better for one of them only"),
        (learn, 0.7, {"shared": DATA}, 3, "sweeptrail.chosen_on is "),
        (learn_by_another_name(), 0.7, {}, 3, "sweeptrail.chosen_on is "),
        (learn, 0.7, {}, 8, "became the champion after version 3"),
    ]
    for number, (task, score, settings, holder, said) in enumerate(decisions, 1):
        sweep(task, {"score": [score, 0.3 if "min" not in str(settings) else 0.9]}, **settings)
        made = versions(here, "learn")
        assert len(made) == number
        assert said in made[-1].tags["sweeptrail.decision"]
        assert champion(here, "learn") == holder


def told_models(outcome: Outcome) -> list[str]:
    """Return all files of models that the journals of a sweep tell of."""
    paths = sorted(outcome.folder.glob(f"*/{journal.FILE_NAME}"))
    entries = [(path.parent.name, entry) for path in paths for entry, _ in journal.read(path)]
    return [
        f"{run}/{entry.path}" for run, entry in entries if isinstance(entry, Artifact) and entry.to.startswith("model")
    ]


@pytest.mark.slow
def test_of_which_runs_the_models_are_sent(here: Path) -> None:
    only = told_models(sweep(learn, {"score": [0.1, 0.2]}, register="mine"))
    assert only == ["2_score=0.2/model/MLmodel", "2_score=0.2/model/weights"]
    outcome = sweep(learn, {"score": [0.1, 0.2]}, log_models="all", register="mine")
    assert len(told_models(outcome)) == 4
    sweep(learn, {"score": [0.1, 0.2]}, log_models="all", register="mine", resume=outcome.folder)
    assert len(told_models(outcome)) == 4
    assert len(versions(here, "mine")) == 2


def without(manager: Any, *, score: float = 0.5) -> None:
    manager.log(validation_accuracy=score)
    if score < 0.5:
        manager.log_model(Path("made"))


@pytest.mark.slow
def test_a_champion_without_a_model_is_not_registered_and_nothing_is_said(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "made").mkdir()
    (here / "made" / "MLmodel").write_text("flavors: {}\n")
    sweep(without, {"score": [0.1, 0.9]})
    assert MlflowClient(f"sqlite:///{here}/mlflow.db").search_registered_models() == []
    assert capsys.readouterr().err == ""


def classify(manager: Any, *, strength: float = 1.0) -> None:
    """Log a network by us, and one of scikit-learn by MLflow."""
    torch.manual_seed(0)
    network = nn.Linear(4, 3)
    with torch.no_grad():
        network.bias.add_(strength)
    manager.log(validation_accuracy=strength)
    manager.log_model(network, SAMPLES[:2])


def classify_by_mlflow(manager: Any, *, strength: float = 1.0) -> None:
    model = LogisticRegression(C=strength).fit(SAMPLES, [0, 1, 0, 1, 0, 1])
    import_module("mlflow.sklearn").log_model(model, name="model", pip_requirements=["scikit-learn"])
    manager.log(validation_accuracy=strength)


@pytest.mark.slow
def test_the_champion_s_network_loads_as_a_run_s_and_as_the_registered_model(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = sweep(classify, {"strength": [1.0, 2.0]})
    torch.manual_seed(0)
    network = nn.Linear(4, 3)
    with torch.no_grad():
        expected = (network(torch.from_numpy(SAMPLES)) + 2.0).numpy()
    assert_loads(here, monkeypatch, "classify", expected)
    assert outcome.champion
    assert outcome.champion.params == {"strength": 2.0}


@pytest.mark.slow
def test_a_model_that_mlflow_has_logged_is_the_champion_s_too(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = sweep(classify_by_mlflow, {"strength": [1.0, 2.0]})
    expected = LogisticRegression(C=2.0).fit(SAMPLES, [0, 1, 0, 1, 0, 1]).predict(SAMPLES)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    assert_loads(here, monkeypatch, "classify_by_mlflow", expected)
    told = told_models(outcome)
    assert len(told) == len(set(told))


def assert_loads(here: Path, monkeypatch: pytest.MonkeyPatch, name: str, expected: Any) -> None:
    """Assert that the champion's model answers as expected, by both of its names."""
    uri = f"sqlite:///{here}/mlflow.db"
    [version] = versions(here, name)
    _, children = family(here)
    assert version.run_id == children[1].info.run_id
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", uri)
    for where in (f"runs:/{version.run_id}/model", f"models:/{name}@champion"):
        np.testing.assert_allclose(mlflow.pyfunc.load_model(where).predict(SAMPLES), expected, atol=1e-5)


@pytest.mark.slow
def test_a_loop_of_one_s_own_keeps_files_and_models_too(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "elsewhere").mkdir()
    manager, network = RunManager(), nn.Linear(4, 3)
    made = model_folder(here)
    for run in sweeptrail.RunBuilder.get_runs({"lr": [0.1, 0.2]}):
        manager.begin_run(run, network, DataLoader(TensorDataset(torch.rand(2, 4)), batch_size=2))
        monkeypatch.chdir(here / "elsewhere")
        manager.log_text(f"lr is {run.lr}", "notes/lr.txt")
        manager.log_artifact(made / "data", "all")
        manager.log_model(made)
        manager.log_model(made)
        manager.end_run()
    manager.save("results")
    monkeypatch.chdir(here)
    client = MlflowClient(f"sqlite:///{here}/mlflow.db")
    _, runs = family(here)
    assert len(runs) == 2
    for run in runs:
        found = Path(client.download_artifacts(run.info.run_id, ""))
        assert (found / "notes" / "lr.txt").read_text() == f"lr is {run.data.params['lr']}"
        assert (found / "all" / "data" / "weights").read_bytes() == b"1234"
        assert (found / "model" / "MLmodel").read_text() == "flavors: {}\n"
        assert (found / "model" / "data" / "weights").read_bytes() == b"1234"


def test_exported_twice_after_the_same_epoch_it_is_the_same(tmp_path: Path) -> None:
    manager, network = open_run(tmp_path), nn.Linear(4, 3)
    for _ in manager.epochs(1):
        pass
    folder = tmp_path / "sweep" / "1_lr=0.1" / "model"
    contents = []
    for _ in range(2):
        manager.log_model(network, SAMPLES)
        contents.append({path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    assert contents[0] == contents[1]
