"""What is open on the server for a team, and to whom: the page in docs/, and every route of MLflow asked by each."""

from collections.abc import Iterator

import pytest
import requests

from sweeptrail.server.front.routes import READS, ROUTES, Right, find
from tests import server_routes
from tests.team_server import TeamServer, team_server
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("server_routes")]


@pytest.fixture(scope="module")
def server() -> Iterator[TeamServer]:
    with team_server() as server:
        yield server


def test_the_page_says_what_the_table_says() -> None:
    assert server_routes.PAGE.read_text() == server_routes.page(), (
        "python -m tests.server_routes > docs/server-routes.md"
    )


def test_each_row_of_the_table_is_a_route_that_mlflow_has() -> None:
    there = {(method, server_routes.canonical(path)) for method, path in server_routes.every_route()}
    ours = {(route.method, route.path.replace("<tag>", "<id>")) for route in ROUTES}
    assert ours - there <= {("GET", "/favicon.ico"), ("POST", "/api/2.0/mlflow/experiments/search-datasets")}


def test_every_route_of_mlflow_is_open_to_those_and_only_those_whom_the_table_names(server: TeamServer) -> None:
    logins = {"ada": server.add_user("ada"), "eve": server.add_user("eve", "--reader"), "admin": server.admin, "": None}
    wrong = []
    with requests.Session() as session:
        session.trust_env = False
        for method, path in server_routes.every_route():
            address = server_routes.example(server_routes.canonical(path))
            found = find(method, address)
            for who, login in logins.items():
                reply = session.request(method, server.uri + address, auth=login, json={}, timeout=PATIENCE)
                is_closed = reply.status_code == 403 and "closed on this server" in reply.text
                if not who:
                    # An open route takes no body.
                    is_right = reply.status_code == (400 if found and found[0].right is Right.OPEN else 401)
                elif not found:
                    is_right = is_closed
                elif found[0].right is Right.ADMIN and who != "admin":
                    is_right = reply.status_code == 403
                else:
                    is_right = not is_closed and (who != "eve" or found[0].right in READS or not reply.ok)
                if not is_right:
                    wrong.append((who, method, address, reply.status_code))
    assert wrong == []
