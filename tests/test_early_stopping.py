"""Runs that are stopped early: they pause, the best go on, and the others are FINISHED below them."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas
import pytest

import sweeptrail
from sweeptrail.errors import UsageError
from tests.commands import family, new_store
from tests.searched import MODULE, chosen, epochs
from tests.waiting import PATIENCE

QUICK: dict[str, Any] = {"engine": "serial", "report": False, "register": "none", "delivery_timeout": PATIENCE}


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module of tasks in the current folder, with a store beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "searched_tasks.py").write_text(MODULE)
    new_store(tmp_path)
    yield importlib.import_module("searched_tasks")
    del sys.modules["searched_tasks"]


GRID = {"x": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "y": [0.7]}
"""The best are 0.3, then 0.2 and 0.4."""


def test_the_best_of_each_level_go_on_and_the_others_end_with_the_tag_below_them(tasks: ModuleType) -> None:
    outcome = sweeptrail.sweep(tasks.curve, GRID, stop="asha", goal="min:validation_loss", **QUICK)
    assert outcome.exit_code == 0
    assert outcome.champion
    assert outcome.champion.params["x"] == pytest.approx(0.3)
    counts = {float(name.partition("x=")[2]): len(each) for name, each in epochs(outcome.folder).items()}
    assert counts == {0.1: 1, 0.2: 3, 0.3: 9, 0.4: 1, 0.5: 1, 0.6: 1}
    told = {result.params["x"]: result.stopped_early for result in outcome.results}
    assert told[0.3] == ""
    assert told[0.4] == "after 1 epoch, place 3 of 6"
    assert told[0.2] == "after 3 epochs, place 2 of 2"
    order = [row.runs[0].result.params["x"] for row in outcome.leaderboard.rows]
    assert order == [0.3, 0.2, 0.4, 0.1, 0.5, 0.6], "those that were taken further stand above"
    parent, children = family(Path.cwd())
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    tagged = {float(run.data.params["x"]): run.data.tags.get("sweeptrail.stopped_early", "") for run in children}
    assert tagged == told
    assert "test_loss" not in children[5].data.metrics
    assert len(pandas.read_csv(outcome.folder / "results.csv")) == 16


def test_a_run_that_pauses_has_the_numbers_of_one_that_never_did(tasks: ModuleType) -> None:
    paused = sweeptrail.sweep(tasks.curve, GRID, stop="asha", goal="min:validation_loss", **QUICK)
    whole = sweeptrail.sweep(tasks.curve, {"x": [0.3], "y": [0.7]}, **QUICK)
    found = [
        [epoch.extra["validation_loss"] for epoch in each.epochs] for each in (paused.champion, whole.champion) if each
    ]
    assert found[0] == found[1]
    assert paused.champion
    assert whole.champion
    assert paused.champion.metrics == whole.champion.metrics


def test_a_whole_run_costs_no_epoch_twice(tasks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACE", str(tmp_path / "trace"))
    outcome = sweeptrail.sweep(tasks.curve, GRID, stop="asha", goal="min:validation_loss", **QUICK)
    assert len((tmp_path / "trace").read_text().splitlines()) == sum(map(len, epochs(outcome.folder).values())) == 16


def test_with_few_trials_one_is_whole_all_the_same(tasks: ModuleType) -> None:
    outcome = sweeptrail.sweep(tasks.curve, {"x": [0.1, 0.3]}, stop="asha", eta=4, **QUICK)
    assert sorted(len(each) for each in epochs(outcome.folder).values()) == [1, 9]
    assert outcome.champion
    assert outcome.champion.params["x"] == pytest.approx(0.3)


def test_a_goal_that_is_logged_only_at_the_end_is_refused_when_that_is_seen(tasks: ModuleType) -> None:
    with pytest.raises(
        UsageError, match=r"stop: epoch 1 of 1_x=0.1 has no score, by which runs are compared"
    ) as caught:
        sweeptrail.sweep(tasks.at_the_end, {"x": [0.1, 0.3]}, stop="asha", goal="max:score", **QUICK)
    assert len(caught.value.problems) == 1
    parent, children = family(Path.cwd())
    assert parent.info.status == "FAILED"
    assert {run.info.status for run in children} == {"KILLED"}


def test_without_a_goal_that_is_known_the_message_says_what_there_is(tasks: ModuleType) -> None:
    with pytest.raises(
        UsageError, match=r"goal: nothing says which of training_loss is .*write goal=max:training_loss"
    ):
        sweeptrail.sweep(tasks.at_the_end, {"x": [0.1, 0.3]}, stop="asha", **QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["processes", pytest.param("ray", marks=pytest.mark.heavy)])
def test_other_engines_stop_early_too(tasks: ModuleType, engine: str) -> None:
    space = {"x": "0..1", "y": "0..1"}
    settings = {**QUICK, "engine": engine}
    outcome = sweeptrail.sweep(
        "searched_tasks:curve", space, search="random", trials=9, stop="asha", goal="min:validation_loss", **settings
    )
    counts = [len(each) for each in epochs(outcome.folder).values()]
    assert len(counts) == 9
    assert max(counts) == 9
    assert all(set(each) == set(range(1, len(each) + 1)) for each in epochs(outcome.folder).values())
    parent, children = family(Path.cwd())
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    assert sum("sweeptrail.stopped_early" in run.data.tags for run in children) == sum(count < 9 for count in counts)


@pytest.mark.slow
def test_without_tracking_runs_pause_and_go_on_as_well(tasks: ModuleType, tmp_path: Path) -> None:
    from tests.commands import start

    words = ["searched_tasks:curve", "x=0.1,0.2,0.3,0.4,0.5,0.6", "--goal", "min:validation_loss"]
    options = ["--stop", "asha", "--engine", "serial", "--no-tracking"]
    command = [sys.executable, "-m", "sweeptrail", "sweep", *words, *options]
    done = start(*command, cwd=tmp_path, TRACE=str(tmp_path / "trace"))
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "trace").read_text().splitlines()) == 16
    assert "stopped early after 3 epochs, place 2 of 2" in done.stdout
    assert chosen(next((tmp_path / "runs").iterdir()))[-1] == (3, {}, 9)
