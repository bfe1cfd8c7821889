"""A stopped sweep goes on exactly where it stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sweeptrail.outbox.sweep_folder import Description
from sweeptrail.results.find import find_local
from sweeptrail.sweeps.asked import merged, without_defaults
from sweeptrail.sweeps.settings import parameters_of, parse
from sweeptrail.tasks.task import DEFAULT_TASK, find_task
from tests.commands import ROOT, SMALL, client, environment, family, program, start, sweep
from tests.steered import Held, wait_for_end
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("resume")]

DURATIONS = ["epoch duration", "run duration"]
GRID = {"lr": "0.01", "batch_size": "50,100", "epochs": "4"}


def background(*arguments: str, cwd: Path, **settings: str) -> "subprocess.Popen[str]":
    """Start a sweep as the leader of a process group of its own, the last of whose four runs hangs."""
    return held_up(Held(cwd / "hook", runs=3), *arguments, cwd=cwd, **settings)


def held_up(held: Held, *arguments: str, cwd: Path, **settings: str) -> "subprocess.Popen[str]":
    options = [word for name, value in {**SMALL, **settings}.items() for word in (f"--{name.replace('_', '-')}", value)]
    return subprocess.Popen(
        [sys.executable, "-m", "sweeptrail", "sweep", *options, *arguments],
        cwd=cwd,
        env=environment(**held.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for_epochs(process: "subprocess.Popen[str]", count: int) -> None:
    assert process.stdout
    said = []
    while count:
        said.append(process.stdout.readline())
        assert said[-1], said
        count -= " epoch " in said[-1]


def numbers(folder: Path) -> pandas.DataFrame:
    [path] = folder.glob("runs/*/results.csv")
    return pandas.read_csv(path, index_col=0).drop(columns=DURATIONS)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> pandas.DataFrame:
    folder = tmp_path_factory.mktemp("uninterrupted")
    finished = sweep(cwd=folder, **GRID)
    assert finished.returncode == 0, finished.stderr
    return numbers(folder)


def assert_complete_and_equal(folder: Path, expected: pandas.DataFrame) -> None:
    """Nothing lost, nothing twice, the same numbers: in the table, on MLflow, in TensorBoard's files."""
    pandas.testing.assert_frame_equal(numbers(folder), expected, check_exact=True)
    parent, children = family(folder)
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * (1 + len(children))
    assert len(children) == expected["run"].nunique()
    for number, child in enumerate(children, 1):
        history = client(folder).get_metric_history(child.info.run_id, "loss")
        rows = expected[expected["run"] == number]
        assert [(item.step, item.value) for item in history] == list(zip(rows["epoch"], rows["loss"], strict=True))
        [run_folder] = folder.glob(f"runs/*/{child.info.run_name}")
        events = EventAccumulator(str(run_folder), size_guidance={"histograms": 0})
        events.Reload()
        for tag in ("Loss", "Validation accuracy"):
            assert [item.step for item in events.Scalars(tag)] == rows["epoch"].tolist()
        assert [item.step for item in events.Histograms("conv1.weight.grad")] == rows["epoch"].tolist()
        assert len(events.Scalars("Test accuracy")) == 1
        assert len(events.Images("images")) == 1


@pytest.mark.parametrize(("whom", "epochs"), [("driver", 0), ("group", 3), ("driver", 9)])
def test_a_sweep_that_was_killed_goes_on_to_the_same_numbers(
    whom: str, epochs: int, tmp_path: Path, uninterrupted: pandas.DataFrame
) -> None:
    process = background(cwd=tmp_path, **GRID)
    wait_for(lambda: list(tmp_path.glob("runs/*/sweep.json")))
    wait_for_epochs(process, epochs)
    if whom == "group":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()
    wait_for_end(process)
    finished = program("resume", cwd=tmp_path)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert_complete_and_equal(tmp_path, uninterrupted)


def stop(number: signal.Signals, folder: Path) -> None:
    """Stop a sweep in the middle, one of whose runs would never end."""
    process = held_up(Held(folder / "hook", runs=3, halfway=True), cwd=folder, **GRID)
    wait_for_epochs(process, 9)
    os.killpg(process.pid, number)
    output, _ = process.communicate()
    assert process.returncode == 128 + number
    assert "Traceback" not in output
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    program("sync", cwd=folder)
    parent, children = family(folder)
    assert parent.info.status == "KILLED"
    assert {child.info.status for child in children} <= {"KILLED", "FINISHED"}
    assert "KILLED" in {child.info.status for child in children}


def test_a_sweep_that_is_stopped_waits_for_no_run_is_killed_on_mlflow_and_goes_on_later(
    tmp_path: Path, uninterrupted: pandas.DataFrame
) -> None:
    stop(signal.SIGINT, tmp_path)
    assert program("resume", "latest", cwd=tmp_path).returncode == 0
    assert_complete_and_equal(tmp_path, uninterrupted)


def test_a_second_resume_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    process = background(cwd=tmp_path, **GRID)
    wait_for_epochs(process, 1)
    refused = program("resume", cwd=tmp_path)
    assert refused.returncode == 2
    assert "another process is carrying out" in refused.stderr
    assert "RUNNING" in program("status", cwd=tmp_path).stdout
    process.kill()
    process.communicate()
    assert "DEAD" in program("status", cwd=tmp_path).stdout


def test_reap_closes_what_a_dead_process_left_running(tmp_path: Path) -> None:
    process = background(cwd=tmp_path, **GRID)
    wait_for_epochs(process, 3)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    reaped = program("reap", cwd=tmp_path)
    assert "closed the sweep and" in reaped.stdout
    parent, children = family(tmp_path)
    assert parent.info.status == "KILLED"
    assert parent.data.tags["sweeptrail.reason"] == "its process died"
    assert "RUNNING" not in {child.info.status for child in children}
    assert program("reap", cwd=tmp_path).stdout == ""


def test_another_machine_goes_on_from_the_tracking_server_alone(
    tmp_path: Path, uninterrupted: pandas.DataFrame
) -> None:
    stop(signal.SIGTERM, tmp_path)
    parent, _ = family(tmp_path)
    shutil.rmtree(tmp_path / "runs")
    resumed = program("resume", parent.info.run_id, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    pandas.testing.assert_frame_equal(numbers(tmp_path), uninterrupted, check_exact=True)
    _, children = family(tmp_path)
    for child in children:
        assert child.info.status == "FINISHED"
        steps = [item.step for item in client(tmp_path).get_metric_history(child.info.run_id, "accuracy")]
        assert steps == [1, 2, 3, 4]


def test_a_run_that_somebody_has_renamed_on_the_server_stays_in_the_sweep_s_folder(tmp_path: Path) -> None:
    assert sweep(cwd=tmp_path, **{**GRID, "shuffle": "true", "epochs": "1"}).returncode == 0
    program("sync", cwd=tmp_path)
    parent, children = family(tmp_path)
    client(tmp_path).update_run(children[0].info.run_id, name="../../outside")
    shutil.rmtree(tmp_path / "runs")
    resumed = program("resume", parent.info.run_id, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert not list(tmp_path.parent.glob("**/outside"))
    assert sorted(path.parent.name for path in tmp_path.glob("runs/*/*/outbox.jsonl")) == [
        "1_renamed",
        children[1].info.run_name,
    ]


def test_widening_the_grid_adds_only_the_new_runs_and_what_changes_numbers_is_refused_all_at_once(
    tmp_path: Path,
) -> None:
    assert sweep(cwd=tmp_path, **{**GRID, "shuffle": "true", "epochs": "1"}).returncode == 0
    widened = program("resume", "--lr", "0.01,0.001", "--optimizer", "adam,sgd", cwd=tmp_path)
    assert widened.returncode == 0, widened.stderr
    lines = [line for line in widened.stdout.splitlines() if " epoch " in line]
    assert len(lines) == 6
    _, children = family(tmp_path)
    assert [int(child.data.tags["sweeptrail.run"]) for child in children] == list(range(1, 9))
    frame = numbers(tmp_path)
    assert len(frame) == 8
    assert set(frame[frame["run"] == 1]["optimizer"]) == {"adam"}
    refused = program("resume", "--validation-samples", "201", "--train-samples", "301", cwd=tmp_path)
    assert refused.returncode == 2
    assert "validation_samples: the sweep to resume has 200, got 201" in refused.stderr
    assert "train_samples: the sweep to resume has 300, got 301" in refused.stderr
    assert len(refused.stderr.splitlines()) == 2


def test_mlflow_run_resumes_by_latest_and_by_run_id_without_a_second_sweep(tmp_path: Path) -> None:
    process = background(cwd=tmp_path, **GRID)
    wait_for_epochs(process, 3)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    nonsense = program("sweep", "--resume", "latest", "--epochs", "", cwd=tmp_path)
    assert nonsense.returncode == 2  # as without it
    resumed = start(
        *("mlflow", "run", str(ROOT), "--env-manager", "local", "-P", "resume=latest"), cwd=tmp_path, PYTHONPATH=""
    )
    assert resumed.returncode == 0, resumed.stderr
    runs = client(tmp_path).search_runs(["0"])
    resumptions = [run for run in runs if "sweeptrail.resumes" in run.data.tags]
    parents = [run for run in runs if "sweeptrail.settings" in run.data.tags]
    assert [run.info.status for run in (*resumptions, *parents)] == ["FINISHED", "FINISHED"]
    assert resumptions[0].data.tags["sweeptrail.resumes"] == parents[0].info.run_id
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert [child.info.status for child in children] == ["FINISHED"] * 4
    again = start(
        *("mlflow", "run", str(ROOT), "--env-manager", "local", "--run-id", parents[0].info.run_id),
        cwd=tmp_path,
        PYTHONPATH="",
    )
    assert again.returncode == 0, again.stderr
    assert len(client(tmp_path).search_runs(["0"])) == len(runs)
    assert len(list(tmp_path.glob("runs/*/sweep.json"))) == 1


def test_a_sweep_that_is_nowhere_is_named_with_those_that_are(tmp_path: Path) -> None:
    nothing = program("resume", cwd=tmp_path)
    assert nothing.returncode == 2
    assert "resume: expected latest, a sweep's folder or the id of its parent run, got 'latest'" in nothing.stderr
    unknown = program("resume", "0123456789abcdef0123456789abcdef", cwd=tmp_path)
    assert unknown.returncode == 2
    assert "there is no sweep in" in unknown.stderr


def test_settings_given_on_resuming_add_to_those_recorded() -> None:
    task = find_task(DEFAULT_TASK)
    parameters, defaults = parameters_of(task), parse({}, task).texts
    recorded = defaults | {"epochs": "7", "lr": "0.5", "validation_samples": "0", "batch_size": "60000"}
    assert without_defaults(parameters, defaults | {"lr": "0.5"}) == {"lr": "0.5"}
    assert merged(parameters, recorded, {"lr": "0.5,0.25", "workers": "3", "batch_size": "10"}) == recorded | {
        "lr": "0.5,0.25",
        "workers": "3",
        "batch_size": "60000,10",
    }


def test_a_damaged_checkpoint_costs_time_and_nothing_else(tmp_path: Path, uninterrupted: pandas.DataFrame) -> None:
    process = background(cwd=tmp_path, **GRID)
    wait_for_epochs(process, 5)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    for path in tmp_path.glob("runs/*/*/checkpoint.pt"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert program("resume", cwd=tmp_path).returncode == 0
    assert_complete_and_equal(tmp_path, uninterrupted)


def test_a_diverged_run_fails_keeps_its_rows_and_the_others_go_on(tmp_path: Path) -> None:
    finished = sweep(cwd=tmp_path, lr="1000000,0.01", batch_size="50", shuffle="true", optimizer="sgd")
    assert finished.returncode == 1
    parent, children = family(tmp_path)
    assert [child.info.status for child in children] == ["FAILED", "FINISHED"]
    assert "the loss is nan in epoch 1; write a smaller lr" in children[0].data.tags["sweeptrail.reason"]
    assert parent.info.status == "FAILED"
    records = json.loads(next(tmp_path.glob("runs/*/results.json")).read_text())
    assert [(row["run"], row["loss"] is None) for row in records][:2] == [(1, True), (2, False)]


def test_what_waits_is_delivered_to_another_server_with_its_original_times(tmp_path: Path) -> None:
    dead = "http://127.0.0.1:9"
    undelivered = sweep(
        "--tracking-uri", dead, cwd=tmp_path, **{**GRID, "shuffle": "true", "epochs": "1", "delivery_timeout": "1"}
    )
    assert undelivered.returncode == 3
    assert "sync" in undelivered.stdout
    assert f"records wait for {dead}" in program("status", cwd=tmp_path).stdout
    before = time.time() * 1000
    synced = program("sync", "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db", cwd=tmp_path)
    assert synced.returncode == 0, synced.stderr
    parent, children = family(tmp_path)
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 3
    assert all(run.info.end_time < before for run in (parent, *children))
    still = program("sync", cwd=tmp_path)
    assert still.returncode == 3
    assert "error: " in still.stderr
    assert "Connection refused" in still.stderr


def test_what_a_loop_of_one_s_own_has_left_is_no_sweep_to_resume(tmp_path: Path) -> None:
    folder = tmp_path / "loop"
    folder.mkdir()
    Description("c0ffee", 1.0, "sqlite:///mlflow.db", settings={}, runs=[]).write(folder)
    for which in ("latest", "loop", str(folder), "c0ffee"):
        assert find_local(tmp_path, which) is None


def test_more_epochs_of_the_built_in_task_give_the_numbers_of_one_go(tmp_path: Path) -> None:
    places = [tmp_path / "later", tmp_path / "at_once"]
    for place, count in zip(places, ("1", "3"), strict=True):
        place.mkdir()
        done = sweep("--lr", "0.01", "--batch-size", "50", cwd=place, epochs=count)
        assert done.returncode == 0, done.stderr
    assert program("resume", "--epochs", "3", cwd=places[0]).returncode == 0
    pandas.testing.assert_frame_equal(numbers(places[0]), numbers(places[1]))
    fewer = program("resume", "--epochs", "2", cwd=places[0])
    assert "epochs: the runs of the sweep to resume have 3, got 2; write more, or start a new sweep" in fewer.stderr
