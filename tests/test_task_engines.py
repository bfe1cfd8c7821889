"""The same task gives the same table on every engine, named in a module or sent by value."""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas
import pytest

import sweeptrail
from sweeptrail.tasks.find import Finder, task_of
from tests.commands import family, new_store
from tests.test_engines import ON_RAY, end_shared_cluster
from tests.test_faults import DURATIONS

pytestmark = pytest.mark.slow

MODULE = """
import random

import numpy as np
import torch
from torch import nn

import task_helper

def train(manager, *, lr: float = 0.1, hidden: int = 2):
    network = nn.Sequential(nn.Linear(3, hidden), nn.Dropout(), nn.Linear(hidden, 1))
    optimizer = torch.optim.SGD(network.parameters(), lr)
    for epoch in manager.epochs(2, network=network, optimizer=optimizer):
        x = torch.randn(16, 3)
        loss = nn.functional.mse_loss(network(x), task_helper.answer(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        manager.track_loss(loss)
        manager.log(luck=random.random() + np.random.rand())
    for step in range(3):
        manager.log(step=step, walk=torch.rand(1))
    manager.log_text(f"{loss}", "loss.txt")
"""

HELPER = "def answer(x): return x.sum(dim=1, keepdim=True)\n"


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Any]:
    """A cluster of two nodes, each with room for one run."""
    end_shared_cluster()
    from ray.cluster_utils import Cluster

    options: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 150 * 2**20}
    running = Cluster(initialize_head=True, head_node_args=options)
    running.add_node(**options)
    yield running
    running.shutdown()
    end_shared_cluster()


@pytest.fixture
def task_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module in the current folder, as a person has it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("task_module.py").write_text(MODULE)
    Path("task_helper.py").write_text(HELPER)
    yield importlib.import_module("task_module")
    for name in ("task_module", "task_helper"):
        sys.modules.pop(name, None)


def swept(function: Any, engine: str, folder: Path) -> pandas.DataFrame:
    """Return the table of a sweep, after a look at what is on MLflow."""
    folder.mkdir()
    outcome = sweeptrail.sweep(
        function,
        {"lr": [0.1, 0.01], "hidden": [2, 3]},
        goal="min:loss",
        engine=engine,
        runs_dir=folder / "runs",
        tracking_uri=new_store(folder),
        report=False,
        register="none",
        workers=2,
    )
    assert [result.reason for result in outcome.results] == [""] * 4
    assert [len(result.epochs) for result in outcome.results] == [2] * 4
    parent, children = family(folder)
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 5
    assert all(Path(outcome.folder, result.name, "artifacts", "loss.txt").exists() for result in outcome.results)
    return pandas.read_csv(outcome.folder / "results.csv", index_col=0, dtype=str).drop(columns=DURATIONS)


def by_value(function: Any) -> Any:
    """Return a function that no other process can import."""

    def train(manager: Any, *, lr: float = 0.1, hidden: int = 2) -> None:
        function(manager, lr=lr, hidden=hidden)

    train.__module__ = "__main__"
    return train


@pytest.mark.parametrize("how", ["named", "by value"])
def test_serial_and_processes_give_the_same_table(how: str, task_module: Any, tmp_path: Path) -> None:
    function = task_module.train if how == "named" else by_value(task_module.train)
    expected = swept(function, "serial", tmp_path / "serial")
    assert len(expected) == 8
    pandas.testing.assert_frame_equal(swept(function, "processes", tmp_path / "processes"), expected)


@pytest.mark.parametrize("how", [pytest.param(how, marks=ON_RAY) for how in ("named", "by value")])
def test_a_cluster_of_two_nodes_gives_the_same_table(
    how: str, task_module: Any, tmp_path: Path, two_nodes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = task_module.train if how == "named" else by_value(task_module.train)
    expected = swept(function, "serial", tmp_path / "serial")
    end_shared_cluster()
    monkeypatch.setitem(os.environ, "RAY_ADDRESS", two_nodes.address)
    pandas.testing.assert_frame_equal(swept(function, "ray", tmp_path / "ray"), expected)


def test_another_machine_is_sent_the_modules_of_the_current_folder_that_the_task_has_loaded(
    task_module: Any, tmp_path: Path
) -> None:
    Path("not_needed.py").write_text("")
    with Finder() as find:
        assert find("task_module:train").modules({}) == {"task_module", "task_helper"}
    assert task_of(by_value(task_module.train), None, None).modules({}) == {"task_module", "task_helper"}
