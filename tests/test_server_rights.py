"""Who may do what on the server for a team: an account writes in what it has made, and reads the rest."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.commands import start
from tests.hostile_requests import API, FILES
from tests.team_server import TeamServer, team_server
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("server_rights")]

API3 = "/api/3.0/mlflow"


@dataclass
class Team:
    """A server with two ordinary accounts and a reader, and what ada has made."""

    server: TeamServer
    logins: dict[str, tuple[str, str]]
    experiment: str = ""
    run: str = ""

    def ask(self, who: str, method: str, path: str, **more: Any) -> requests.Response:
        url = self.server.uri + path.replace("RUN", self.run).replace("EXPERIMENT", self.experiment)
        return requests.request(method, url, auth=self.logins.get(who), timeout=PATIENCE, **more)

    def new_run(self, who: str, experiment: str = "") -> str:
        content = {"experiment_id": experiment or self.experiment, "start_time": 1}
        made = self.ask(who, "POST", f"{API}/runs/create", json=content)
        assert made.ok, made.text
        return str(made.json()["run"]["info"]["run_id"])

    def version(self, who: str, run: str) -> str:
        content = {"name": "model", "source": f"runs:/{run}/model", "run_id": run}
        made = self.ask(who, "POST", f"{API}/model-versions/create", json=content)
        assert made.ok, made.text
        return str(made.json()["model_version"]["version"])

    def grants(self, who: str) -> set[tuple[str, str, str]]:
        found = self.ask("admin", "GET", f"{API3}/users/permissions/list?username={who}").json()["permissions"]
        return {(grant["resource_type"], grant["resource_pattern"], grant["permission"]) for grant in found}


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    with team_server() as server:
        logins = {"ada": server.add_user("ada"), "bob": server.add_user("bob"), "admin": server.admin}
        logins["eve"] = server.add_user("eve", "--reader")
        team = Team(server, logins)
        made = team.ask("ada", "POST", f"{API}/experiments/create", json={"name": "ada's"})
        team.experiment = made.json()["experiment_id"]
        team.run = team.new_run("ada")
        assert team.ask("ada", "PUT", f"{FILES}/EXPERIMENT/RUN/artifacts/report.html", data=b"mine").ok
        assert team.ask("ada", "POST", f"{API}/registered-models/create", json={"name": "model"}).ok
        team.version("ada", team.run)
        yield team


METRIC = {"key": "loss", "value": 9.0, "timestamp": 1, "step": 1}

IN_ANOTHER_S: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", f"{API}/runs/update", {"run_id": "RUN", "status": "FAILED"}),
    ("POST", f"{API}/runs/update", {"run_uuid": "RUN", "status": "FAILED"}),
    ("POST", f"{API}/runs/update", {"runId": "RUN", "status": "FAILED"}),
    ("POST", f"{API}/runs/log-batch", {"run_id": "RUN", "metrics": [METRIC]}),
    ("POST", f"{API}/runs/log-metric", {"run_id": "RUN", **METRIC}),
    ("POST", f"{API}/runs/log-parameter", {"run_id": "RUN", "key": "a", "value": "b"}),
    ("POST", f"{API}/runs/log-inputs", {"run_id": "RUN", "datasets": []}),
    ("POST", f"{API}/runs/log-model", {"run_id": "RUN", "model_json": "{}"}),
    ("POST", f"{API}/runs/outputs", {"run_id": "RUN", "models": []}),
    ("POST", f"{API}/runs/set-tag", {"run_id": "RUN", "key": "mlflow.user", "value": "bob"}),
    ("POST", f"{API}/runs/delete-tag", {"run_id": "RUN", "key": "mlflow.user"}),
    ("POST", f"{API}/runs/delete", {"run_id": "RUN"}),
    ("PUT", f"{FILES}/EXPERIMENT/RUN/artifacts/report.html", {}),
    ("DELETE", f"{FILES}/EXPERIMENT/RUN/artifacts/report.html", {}),
    ("POST", "/ajax-api/2.0/mlflow/upload-artifact?run_uuid=RUN&path=b.txt", {}),
    ("POST", f"{API}/experiments/update", {"experiment_id": "EXPERIMENT", "new_name": "bob's"}),
    ("POST", f"{API}/experiments/delete", {"experiment_id": "EXPERIMENT"}),
    ("POST", f"{API}/experiments/set-experiment-tag", {"experiment_id": "EXPERIMENT", "key": "a", "value": "b"}),
    ("POST", f"{API}/logged-models", {"experiment_id": "EXPERIMENT", "name": "m", "source_run_id": "RUN"}),
    ("POST", f"{API}/registered-models/rename", {"name": "model", "new_name": "other"}),
    ("POST", f"{API}/registered-models/alias", {"name": "model", "alias": "champion", "version": "1"}),
    ("POST", f"{API}/registered-models/set-tag", {"name": "model", "key": "a", "value": "b"}),
    ("PATCH", f"{API}/registered-models/update", {"name": "model", "description": "bob's"}),
    ("DELETE", f"{API}/registered-models/delete", {"name": "model"}),
    ("POST", f"{API}/model-versions/set-tag", {"name": "model", "version": "1", "key": "a", "value": "b"}),
    ("PATCH", f"{API}/model-versions/update", {"name": "model", "version": "1", "description": "bob's"}),
    ("DELETE", f"{API}/model-versions/delete", {"name": "model", "version": "1"}),
]


@pytest.mark.parametrize("request_", IN_ANOTHER_S, ids=lambda request_: f"{request_[0]} {request_[1]} {request_[2]}")
@pytest.mark.parametrize("who", ["bob", "eve"])
def test_nobody_writes_in_what_another_has_made(team: Team, who: str, request_: tuple[str, str, Any]) -> None:
    method, path, content = request_
    text = json.dumps(content).replace("RUN", team.run).replace("EXPERIMENT", team.experiment)
    before = [
        team.ask("admin", "GET", address).json()
        for address in (
            f"{API}/runs/get?run_id=RUN",
            f"{API}/experiments/get?experiment_id=EXPERIMENT",
            f"{API}/registered-models/get?name=model",
            f"{API}/artifacts/list?run_id=RUN",
        )
    ]
    refused = team.ask(who, method, path, data=text, headers={"Content-Type": "application/json"})
    assert refused.status_code == 403, refused.text
    after = [
        team.ask("admin", "GET", address).json()
        for address in (
            f"{API}/runs/get?run_id=RUN",
            f"{API}/experiments/get?experiment_id=EXPERIMENT",
            f"{API}/registered-models/get?name=model",
            f"{API}/artifacts/list?run_id=RUN",
        )
    ]
    assert after == before


@pytest.mark.parametrize("two", [("run_id", "run_uuid"), ("run_id", "runId"), ("run_uuid", "runUuid")])
def test_a_request_that_names_two_runs_is_refused(team: Team, two: tuple[str, str]) -> None:
    own = team.new_run("bob")
    for content in ({two[0]: own, two[1]: team.run}, {two[0]: team.run, two[1]: own}):
        done = team.ask("bob", "POST", f"{API}/runs/set-tag", json={**content, "key": "k", "value": "v"})
        assert done.status_code == 400
    assert "k" not in {tag["key"] for tag in _run(team, team.run)["data"].get("tags", [])}


def test_a_request_that_names_two_logged_models_is_refused(team: Team) -> None:
    models = {}
    for who, run in (("ada", team.run), ("bob", team.new_run("bob"))):
        content = {"experiment_id": team.experiment, "name": "net", "source_run_id": run}
        made = team.ask(who, "POST", f"{API}/logged-models", json=content)
        assert made.ok, made.text
        models[who] = made.json()["model"]["info"]["model_id"]
    own, other = models["bob"], models["ada"]
    for name in ("model_id", "modelId"):
        content = {name: other, "status": "LOGGED_MODEL_UPLOAD_FAILED"}
        assert team.ask("bob", "PATCH", f"{API}/logged-models/{own}", json=content).status_code == 400
        assert team.ask("bob", "PATCH", f"{API}/logged-models/{other}", json=content).status_code == 403
    assert team.ask("bob", "DELETE", f"{API}/logged-models/{other}").status_code == 403
    told = {"model_id": own, "status": "LOGGED_MODEL_READY"}
    assert team.ask("bob", "PATCH", f"{API}/logged-models/{own}", json=told).ok


def _run(team: Team, run: str) -> dict[str, Any]:
    found: dict[str, Any] = team.ask("admin", "GET", f"{API}/runs/get?run_id={run}").json()["run"]
    return found


def test_the_owner_of_a_run_is_who_has_asked_for_it_and_cannot_be_chosen(team: Team) -> None:
    for forged in ({"user_id": "ada#2"}, {"userId": "ada#2"}):
        content = {"experiment_id": "0", "start_time": 1, **forged}
        made = team.ask("bob", "POST", f"{API}/runs/create", json=content).json()["run"]["info"]
        assert made["user_id"].startswith("bob#")


def test_everybody_may_create_runs_in_any_experiment_and_versions_of_any_model(team: Team) -> None:
    run = team.new_run("bob")
    assert team.ask("bob", "POST", f"{API}/runs/log-batch", json={"run_id": run, "metrics": [METRIC]}).ok
    assert team.ask("bob", "PUT", f"{FILES}/EXPERIMENT/{run}/artifacts/a.txt", data=b"bob's").ok
    tag = {"name": "model", "version": team.version("bob", run), "key": "why", "value": "better"}
    assert team.ask("bob", "POST", f"{API}/model-versions/set-tag", json=tag).ok
    assert team.ask("bob", "POST", f"{API}/runs/delete", json={"run_id": run}).ok
    assert team.ask("eve", "POST", f"{API}/runs/create", json={"experiment_id": "0"}).status_code == 403


def test_who_looks_after_an_experiment_or_was_given_it_writes_in_its_runs(team: Team) -> None:
    run = team.new_run("bob")
    tag = {"run_id": run, "key": "seen", "value": "yes"}
    assert team.ask("ada", "POST", f"{API}/runs/set-tag", json=tag).ok
    carol = team.logins["carol"] = team.server.add_user("carol")
    assert team.ask("carol", "POST", f"{API}/runs/set-tag", json=tag).status_code == 403
    assert team.server.command("set-permission", carol[0], "EDIT", "--experiment", "ada's").returncode == 0
    assert team.ask("carol", "POST", f"{API}/runs/set-tag", json=tag).ok


def test_an_account_of_the_same_name_as_a_removed_one_owns_nothing_of_it(team: Team) -> None:
    team.logins["dan"] = team.server.add_user("dan")
    run = team.new_run("dan")
    team.server.command("remove-user", "dan")
    team.logins["dan"] = team.server.add_user("dan")
    tag = {"run_id": run, "key": "k", "value": "v"}
    assert team.ask("dan", "POST", f"{API}/runs/set-tag", json=tag).status_code == 403


def test_no_registered_model_has_the_name_that_stands_for_all_of_them(team: Team) -> None:
    before = team.grants("bob")
    made = team.ask("bob", "POST", f"{API}/registered-models/create", json={"name": "*"})
    assert made.status_code == 400
    assert team.ask("bob", "POST", f"{API}/registered-models/create", json={"name": "bobs"}).ok
    for content in ({"name": "bobs", "new_name": "*"}, {"name": "bobs", "newName": "*"}):
        assert team.ask("bob", "POST", f"{API}/registered-models/rename", json=content).status_code == 400
    assert team.ask("bob", "DELETE", f"{API}/registered-models/delete", json={"name": "*"}).status_code == 400
    assert team.grants("bob") - before == {("registered_model", "bobs", "MANAGE")}
    assert team.ask("ada", "GET", f"{API}/registered-models/get?name=model").ok


def test_lowering_an_account_lowers_it_everywhere(team: Team) -> None:
    team.logins["frank"] = team.server.add_user("frank")
    made = team.ask("frank", "POST", f"{API}/experiments/create", json={"name": "frank's"}).json()["experiment_id"]
    run = team.new_run("frank", made)
    assert team.ask("frank", "POST", f"{API}/registered-models/create", json={"name": "franks"}).ok
    assert team.server.command("set-permission", "frank", "READ").returncode == 0
    tag = {"key": "k", "value": "v"}
    for path, content in (
        ("runs/set-tag", {"run_id": run}),
        ("experiments/set-experiment-tag", {"experiment_id": made}),
        ("registered-models/set-tag", {"name": "franks"}),
    ):
        assert team.ask("frank", "POST", f"{API}/{path}", json={**content, **tag}).status_code == 403
    assert team.ask("frank", "GET", f"{API}/runs/get?run_id={run}").ok


def test_only_an_administrator_gives_permissions(team: Team) -> None:
    grant = {"username": "eve", "resource_type": "experiment", "resource_id": team.experiment, "permission": "MANAGE"}
    assert team.ask("ada", "POST", f"{API3}/users/permissions/grant", json=grant).status_code == 403
    assert team.ask("eve", "POST", f"{API}/runs/create", json={"experiment_id": team.experiment}).status_code == 403
    for path in (f"{API}/users/list", f"{API}/users/get?username=ada", f"{API3}/users/permissions/list?username=ada"):
        assert team.ask("ada", "GET", path).status_code == 403


@pytest.mark.parametrize("name", ["ADMIN", "Admin", "ADA"])
def test_no_account_is_called_like_another_in_other_letters(team: Team, name: str) -> None:
    done = team.server.command("add-user", name)
    assert (done.returncode, done.stdout) == (2, "")
    assert "has an account already" in done.stderr


def test_an_old_password_never_works_again_however_it_is_tried_meanwhile(team: Team) -> None:
    for number in range(6):
        old = team.server.add_user(f"changing{number}")
        url = f"{team.server.uri}{API}/users/current"
        headers = {"X-Forwarded-For": f"192.0.2.{number}"}
        asked = partial(requests.get, url, auth=old, headers=headers, timeout=PATIENCE)
        threads = _at_once(asked)
        changed = team.server.command("set-password", old[0])
        for thread in threads:
            thread.join()
        assert changed.returncode == 0
        assert asked().status_code in (401, 429)  # too many wrong ones make it wait


def _at_once(action: Callable[[], object]) -> list[threading.Thread]:
    threads = [threading.Thread(target=lambda: [action() for _ in range(5)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    return threads


CLOSED = [
    ("POST", "/ajax-api/3.0/mlflow/demo/generate"),
    ("POST", "/ajax-api/3.0/mlflow/demo/delete"),
    ("POST", "/ajax-api/3.0/mlflow/scorer/invoke"),
    ("POST", "/ajax-api/3.0/mlflow/genai/evaluate/invoke"),
    ("POST", "/ajax-api/3.0/mlflow/issues/invoke"),
    ("GET", "/api/3.0/mlflow/label-schemas?experiment_id=0"),
    ("POST", "/api/2.0/mlflow/traces"),
    ("POST", "/api/3.0/mlflow/traces"),
    ("PATCH", "/api/2.0/mlflow/traces/tr-1/tags"),
    ("GET", "/ajax-api/2.0/mlflow/get-trace-artifact?request_id=tr-1"),
    ("POST", "/api/2.0/mlflow/traces/delete-traces"),
    ("POST", "/api/3.0/mlflow/datasets/create"),
    ("POST", "/api/2.0/mlflow/some/route/of/the/next/version"),
]


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_what_is_not_in_the_table_is_closed_to_everybody(team: Team, method: str, path: str) -> None:
    for who in ("admin", "ada", "eve"):
        assert team.ask(who, method, path, json={}).status_code == 403
    assert team.ask("nobody", method, path, json={}).status_code == 401


def test_a_page_of_another_site_reads_nothing_even_on_this_machine(team: Team) -> None:
    for origin in ("http://localhost:1", "http://127.0.0.1:8080", "null", "https://evil.example"):
        told = team.ask("ada", "GET", f"{API}/runs/get?run_id=RUN", headers={"Origin": origin})
        assert not [name for name in told.headers if name.lower().startswith("access-control")]
        asked = {"Origin": origin, "Access-Control-Request-Method": "GET"}
        told = team.ask("ada", "OPTIONS", f"{API}/runs/get?run_id=RUN", headers=asked)
        assert told.status_code == 403
        assert not [name for name in told.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": "Bearer abc"}, {"Authorization": 'Digest username="ada"'}, {"Authorization": "Basic"},
     {"Authorization": "Basic YQ=="}, {"Authorization": "Basic ////"}, {"X-MLFLOW-WORKSPACE": "../x"}],
)  # fmt: skip
def test_a_strange_login_is_none_and_no_failure_of_the_server(team: Team, headers: dict[str, str]) -> None:
    for path in (f"{API}/users/current", f"{FILES}/EXPERIMENT/RUN/artifacts/report.html", "/graphql"):
        assert team.ask("nobody", "GET", path, headers=headers).status_code == 401
    assert team.ask("ada", "GET", f"{API}/users/current", headers={"X-MLFLOW-WORKSPACE": "../x"}).ok


def test_no_answer_holds_a_statement_to_the_database(team: Team) -> None:
    too_long = {"name": "x" * 1000}
    for path, content in (
        ("registered-models/create", too_long),
        ("experiments/create", {"name": "y" * 2000}),
        ("runs/create", {"experiment_id": "9" * 30}),
        ("runs/set-tag", {"run_id": team.run, "key": "a\0b", "value": "v"}),
        ("runs/search", {"experiment_ids": ["0"], "filter": "params.`a\0` = 'b'"}),
    ):
        refused = team.ask("ada", "POST", f"{API}/{path}", json=content)
        assert 400 <= refused.status_code < 500, refused.text
        assert not any(word in refused.text for word in ("INSERT", "SELECT", "psycopg2", "sqlalche.me")), refused.text


def test_what_is_there_already_is_called_so_without_a_statement(team: Team) -> None:
    for path, name in (("experiments/create", "ada's"), ("registered-models/create", "model")):
        refused = team.ask("bob", "POST", f"{API}/{path}", json={"name": name})
        assert refused.json()["error_code"] == "RESOURCE_ALREADY_EXISTS"
        assert not any(word in refused.text for word in ("INSERT", "psycopg2"))


def test_artifacts_of_what_does_not_exist_are_neither_written_nor_read(team: Team) -> None:
    for place in (f"999/{team.run}/artifacts/a", "999/a", f"EXPERIMENT/{'0' * 32}/artifacts/a", "a.txt", "EXPERIMENT"):
        for method in ("GET", "PUT", "DELETE"):
            assert team.ask("ada", method, f"{FILES}/{place}").status_code == 404
    assert not (team.server.folder / "artifacts" / "999").exists()


SMALL = "--train-samples 200 --validation-samples 100 --epochs 1 --lr 0.01 --batch-size 100 --shuffle true"


def sweep(team: Team, who: str, folder: Path, *words: str) -> Any:
    name, password = team.logins[who]
    login = {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password}
    options = [*SMALL.split(), "--report", "false", "--delivery-timeout", f"{PATIENCE:.0f}", *words]
    command = (sys.executable, "-m", "sweeptrail", "sweep", *options)
    return start(*command, cwd=folder, **login, MLFLOW_TRACKING_URI=team.server.uri)


def test_a_sweep_that_may_not_move_the_alias_says_so_and_ends_well(team: Team, tmp_path: Path) -> None:
    (tmp_path / "ada").mkdir()
    (tmp_path / "bob").mkdir()
    first = sweep(team, "ada", tmp_path / "ada", "--register", "shared", "--lr", "0.0000001")
    assert first.returncode == 0, first.stderr
    model = team.ask("ada", "GET", f"{API}/registered-models/get?name=shared").json()["registered_model"]
    assert model["aliases"] == [{"alias": "champion", "version": "1"}]
    second = sweep(team, "bob", tmp_path / "bob", "--register", "shared")
    assert second.returncode == 0, second.stderr
    assert "may not move the alias champion" in second.stderr
    found = team.ask("ada", "GET", f"{API}/model-versions/search").json()["model_versions"]
    assert {version["version"] for version in found if version["name"] == "shared"} == {"1", "2"}
    model = team.ask("ada", "GET", f"{API}/registered-models/get?name=shared").json()["registered_model"]
    assert model["aliases"] == [{"alias": "champion", "version": "1"}]


def test_with_shared_write_accounts_write_in_each_other_s_runs_and_readers_do_not(team: Team) -> None:
    team.server.stop()
    team.server.start("--shared-write")
    tag = {"run_id": team.run, "key": "shared", "value": "yes"}
    assert team.ask("bob", "POST", f"{API}/runs/set-tag", json=tag).ok
    assert team.ask("bob", "PUT", f"{FILES}/EXPERIMENT/RUN/artifacts/bob.txt", data=b"bob's").ok
    alias = {"name": "model", "alias": "champion", "version": "1"}
    assert team.ask("bob", "POST", f"{API}/registered-models/alias", json=alias).ok
    assert team.ask("eve", "POST", f"{API}/runs/set-tag", json=tag).status_code == 403
