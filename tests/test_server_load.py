"""Several people sweep at once on one team server, whose database, processes and disk fail under them."""

import base64
import json
import os
import resource
import signal
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psutil
import psycopg2  # type: ignore[import-untyped]  # has no types
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from sweeptrail.errors import DeliveryError
from sweeptrail.outbox.delivery.courier import Courier
from tests.commands import program
from tests.small_sweep import assert_arrived, write_sweep
from tests.steered import Held, begun
from tests.team_server import TeamServer, team_server
from tests.waiting import PATIENCE, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("server_load")]

CLIENTS, RUNS, EPOCHS = 6, 4, 2
EXPERIMENT = "faults"

SETTINGS = {
    "lr": "0.01",
    "batch_size": "50,100",
    "epochs": str(EPOCHS),
    "train_samples": "200",
    "validation_samples": "200",
    "engine": "serial",
    "report": "false",
    "register": "none",
    "delivery_timeout": f"{PATIENCE:.0f}",
    "experiment": EXPERIMENT,
}
COLUMNS = {
    "loss": "loss",
    "accuracy": "accuracy",
    "epoch_duration": "epoch duration",
    "run_duration": "run duration",
    "validation_loss": "validation_loss",
    "validation_accuracy": "validation_accuracy",
}
"""For each metric its column in the table that a sweep leaves on disk."""


@pytest.fixture(scope="module")
def team() -> Iterator[TeamServer]:
    """A server with an account for this process, which is no administrator."""
    with team_server() as server, pytest.MonkeyPatch.context() as here:
        for name, value in login(*server.add_user("ada")).items():
            here.setenv(name, value)
        yield server


def login(name: str, password: str) -> dict[str, str]:
    return {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password}


@pytest.mark.heavy  # six sweeps at a time
def test_sweeps_of_six_people_survive_a_killed_database_and_a_killed_server(team: TeamServer, tmp_path: Path) -> None:
    folders = [tmp_path / f"client-{number}" for number in range(CLIENTS)]
    bob = login(*team.add_user("bob"))
    ada = {name: os.environ[name] for name in bob}
    held = Held(tmp_path / "hook", runs=1)
    logins = [(ada, bob)[number % 2] for number in range(CLIENTS)]
    with ExitStack() as clients:
        processes = []
        for folder, who in zip(folders, logins, strict=True):
            folder.mkdir()
            env = {"MLFLOW_TRACKING_URI": team.uri, **who, **held.environment}
            processes.append(clients.enter_context(begun(*sweep(), cwd=folder, output=folder / "output", **env)))
        wait_for(lambda: len(runs_of(team)) == 2 * CLIENTS)
        for number, service in enumerate(("database", "tracking server"), 1):
            with away(team, service):
                held.let_begin(1 + number)
                wait_for_all_to_say(folders, "does not answer", number)
            wait_for_all_to_say(folders, "answers again", number)
        held.let_go()
        codes = [process.wait(PATIENCE) for process in processes]
    assert set(codes) <= {0, 3}, [(folder / "output").read_text() for folder in folders]
    assert said(folders, "records for good") == [0] * CLIENTS
    for folder, who, code in zip(folders, logins, codes, strict=True):
        if code == 3:
            synced = program("sync", cwd=folder, **who)
            assert synced.returncode == 0, synced.stderr
    assert_all_arrived(team, folders)


def sweep() -> list[str]:
    options = [word for name, value in SETTINGS.items() for word in (f"--{name.replace('_', '-')}", value)]
    return [sys.executable, "-m", "sweeptrail", "sweep", *options]


def said(folders: list[Path], words: str) -> list[int]:
    """Return how often each sweep has said something."""
    return [(folder / "output").read_text().count(words) for folder in folders]


def wait_for_all_to_say(folders: list[Path], words: str, times: int) -> None:
    wait_for(lambda: said(folders, words) == [times] * CLIENTS)


@contextmanager
def away(team: TeamServer, service: str) -> Iterator[None]:
    """Kill a process of the server's, for which there is no other before the end of the block."""
    supervisor, before = psutil.Process(team.state()["pid"]), team.state()["services"][service]
    supervisor.suspend()
    try:
        os.kill(before["pid"], signal.SIGKILL)
        yield
    finally:
        supervisor.resume()
    wait_for(lambda: team.state()["services"][service]["restarts"] == before["restarts"] + 1)
    wait_for(lambda: answers(team))


def answers(team: TeamServer) -> bool:
    """Tell whether the server finds something in its database."""
    request = urllib.request.Request(f"{team.uri}/api/2.0/mlflow/experiments/get?experiment_id=0")
    request.add_header("Authorization", f"Basic {base64.b64encode(':'.join(team.admin).encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def runs_of(team: TeamServer) -> list[Run]:
    client = MlflowClient(team.uri)
    found = client.get_experiment_by_name(EXPERIMENT)
    return list(client.search_runs([found.experiment_id])) if found else []


def assert_all_arrived(team: TeamServer, folders: list[Path]) -> None:
    """Assert that the server holds every row of the tables on disk once, and nothing else."""
    client, runs = MlflowClient(team.uri), runs_of(team)
    parents = {run.data.tags["sweeptrail.folder"]: run for run in runs if "mlflow.parentRunId" not in run.data.tags}
    assert len(runs) == CLIENTS * (1 + RUNS)
    assert len(parents) == CLIENTS
    assert Counter(run.info.status for run in runs) == {"FINISHED": len(runs)}
    for folder in folders:
        [results] = folder.glob("runs/*/results.json")
        parent = parents[str(results.parent)]
        children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
        assert len(children) == RUNS
        rows = json.loads(results.read_text())
        assert len(rows) == RUNS * EPOCHS
        stored = team.folder / "artifacts" / parent.info.experiment_id / parent.info.run_id / "artifacts"
        assert (stored / "results.json").read_bytes() == results.read_bytes()
        for child in children:
            own = [row for row in rows if row["run"] == int(child.data.tags["sweeptrail.run"])]
            for metric, column in COLUMNS.items():
                history = client.get_metric_history(child.info.run_id, metric)
                assert [(one.step, one.value) for one in history] == [(row["epoch"], row[column]) for row in own]


def test_a_full_artifact_disk_delays_delivery_and_loses_nothing(team: TeamServer, tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    write_sweep(folder)
    with full_disk(team):
        courier = waiting_courier(team, folder)
    wait_for(lambda: has_delivered(courier))
    assert courier.refusals == []
    assert_arrived(team.uri, team.folder / "artifacts", folder)


@contextmanager
def full_disk(team: TeamServer) -> Iterator[None]:
    """Let MLflow write no file of more than a kilobyte, as if the disk were full."""
    server = psutil.Process(team.state()["services"]["tracking server"]["pid"])
    soft, hard = server.rlimit(resource.RLIMIT_FSIZE)
    server.rlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        server.rlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_database_out_of_connections_delays_delivery_and_loses_nothing(team: TeamServer, tmp_path: Path) -> None:
    folder = tmp_path / "connections"
    write_sweep(folder)
    with no_connections(team):
        courier = waiting_courier(team, folder)
    wait_for(lambda: has_delivered(courier))
    assert courier.refusals == []
    assert_arrived(team.uri, team.folder / "artifacts", folder)


@contextmanager
def no_connections(team: TeamServer) -> Iterator[None]:
    """Take all connections that PostgreSQL has to give, MLflow's own among them."""
    password = json.loads((team.folder / "secrets.json").read_text())["database_password"]
    with ExitStack() as taken:
        pids: list[int] = []
        while True:
            try:
                connection = psycopg2.connect(team.state()["database_url"], password=password)
            except psycopg2.OperationalError as error:
                assert "too many" in str(error) or "remaining connection slots" in str(error)  # noqa: PT017
                break
            taken.enter_context(closing(connection))
            pids.append(connection.info.backend_pid)
            with connection.cursor() as cursor:
                others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s AND pid <> ALL(%s)"
                cursor.execute(others, ["mlflow", pids])
        yield


def waiting_courier(team: TeamServer, folder: Path) -> Courier:
    """Return a courier that has tried to deliver a folder twice, in vain."""
    courier = Courier(team.uri, folder)
    for _ in range(2):
        assert not has_delivered(courier)
    assert courier.refusals == []
    assert courier.waiting() > 0
    return courier


def has_delivered(courier: Courier) -> bool:
    """Try once; a connection that was kept may have been closed meanwhile, and the next attempt makes another."""
    try:
        courier.deliver()
    except DeliveryError as error:
        print(error)
        return False
    return courier.waiting() == 0
