"""Whole sweeps, started as people start them, on fewer images."""

import json
import shutil
import subprocess
from pathlib import Path

import pandas
import pytest
from mlflow.entities import Run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.commands import ROOT, client, family, mlflow_run, sweep

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("whole")]

DURATIONS = ["epoch duration", "run duration"]


def table(folder: Path) -> pandas.DataFrame:
    [path] = folder.glob("runs/*/results.csv")
    return pandas.read_csv(path, index_col=0)


def artifacts(folder: Path, run: Run, path: str = "") -> list[str]:
    return sorted(item.path for item in client(folder).list_artifacts(run.info.run_id, path or None))


def steps(folder: Path, run: Run, metric: str) -> list[int]:
    return [item.step for item in client(folder).get_metric_history(run.info.run_id, metric)]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default grid on few images, by `mlflow run` from another folder."""
    folder = tmp_path_factory.mktemp("a folder with 'quotes'"[:16])
    finished = mlflow_run(str(ROOT), cwd=folder)
    assert finished.returncode == 0, finished.stderr
    return folder


def test_mlflow_run_leaves_one_parent_and_eight_nested_runs_all_finished(done: Path) -> None:
    parent, children = family(done)
    assert parent.info.status == "FINISHED"
    assert [child.info.status for child in children] == ["FINISHED"] * 8
    assert parent.data.params["lr"] == "0.01,0.001"


def test_each_nested_run_has_its_params_its_metrics_by_epoch_and_its_event_file(done: Path) -> None:
    _, children = family(done)
    for number, child in enumerate(children, 1):
        assert set(child.data.params) >= {"lr", "batch_size", "shuffle", "optimizer", "seed", "epochs", "network"}
        assert child.info.run_name.startswith(f"{number}_lr={child.data.params['lr']},batch_size=")
        for metric in ("loss", "accuracy", "epoch_duration", "run_duration", "validation_loss", "validation_accuracy"):
            assert steps(done, child, metric) == [1, 2, 3]
        assert steps(done, child, "test_accuracy") == steps(done, child, "test_loss") == [3]
        [events] = artifacts(done, child, "tensorboard")
        assert events.startswith("tensorboard/events.out.tfevents.")
    assert len({tuple(child.data.params[name] for name in ("lr", "batch_size", "shuffle")) for child in children}) == 8


def test_the_parent_holds_the_table_as_csv_and_json(done: Path, tmp_path: Path) -> None:
    parent, _ = family(done)
    assert artifacts(done, parent) == ["leaderboard.csv", "results.csv", "results.json", "runs.json"]
    for name in ("results.csv", "results.json"):
        client(done).download_artifacts(parent.info.run_id, name, str(tmp_path))
    frame = pandas.read_csv(tmp_path / "results.csv", index_col=0)
    assert len(frame) == 24
    assert list(frame)[:6] == ["run", "epoch", "loss", "accuracy", "epoch duration", "run duration"]
    assert list(frame)[6:] == ["lr", "batch_size", "shuffle", "validation_loss", "validation_accuracy"]
    records = json.loads((tmp_path / "results.json").read_text())
    pandas.testing.assert_frame_equal(pandas.DataFrame(records), frame)


def test_metrics_on_mlflow_are_the_numbers_of_the_table(done: Path) -> None:
    _, children = family(done)
    frame = table(done)
    for number, child in enumerate(children, 1):
        history = client(done).get_metric_history(child.info.run_id, "validation_loss")
        assert [item.value for item in history] == frame[frame["run"] == number]["validation_loss"].tolist()


def test_every_run_says_who_ran_what_code_on_which_data(done: Path) -> None:
    parent, children = family(done)
    assert parent.inputs
    [used] = parent.inputs.dataset_inputs
    assert used.dataset.name == "Fashion-MNIST"
    for run in (parent, *children):
        tags = run.data.tags
        assert tags["mlflow.user"]
        assert tags["mlflow.source.name"]
        assert tags["version.torch"].startswith("2.")
        assert tags["version.mlflow"].startswith("3.")
        assert tags["sweeptrail.data_digest"] == used.dataset.digest


def test_tensorboard_shows_everything_once_under_the_run_s_name(done: Path) -> None:
    [folder] = done.glob("runs/*/1_lr=0.01,batch_size=50,shuffle=True")
    events = EventAccumulator(str(folder), size_guidance={"histograms": 0, "images": 0})
    events.Reload()
    tags = events.Tags()
    assert tags["images"] == ["images"]
    assert tags["graph"]
    for name in ("Loss", "Accuracy", "Validation accuracy"):
        assert [item.step for item in events.Scalars(name)] == [1, 2, 3]
    assert len(tags["histograms"]) == 20
    assert {"conv1.weight", "conv1.weight.grad", "out.bias", "out.bias.grad"} <= set(tags["histograms"])
    for name in tags["histograms"]:
        assert [item.step for item in events.Histograms(name)] == [1, 2, 3]


def test_the_network_learns(done: Path) -> None:
    frame = table(done)
    last = frame[(frame["epoch"] == 3) & (frame["lr"] == 0.01)]
    assert (last["validation_accuracy"] > 0.3).all()


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The same sweep without `mlflow run`, and its output."""
    folder = tmp_path_factory.mktemp("again")
    finished = sweep(cwd=folder)
    assert finished.returncode == 0, finished.stderr
    return folder, finished.stdout


def test_the_same_seed_gives_the_same_numbers_however_the_sweep_is_started(done: Path, again: tuple[Path, str]) -> None:
    first, second = (table(folder).drop(columns=DURATIONS) for folder in (done, again[0]))
    pandas.testing.assert_frame_equal(first, second, check_exact=True)


def test_the_output_has_a_line_for_each_epoch_a_table_and_where_everything_is(again: tuple[Path, str]) -> None:
    folder, output = again
    lines = output.splitlines()
    assert sum(" epoch " in line for line in lines) == 24
    assert "Best first, by validation accuracy" in output
    [results] = [line for line in lines if line.startswith("results:")]
    assert Path(results.split()[1]).is_file()
    assert any(f"--logdir {folder}/runs" in line for line in lines)
    assert any(f"--backend-store-uri sqlite:///{folder}/mlflow.db" in line for line in lines)


def test_a_project_fetched_from_git_runs_and_leaves_its_files_with_the_person(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(ROOT / "src", repository / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("MLproject", "conda.yaml"):
        shutil.copy(ROOT / name, repository)
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], cwd=repository, check=True)
    mine = tmp_path / "mine"
    mine.mkdir()
    finished = mlflow_run(f"file://{repository}", cwd=mine, lr="0.01", batch_size="50", shuffle="true", epochs="1")
    assert finished.returncode == 0, finished.stderr
    assert len(table(mine)) == 1
    parent, [child] = family(mine)
    assert {parent.info.status, child.info.status} == {"FINISHED"}
    assert len(child.data.tags["mlflow.source.git.commit"]) == 40


def test_bad_input_closes_the_parent_of_mlflow_run_as_failed_with_the_reason(tmp_path: Path) -> None:
    finished = mlflow_run(str(ROOT), cwd=tmp_path, lr="abc", epochs="0")
    assert finished.returncode == 1
    assert "error: lr: expected positive numbers, got 'abc'" in finished.stderr
    parent, children = family(tmp_path)
    assert children == []
    assert parent.info.status == "FAILED"
    assert "lr: expected positive numbers, got 'abc'" in parent.data.tags["sweeptrail.reason"]
    assert "epochs: expected a whole number" in parent.data.tags["mlflow.note.content"]
    assert not list(tmp_path.glob("runs/*"))


def test_a_run_that_fails_is_shown_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "fragile.py").write_text(
        "from sweeptrail import Network\n\n"
        "class Fragile(Network):\n"
        "    def forward(self, images):\n"
        "        if self.training and len(images) == 50: raise RuntimeError('cannot take 50')\n"
        "        return super().forward(images)\n"
    )
    finished = sweep(cwd=tmp_path, network="fragile:Fragile", lr="0.01", shuffle="true")
    assert finished.returncode == 1
    assert "FAILED" in finished.stdout
    assert "Traceback" not in finished.stderr
    parent, children = family(tmp_path)
    assert [child.info.status for child in children] == ["FAILED", "FINISHED"]
    assert parent.info.status == "FAILED"
    assert "1 of 2 runs failed" in parent.data.tags["sweeptrail.reason"]
    assert children[0].data.tags["sweeptrail.reason"] == "RuntimeError: cannot take 50"
    assert "error.txt" in artifacts(tmp_path, children[0])


def test_a_sweep_that_is_not_tracked_writes_the_table_alone(tmp_path: Path) -> None:
    finished = sweep("--no-tracking", cwd=tmp_path, lr="0.01", batch_size="50", shuffle="true")
    assert finished.returncode == 0, finished.stderr
    assert len(table(tmp_path)) == 3
    assert not (tmp_path / "mlflow.db").exists()
    assert not list(tmp_path.glob("runs/*/*/events*"))
