"""Sweeps of tasks of three kinds are killed again and again: nothing is lost, nothing twice, no number changes."""

import random
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

import pandas
import pytest

from tests.commands import client, family, new_store
from tests.server import kill_group
from tests.steered import begun_program
from tests.test_faults import DURATIONS, KILLS_A_SWEEP, let_write, written
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("faults")]

TASKS = """
import random

import numpy as np

def adversarial(manager, *, lr: float = 0.01, epochs: int = 4):
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    networks = {"painter": nn.Linear(3, 4), "critic": nn.Sequential(nn.Linear(4, 8), nn.Dropout(), nn.Linear(8, 1))}
    optimizers = {f"{name}_optimizer": torch.optim.Adam(each.parameters(), lr) for name, each in networks.items()}
    schedule = torch.optim.lr_scheduler.StepLR(optimizers["critic_optimizer"], 2)
    loader = DataLoader(TensorDataset(torch.rand(40, 4)), 8, shuffle=True, generator=torch.Generator().manual_seed(1))
    for _ in manager.epochs(epochs, loader=loader, schedule=schedule, **networks, **optimizers):
        for (real,) in loader:
            painted = networks["painter"](torch.randn(len(real), 3))
            told = networks["critic"](real) - networks["critic"](painted.detach())
            for name in networks:
                loss = -told.mean() if name == "critic" else -networks["critic"](painted).mean()
                optimizers[f"{name}_optimizer"].zero_grad()
                loss.backward()
                optimizers[f"{name}_optimizer"].step()
            manager.track_loss(loss)
        schedule.step()
        manager.log(critic_loss=-told.mean(), luck=random.random() + np.random.rand())
    manager.log(test_score=torch.rand(1))

def fit(manager, *, lr: float = 0.01):
    x = np.random.rand(200, 5)
    weights, *_ = np.linalg.lstsq(np.vstack([x, lr * np.eye(5)]), np.append(x @ np.arange(5.0), np.zeros(5)))
    manager.log(validation_rmse=np.sqrt(np.mean((x @ weights - x @ np.arange(5.0)) ** 2)), luck=random.random())

def walk(manager, *, lr: float = 0.01, steps: int = 1500):
    place = 0.0
    for step in range(steps):
        place += lr * np.random.randn()
        manager.log(step=step, place=place, **({"checked": place**2} if step % 10 == 0 else {}))
    manager.log(end=place)
"""

GOALS = {"adversarial": "max:test_score", "fit": "min:validation_rmse", "walk": "max:end"}


@dataclass(frozen=True)
class Told:
    """What there is of a sweep in the end."""

    table: pandas.DataFrame
    runs: Mapping[str, Any]
    """Of each run on MLflow its metrics, each with all its steps and values, and which is the champion."""
    written: int


def going(task: str, folder: Path) -> "AbstractContextManager[Popen[bytes]]":
    """Start the sweep, or go on with it."""
    options = ["--goal", GOALS[task], "--report", "false", "--register", "none", "--delivery-timeout", str(PATIENCE)]
    new = ["sweep", f"tasks:{task}", "lr=0.1,0.03,0.01,0.003", *options]
    words = ["resume", "latest"] if list(folder.glob("runs/*/sweep.json")) else new
    return begun_program(*words, cwd=folder, output=folder / "output")


def finished(task: str, folder: Path) -> Told:
    """Go on until the sweep is finished, and return what there is of it."""
    with going(task, folder) as process:
        code = process.wait(PATIENCE)
    output = (folder / "output").read_text()
    assert code == 0, output
    assert "Traceback" not in output
    assert "warning" not in output
    [path] = folder.glob("runs/*/results.csv")
    table = pandas.read_csv(path, index_col=0, dtype=str).drop(columns=DURATIONS, errors="ignore")
    parent, children = family(folder)
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 5
    assert not list(folder.rglob("*.tmp"))
    told: dict[str, Any] = {"champion": parent.data.tags["sweeptrail.champion"]}
    for child in children:
        names = [name for name in child.data.metrics if not name.endswith("_duration")]
        histories = {name: client(folder).get_metric_history(child.info.run_id, name) for name in names}
        told[str(child.info.run_name)] = {
            name: sorted((item.step, item.value) for item in history) for name, history in histories.items()
        }
    return Told(table, told, written(folder))


def prepared(folder: Path) -> Path:
    folder.mkdir()
    (folder / "tasks.py").write_text(TASKS)
    new_store(folder)
    return folder


@pytest.mark.parametrize("task", GOALS)
def test_a_sweep_of_a_task_that_is_killed_five_times_ends_as_one_that_nobody_disturbed(
    task: str, tmp_path: Path
) -> None:
    expected = finished(task, prepared(tmp_path / "undisturbed"))
    for metrics in (found for name, found in expected.runs.items() if name != "champion"):
        for values in metrics.values():
            steps = [step for step, _ in values]
            assert len(steps) == len(set(steps)), "a step is there twice"
    folder, draw = prepared(tmp_path / "killed"), random.Random(task)
    for _ in range(KILLS_A_SWEEP):
        with going(task, folder) as process:
            let_write(process, folder, draw.uniform(-0.05, 0.4) * expected.written)
            kill_group(process)
    found = finished(task, folder)
    pandas.testing.assert_frame_equal(found.table, expected.table)
    assert found.runs == expected.runs
