"""The commands know the outboxes of this machine, and a sweep takes the address that writes to one."""

import atexit
import json
import os
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from mlflow.entities import Run

from sweeptrail.cli import main
from sweeptrail.doctor import outbox as doctor_outbox
from sweeptrail.doctor.outbox import look_at_outboxes
from sweeptrail.outbox.delivery.adopted import as_on_server
from sweeptrail.outbox.entries import Closed, Metrics
from sweeptrail.outbox.machine.condition import condition
from sweeptrail.outbox.machine.outbox import Outbox
from sweeptrail.outbox.machine.place import DESCRIPTION, LOCK, Place, open_place, outboxes, outboxes_folder, read_place
from sweeptrail.system.locks import is_locked, locked
from sweeptrail.tracking.uri import Tracking
from tests.commands import start
from tests.server import Server, process_group
from tests.waiting import wait_for

AWAY = "http://127.0.0.1:1"

LOGGED = """
import mlflow, os, signal
mlflow.set_experiment(os.environ["NAME"])
with mlflow.start_run(run_name="whole"):
    mlflow.log_metric("loss", 0.5)
mlflow.start_run(run_name="killed")
mlflow.log_metric("loss", 0.25)
os.kill(os.getpid(), signal.SIGKILL)
"""

PROJECT = """
name: tiny
entry_points:
  main:
    command: "python -m sweeptrail sweep tiny:fit C=1,2 --engine serial --report false --register none"
"""

TASK = """
def fit(manager, *, C: float = 1.0):
    manager.log(validation_accuracy=C / 10)
"""

LOOP = """
import mlflow, os
from sweeptrail import RunBuilder, RunManager
mlflow.set_experiment(os.environ["NAME"])
with mlflow.start_run(run_name="outer"):
    manager = RunManager()
    for run in RunBuilder.get_runs({"lr": [0.1, 0.2]}):
        with manager.run(run, None, None):
            manager.log(loss=run.lr)
    manager.save("results")
"""


@pytest.fixture(autouse=True)
def _outboxes_of_the_test_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the outboxes of whoever runs the tests away, and end the couriers that outlive their processes."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    yield
    end_couriers()


def end_couriers() -> None:
    """Kill what delivers the outboxes of this test, and wait until it is gone."""
    for process in psutil.process_iter(["cmdline"]):
        if str(outboxes_folder()) in " ".join(process.info["cmdline"] or ()):
            process.kill()
            wait_for(partial(is_gone, process))


def is_gone(process: psutil.Process) -> bool:
    """Tell whether a process has ended, also where whoever started it has not asked how."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def no_courier(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nobody deliver what this process writes."""
    monkeypatch.setattr("sweeptrail.outbox.machine.outbox.see_to_courier", lambda place: None)


def command(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def written(uri: str, *names: str) -> tuple[Outbox, list[str]]:
    """Write a run of this process for each name, with one metric."""
    outbox, runs = Outbox(uri), []
    [default] = outbox.experiments.all()
    for number, name in enumerate(names):
        runs.append(outbox.begin(default, name=name, time=1000 + number, tags={}))
        outbox.write(runs[-1], Metrics({"loss": 0.5}, 0, 1000))
    atexit.unregister(outbox._leave)  # this process outlives its folder
    return outbox, runs


def logged(folder: Path, server: Server, program: str = LOGGED) -> int:
    """Run a script that logs to this server by way of an outbox; return how it ended."""
    done = start(
        sys.executable, "-c", program, cwd=folder, MLFLOW_TRACKING_URI=f"sweeptrail+{server.uri}", NAME=folder.name
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode


def runs_of(server: Server, experiment: str) -> list[Run]:
    client = MlflowClient(server.uri)
    found = client.get_experiment_by_name(experiment)
    return client.search_runs([found.experiment_id]) if found else []


@pytest.mark.parametrize("word", ["sync", "status", "reap"])
def test_where_there_is_neither_a_sweep_nor_an_outbox_that_is_an_error(word: str) -> None:
    done = command(word)
    assert (done.exit_code, done.output.count("\n")) == (2, 1)
    assert "runs: expected the folder of a sweep" in done.output


@pytest.mark.usefixtures("no_courier")
def test_status_has_a_line_for_each_run_that_is_open_or_not_delivered() -> None:
    outbox, [open_run, ended] = written(AWAY, "first", "sec\x1b[31mond\nline")
    outbox.write(ended, Closed("FAILED", 2000))
    done = command("status")
    head, first, second = done.output.splitlines()
    assert head == (
        f"{outbox.place.folder}  2 runs  5 records wait for {AWAY}  no courier is at work"  # two beginnings, one end
    )
    assert first == f"  {open_run}  not there yet  first  RUNNING  2 records wait"
    assert second == f"  {ended}  not there yet  sec\N{REPLACEMENT CHARACTER}[31mond line  FAILED  3 records wait"


@pytest.mark.usefixtures("no_courier")
def test_what_is_delivered_is_shown_with_both_ids_only_where_it_is_asked_for() -> None:
    outbox, [run] = written(AWAY, "first")
    outbox.write(run, Closed("FINISHED", 2000))
    journal = outbox.place.journal(run)
    told = {AWAY: {"run_id": "of-the-server", "offset": journal.stat().st_size}}
    (journal.parent / "delivered.json").write_text(json.dumps(told))
    assert command("status").output.splitlines() == [
        f"{outbox.place.folder}  1 runs  all delivered to {AWAY}  no courier is at work"
    ]
    asked = command("status", str(outbox.place.folder)).output
    assert f"  {run}  on the server of-the-server  first  FINISHED  0 records wait\n" in asked


@pytest.mark.usefixtures("no_courier")
def test_an_outbox_that_cannot_be_read_keeps_no_other_from_being_shown() -> None:
    damaged, whole = open_place("http://127.0.0.1:1"), open_place("http://127.0.0.1:2")
    (damaged.folder / DESCRIPTION).write_text("half a fi")
    done = command("status")
    assert done.exit_code == 1
    assert f"error: {damaged.folder / DESCRIPTION} cannot be read" in done.output
    assert f"{whole.folder}  0 runs  all delivered" in done.output
    [seen] = look_at_outboxes()
    assert (seen.mark, f"move {damaged.folder} away" in seen.todo) == ("problem", True)


@pytest.mark.usefixtures("no_courier")
def test_sync_sends_an_outbox_to_no_other_server() -> None:
    outbox, _ = written(AWAY, "first")
    done = command("sync", "--tracking-uri", "http://127.0.0.1:2")
    assert (done.exit_code, done.output) == (
        0, f"sweeptrail: {outbox.place.folder} is left out: what is there belongs to {AWAY}\n",
    )  # fmt: skip


@pytest.mark.usefixtures("no_courier")
def test_the_doctor_says_that_records_wait_and_nobody_delivers_them() -> None:
    assert [seen.mark for seen in look_at_outboxes()] == ["ok"]
    outbox, _ = written(AWAY, "first")
    [seen] = look_at_outboxes()
    assert seen.mark == "warning"
    assert seen.found == f"2 records wait for {AWAY}, and no courier is at work"
    assert seen.todo == f"sweeptrail sync {outbox.place.folder}"
    with locked(outbox.place.folder / LOCK):
        [seen] = look_at_outboxes()
    assert (seen.mark, "its courier is at work" in seen.found) == ("ok", True)


def test_the_doctor_says_what_keeps_mlflow_from_writing_to_an_outbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_outbox, "entry_points", lambda **_: ())
    (tmp_path / "data").touch()
    schemes, folder = look_at_outboxes()
    assert (schemes.mark, folder.mark) == ("warning", "warning")
    assert "does not know sweeptrail+http, sweeptrail+https, sweeptrail+sqlite" in schemes.found
    assert f"{sys.executable} -m pip install sweeptrail" in schemes.todo
    assert folder.todo == "set XDG_DATA_HOME to a folder of yours"


@pytest.mark.usefixtures("no_courier")
def test_what_this_machine_has_made_is_told_to_a_server_in_its_own_words() -> None:
    outbox, [waiting] = written(AWAY, "first")
    made = outbox.experiments.make("mine", tags={}, artifact_location="", time=1000)
    assert as_on_server(Tracking(AWAY, {"id": made.id}, waiting)) == Tracking(AWAY, {"name": "mine"}, waiting)
    told = {AWAY: {"run_id": "of-the-server", "offset": 0}}
    (outbox.place.run_folder(waiting) / "delivered.json").write_text(json.dumps(told))
    assert as_on_server(Tracking(AWAY, {}, waiting)) == Tracking(AWAY, {}, "of-the-server")
    for unknown in (Tracking(AWAY, {"id": "7"}, "a" * 32), Tracking("http://127.0.0.1:2", {"id": "7"}, waiting)):
        assert as_on_server(unknown) == unknown


@pytest.mark.slow
def test_what_waited_for_a_server_that_was_away_is_delivered_and_the_killed_run_is_closed(tmp_path: Path) -> None:
    server = Server(tmp_path / "server")
    (here := tmp_path / "here").mkdir()
    assert logged(here, server) == -signal.SIGKILL
    [place] = map(read_place, outboxes())
    wait_for(lambda: [run.status for run in condition(place).runs] == ["FINISHED", "KILLED"])
    wait_for(lambda: "does not take" in (place.folder / "courier.log").read_text())
    late = command("sync")
    assert (late.exit_code, "records of" in late.output, "Connection refused" in late.output) == (3, True, True)
    try:
        server.start()
        synced = command("sync")  # wakes the courier, which pauses for longer and longer
        assert (synced.exit_code, "none wait" in synced.output) == (0, True), synced.output
        found = {run.info.run_name: run for run in runs_of(server, "here")}
        assert {name: run.info.status for name, run in found.items()} == {"whole": "FINISHED", "killed": "KILLED"}
        shown = command("status", str(place.folder)).output
        assert all(f"on the server {run.info.run_id}" in shown for run in found.values())
        assert command("reap").output == ""
    finally:
        server.kill()


def test_reap_closes_what_was_killed_and_delivers_it_where_no_courier_is_left(tmp_path: Path, tracking: Server) -> None:
    tracking.kill()
    (here := tmp_path / "reaped").mkdir()
    with process_group(
        sys.executable, "-c", LOGGED.replace("os.kill(os.getpid(), signal.SIGKILL)", "signal.pause()"), cwd=here,
        env={**os.environ, "MLFLOW_TRACKING_URI": f"sweeptrail+{tracking.uri}", "NAME": here.name},
    ) as process:  # fmt: skip
        wait_for(lambda: [run.name for place in map(read_place, outboxes()) for run in condition(place).runs
                          if run.waiting == 2 and run.status == "RUNNING"] == ["killed"])  # fmt: skip
        [place] = map(read_place, outboxes())
        end_couriers()
        process.kill()
        process.wait()
    assert not is_locked(place.folder / LOCK)
    assert [run.status for run in condition(place).runs] == ["FINISHED", "DEAD"]
    tracking.start()
    assert command("reap").output == f"{place.folder}: closed 1 open runs\n"
    assert {run.info.status for run in runs_of(tracking, here.name)} == {"FINISHED", "KILLED"}
    assert condition(place).waiting == 0


def delivered(place: Place) -> bool:
    return not condition(place).waiting


def assert_one_family(server: Server, experiment: str) -> Run:
    """Hold that an experiment has one parent, its two runs below it, all of them finished; return the parent."""
    found = runs_of(server, experiment)
    [parent] = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in found if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert (len(children), len(found)) == (2, 3)
    assert {run.info.status for run in found} == {"FINISHED"}
    return parent


def project(folder: Path) -> Path:
    folder.mkdir()
    (folder / "MLproject").write_text(PROJECT)
    (folder / "tiny.py").write_text(TASK)
    return folder


def mlflow_run(folder: Path, server: Server) -> None:
    words = ("mlflow", "run", ".", "--env-manager", "local", "--experiment-name", folder.name)
    done = start(*words, cwd=folder, MLFLOW_TRACKING_URI=f"sweeptrail+{server.uri}")
    assert done.returncode in (0, 1), done.stderr  # 1 where the sweep could not deliver everything
    assert "Traceback" not in done.stderr, done.stderr


def test_a_sweep_takes_the_address_as_it_takes_the_plain_one(tmp_path: Path, tracking: Server) -> None:
    folder = project(tmp_path / "plain")
    words = ("sweep", "tiny:fit", "C=1,2", "--engine", "serial", "--report", "false", "--register", "none")
    done = start(
        sys.executable, "-m", "sweeptrail", *words, cwd=folder,
        MLFLOW_TRACKING_URI=f"sweeptrail+{tracking.uri}", MLFLOW_EXPERIMENT_NAME=folder.name,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert_one_family(tracking, folder.name)
    assert f"the sweep:    {tracking.uri}/#" in done.stdout


def test_the_run_that_mlflow_run_has_opened_by_its_id_here_is_the_sweep_s_own(tmp_path: Path, tracking: Server) -> None:
    folder = project(tmp_path / "opened")
    mlflow_run(folder, tracking)
    [place] = map(read_place, outboxes())
    wait_for(lambda: delivered(place))
    parent = assert_one_family(tracking, folder.name)
    assert parent.data.tags["mlflow.project.entryPoint"] == "main"


@pytest.mark.slow
def test_that_run_may_be_on_its_way_for_as_long_as_the_server_is_away(tmp_path: Path) -> None:
    server = Server(tmp_path / "server")
    folder = project(tmp_path / "away")
    mlflow_run(folder, server)
    try:
        server.start()
        for words in ((), (str(tmp_path / "data" / "sweeptrail" / "runs"),)):  # a project in a temporary folder
            synced = command("sync", *words)
            assert synced.exit_code == 0, synced.output
        assert_one_family(server, folder.name)
    finally:
        server.kill()


def test_a_loop_of_one_s_own_inside_of_a_run_has_that_as_its_parent(tmp_path: Path, tracking: Server) -> None:
    (here := tmp_path / "looped").mkdir()
    assert logged(here, tracking, LOOP) == 0
    [place] = map(read_place, outboxes())
    wait_for(lambda: delivered(place))
    assert command("sync", str(here / "runs")).exit_code == 0
    assert assert_one_family(tracking, here.name).info.run_name == "outer"
