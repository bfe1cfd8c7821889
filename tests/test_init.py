"""A project that `sweeptrail init` begins works as it is."""

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from sweeptrail.cli import main
from sweeptrail.errors import SettingsError
from sweeptrail.sweeps.options import OWN
from sweeptrail.sweeps.settings import OPTIONS, parse
from sweeptrail.tasks.find import task_of
from sweeptrail.tasks.project.create import create
from sweeptrail.tasks.task import DEFAULT_TASK, find_task
from tests.commands import ROOT, client, family, new_store, start

FILES = ["MLproject", "README.md", "conda.yaml", "task.py", "test_task.py"]


def init(folder: Path) -> Result:
    return CliRunner().invoke(main, ["init", str(folder)])


def test_init_writes_the_files_and_says_how_to_run_them(tmp_path: Path) -> None:
    done = init(tmp_path / "deep" / "my project")
    assert done.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "deep" / "my project").iterdir()) == FILES
    assert done.output.splitlines()[-1] == (
        f"to run it: mlflow run '{tmp_path}/deep/my project' --env-manager local -P lr=0.1,0.01"
    )


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text("mine")
    (tmp_path / "README.md").symlink_to(tmp_path / "nowhere")
    done = init(tmp_path)
    assert done.exit_code == 2
    assert done.output == (
        f"error: {tmp_path}: has README.md, task.py already, which are not overwritten; name another folder\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "task.py"]
    assert (tmp_path / "task.py").read_text() == "mine"


def test_init_needs_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder, what in (("file", "expected a folder, or one to be made, got a file"), ("file/deep", "cannot be made")):
        done = init(tmp_path / folder)
        assert done.exit_code == 2
        assert what in done.output


def test_the_project_is_named_like_its_folder_whatever_that_is(tmp_path: Path) -> None:
    folder = tmp_path / 'a "name": @PINS@ {x}'
    create(folder)
    for file in ("MLproject", "conda.yaml"):
        assert yaml.safe_load((folder / file).read_text())["name"] == folder.name


def test_the_environment_of_the_project_has_the_versions_that_are_tried_here(tmp_path: Path) -> None:
    create(tmp_path)
    *_, from_pip = yaml.safe_load((tmp_path / "conda.yaml").read_text())["dependencies"]
    ours = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"][-1]["pip"]
    dev = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"]
    sweeptrail, *others = from_pip["pip"]
    assert sweeptrail.startswith("sweeptrail[torch]")
    assert len(others) == 5
    assert {*others} <= {*ours, *dev}


@pytest.mark.slow
def test_the_test_of_the_project_passes(tmp_path: Path) -> None:
    create(tmp_path)
    done = start(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1].startswith("2 passed")


@pytest.mark.slow
def test_mlflow_runs_the_project(tmp_path: Path) -> None:
    create(tmp_path / "project")
    new_store(tmp_path)
    settings = {"lr": "0.1, 0.01", "epochs": "1", "report": "false", "register": "none", "delivery_timeout": "200"}
    assert mlflow_run(tmp_path, **settings).returncode == 0
    parent, runs = family(tmp_path)
    assert [run.data.params["lr"] for run in runs] == ["0.1", "0.01"]
    assert {run.data.params["hidden"] for run in runs} == {"64"}
    assert parent.info.status == "FINISHED"
    # What MLproject adds of its own, the defaults, adds no run to a sweep that goes on.
    assert mlflow_run(tmp_path, resume="latest", **{**settings, "lr": "0.01"}).returncode == 0
    assert len([run for run in client(tmp_path).search_runs(["0"]) if "mlflow.parentRunId" in run.data.tags]) == 2


def mlflow_run(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    words = [word for name, value in settings.items() for word in ("-P", f"{name}={value}")]
    return start("mlflow", "run", "project", "--env-manager", "local", *words, cwd=folder)


def named(name: str) -> Callable[..., None]:
    """Return a task with a hyperparameter of this name."""
    made: dict[str, Callable[..., None]] = {}
    exec(f"def train(manager, *, lr=0.1, {name}=1): ...", made)
    return made["train"]


@pytest.mark.parametrize(
    ("name", "better"), [("workers", "num_workers"), ("runs_dir", "task_runs_dir"), ("goal", "task_goal")]
)
def test_a_hyperparameter_that_is_named_like_an_option_of_the_sweep_is_refused(name: str, better: str) -> None:
    task = task_of(named(name), None, None)
    with pytest.raises(SettingsError) as refused:
        parse({}, task)
    assert refused.value.problems == (f"{name}: is named like an option of the sweep; rename it, {better} for one",)


def test_every_option_of_a_sweep_is_a_name_that_no_hyperparameter_may_have() -> None:
    command = main.commands["sweep"]
    options = {str(each.name) for each in command.params if isinstance(each, click.Option)}
    of_built_in = {each.name for each in find_task(DEFAULT_TASK).parameters}
    assert options - of_built_in == {each.name for each in OWN} | {*OPTIONS}
