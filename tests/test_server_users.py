"""Accounts on the server for a team: made, changed, removed, each at once."""

from collections.abc import Iterator

import pytest
import requests

from tests.team_server import TeamServer, team_server
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("server_users")]

API = "/api/2.0/mlflow"


@pytest.fixture(scope="module")
def server() -> Iterator[TeamServer]:
    with team_server() as server:
        yield server


def ask(server: TeamServer, login: tuple[str, str], method: str, path: str, **content: object) -> requests.Response:
    return requests.request(method, f"{server.uri}{API}/{path}", auth=login, json=content or None, timeout=PATIENCE)


def may_read(server: TeamServer, login: tuple[str, str]) -> int:
    return ask(server, login, "GET", "experiments/get?experiment_id=0").status_code


def new_run(server: TeamServer, login: tuple[str, str] | None = None) -> str:
    run = ask(server, login or server.admin, "POST", "runs/create", experiment_id="0", start_time=1).json()["run"]
    return str(run["info"]["run_id"])


def may_write(server: TeamServer, login: tuple[str, str], run: str) -> int:
    params = [{"key": "lr", "value": "0.1"}]
    return ask(server, login, "POST", "runs/log-batch", run_id=run, params=params).status_code


def set_permission(server: TeamServer, *words: str) -> None:
    done = server.command("set-permission", *words)
    assert done.returncode == 0, done.stderr


def test_a_new_account_may_read_write_and_create(server: TeamServer) -> None:
    login = server.add_user("new")
    assert len(login[1]) >= 16
    assert (may_read(server, login), may_write(server, login, new_run(server, login))) == (200, 200)
    assert ask(server, login, "POST", "experiments/create", name="of new").status_code == 200
    assert ask(server, login, "POST", "registered-models/create", name="of-new").status_code == 200


def test_add_user_prints_what_a_client_needs(server: TeamServer) -> None:
    added = server.command("add-user", "shown").stdout.splitlines()
    assert added[0] == f"export MLFLOW_TRACKING_URI={server.uri}"
    assert added[1] == "export MLFLOW_TRACKING_USERNAME=shown"
    login = ("shown", added[2].removeprefix("export MLFLOW_TRACKING_PASSWORD="))
    assert may_read(server, login) == 200


def test_a_reader_reads_and_neither_writes_nor_creates(server: TeamServer) -> None:
    login = server.add_user("reader", "--reader")
    assert (may_read(server, login), may_write(server, login, new_run(server))) == (200, 403)
    assert ask(server, login, "POST", "runs/create", experiment_id="0").status_code == 403
    assert ask(server, login, "POST", "experiments/create", name="of reader").status_code == 403
    assert ask(server, login, "POST", "registered-models/create", name="of-reader").status_code == 403


def test_a_removed_user_is_locked_out_at_once_and_what_was_logged_stays(server: TeamServer) -> None:
    login = server.add_user("removed")
    run = new_run(server, login)
    assert may_write(server, login, run) == 200  # from now on the login is remembered
    removed = server.command("remove-user", "removed")
    assert (removed.returncode, removed.stderr) == (0, "")
    assert (may_read(server, login), may_write(server, login, run)) == (401, 401)
    found = ask(server, server.admin, "GET", f"runs/get?run_id={run}").json()["run"]
    assert found["data"]["params"] == [{"key": "lr", "value": "0.1"}]


def test_an_account_of_the_same_name_as_a_removed_one_has_no_more_than_a_new_one(server: TeamServer) -> None:
    first = server.add_user("again")
    set_permission(server, "again", "MANAGE")
    assert server.command("remove-user", "again").returncode == 0
    second, run = server.add_user("again", "--reader"), new_run(server)
    assert may_read(server, first) == 401
    assert (may_read(server, second), may_write(server, second, run)) == (200, 403)


def test_a_permission_that_was_taken_away_counts_at_once(server: TeamServer) -> None:
    login = server.add_user("lowered")
    run = new_run(server, login)
    assert may_write(server, login, run) == 200  # from now on the run's experiment is remembered
    set_permission(server, "lowered", "READ")
    assert (may_read(server, login), may_write(server, login, run)) == (200, 403)
    set_permission(server, "lowered", "DENY")
    assert may_read(server, login) == 403
    set_permission(server, "lowered", "EDIT")
    assert may_write(server, login, run) == 200


def test_a_permission_for_one_experiment_or_model_is_for_that_one_only(server: TeamServer) -> None:
    login, run = server.add_user("guest", "--reader"), new_run(server)
    made = ask(server, server.admin, "POST", "experiments/create", name="for guests").json()
    for name in ("for-guests", "not-for-guests"):
        ask(server, server.admin, "POST", "registered-models/create", name=name)
    set_permission(server, "guest", "EDIT", "--experiment", "for guests")
    set_permission(server, "guest", "EDIT", "--model", "for-guests")
    created = ask(server, login, "POST", "runs/create", experiment_id=made["experiment_id"], start_time=1)
    assert (created.status_code, may_write(server, login, run)) == (200, 403)
    statuses = [
        ask(server, login, "POST", "registered-models/set-tag", name=name, key="k", value="v").status_code
        for name in ("for-guests", "not-for-guests")
    ]
    assert statuses == [200, 403]


def test_an_experiment_that_is_denied_cannot_be_read(server: TeamServer) -> None:
    login = server.add_user("kept-out")
    made = ask(server, server.admin, "POST", "experiments/create", name="secret").json()["experiment_id"]
    run = ask(server, server.admin, "POST", "runs/create", experiment_id=made, start_time=1).json()["run"]["info"]
    set_permission(server, "kept-out", "DENY", "--experiment", "secret")
    for path in (f"experiments/get?experiment_id={made}", f"runs/get?run_id={run['run_id']}"):
        assert ask(server, login, "GET", path).status_code == 403
    found = ask(server, login, "POST", "runs/search", experiment_ids=[made])
    assert found.json().get("runs", []) == []
    assert may_read(server, login) == 200


def test_a_new_password_replaces_the_old_one_at_once(server: TeamServer) -> None:
    old = server.add_user("changed")
    assert may_read(server, old) == 200
    done = server.command("set-password", "changed")
    new = ("changed", done.stdout.partition("PASSWORD=")[2].strip())
    assert (may_read(server, old), may_read(server, new)) == (401, 200)


def test_a_password_may_come_from_standard_input_and_is_not_printed(server: TeamServer) -> None:
    added = server.command("add-user", "piped", "--password-stdin", input="correct horse battery\n")
    assert (added.returncode, "correct horse" in added.stdout + added.stderr) == (0, False)
    assert may_read(server, ("piped", "correct horse battery")) == 200
    server.command("set-password", "piped", "--password-stdin", input="staple: ä correct\n")
    assert may_read(server, ("piped", "correct horse battery")) == 401


def test_a_short_password_is_refused_and_no_account_is_made(server: TeamServer) -> None:
    added = server.command("add-user", "careless", "--password-stdin", input="short\n")
    assert added.returncode == 2, added.stdout
    assert "careless" not in server.command("users").stdout


def test_the_administrator_may_change_the_own_password_and_the_commands_go_on(server: TeamServer) -> None:
    before = server.admin
    assert server.command("set-password", "admin").returncode == 0
    assert server.admin != before
    assert (may_read(server, before), may_read(server, server.admin)) == (401, 200)
    assert server.command("users").returncode == 0


def test_the_administrator_cannot_be_removed(server: TeamServer) -> None:
    done = server.command("remove-user", "admin")
    assert (done.returncode, "it stays" in done.stderr) == (2, True)
    assert may_read(server, server.admin) == 200


@pytest.mark.parametrize("name", ["a:b", "a b", "ädä", "", "a/b", "../x", "a\nb", ".ada", "x" * 101, "' OR 1=1 --"])
def test_a_name_that_cannot_be_one_is_refused(server: TeamServer, name: str) -> None:
    done = server.command("add-user", name)
    assert done.returncode == 2
    assert "expected a name of letters" in done.stderr


def test_a_name_that_is_taken_is_refused_without_a_word_of_sql(server: TeamServer) -> None:
    login = server.add_user("taken")
    done = server.command("add-user", "taken")
    assert (done.returncode, done.stdout) == (2, "")
    assert "has an account already" in done.stderr
    assert not any(word in done.stderr for word in ("INSERT", "password_hash", "psycopg2"))
    assert may_read(server, login) == 200


@pytest.mark.parametrize("command", [("remove-user",), ("set-password",), ("set-permission", "READ")])
def test_a_name_without_an_account_is_refused(server: TeamServer, command: tuple[str, ...]) -> None:
    word, *more = command
    done = server.command(word, "nobody", *more)
    assert done.returncode == 2, done.stdout
    assert "nobody" in done.stderr


@pytest.mark.parametrize("option", ["--experiment", "--model"])
def test_a_permission_for_what_is_not_there_is_refused(server: TeamServer, option: str) -> None:
    done = server.command("set-permission", "admin", "READ", option, "no such thing")
    assert done.returncode == 2, done.stdout
    assert "no such thing" in done.stderr


def test_the_list_of_users_has_one_name_a_line(server: TeamServer) -> None:
    server.add_user("listed")
    assert {"admin", "listed"} <= set(server.command("users").stdout.splitlines())
