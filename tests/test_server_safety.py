"""What the server for a team refuses, and what it keeps to itself."""

import base64
import gzip
import http.client
import json
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import sqlalchemy
from sqlalchemy.pool import NullPool

from tests.commands import program
from tests.hostile_requests import API, FILES, FOR_THE_PATCHES, HOSTILE, JSON, NEW, Hostile
from tests.team_server import TeamServer, team_server
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("server_safety")]

TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
CANARY = b"only the server's owner may read this"


WHO = ("ada", "eve", "admin")
"""Who has an account."""


@dataclass(frozen=True)
class Scene:
    """A server with two users, and something of ada's on it."""

    server: TeamServer
    logins: dict[str, tuple[str, str]]
    experiment: str
    run: str
    database: sqlalchemy.Engine

    def filled(self, text: str) -> str:
        """Put in what is known of this server only."""
        folder = str(self.server.folder.parent)
        for name, value in (("EXPERIMENT", self.experiment), ("RUN", self.run), ("FOLDER", folder)):
            text = text.replace(name, value)
        return text

    def ask(self, who: str, method: str, path: str, **more: Any) -> requests.Response:
        return requests.request(method, self.server.uri + path, auth=self.logins[who], timeout=PATIENCE, **more)

    def snapshot(self) -> dict[str, Any]:
        """Return all that a request could have changed: every row of the database, every file."""
        with self.database.connect() as connection:
            tables = connection.scalars(sqlalchemy.text(TABLES)).all()
            digest = "SELECT '{0}', md5(string_agg(row::text, ' ' ORDER BY row::text)) FROM {0} AS row"
            every = " UNION ALL ".join(digest.format(table) for table in tables)
            rows = {row[0]: row[1] for row in connection.execute(sqlalchemy.text(every))}
        return rows | {str(path): path.lstat().st_mtime_ns for path in self.files()}

    def files(self) -> list[Path]:
        """Return all files but the database's and the logs, which grow by themselves."""
        outside = ("postgresql", "logs", "programs")
        folder = self.server.folder
        inside = [path for part in folder.iterdir() if part.name not in outside for path in (part, *part.rglob("*"))]
        return [path for path in (*inside, *folder.parent.iterdir()) if path != folder and not path.is_dir()]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with team_server() as server:
        logins = {"ada": server.add_user("ada"), "eve": server.add_user("eve", "--reader"), "admin": server.admin}
        logins |= {"removed": server.add_user("removed"), "wrong password": ("ada", "x"), "no password": ("ada", "")}
        logins |= {"nobody": ("nobody", "x"), "SQL": ("ada' OR '1'='1", "x")}
        server.command("remove-user", "removed")
        database = _engine(server)
        yield _with_content(Scene(server, logins, "", "", database))
        database.dispose()


def _engine(server: TeamServer) -> sqlalchemy.Engine:
    password = json.loads((server.folder / "secrets.json").read_text())["database_password"]
    return sqlalchemy.create_engine(_database_url(server, "mlflow", password))


def _with_content(scene: Scene) -> Scene:
    for who in WHO:  # their passwords are known from now on, when many wrong ones make others wait
        assert scene.ask(who, "GET", f"{API}/users/current").ok
    made = scene.ask("ada", "POST", f"{API}/experiments/create", json={"name": "work"}).json()
    run = {"experiment_id": made["experiment_id"], "start_time": 1}
    info = scene.ask("ada", "POST", f"{API}/runs/create", json=run).json()["run"]["info"]
    scene = Scene(scene.server, scene.logins, made["experiment_id"], info["run_id"], scene.database)
    place = f"{scene.experiment}/{scene.run}/artifacts"
    assert scene.ask("ada", "PUT", f"{FILES}/{place}/a.txt", data=b"hello").ok
    assert scene.ask("ada", "POST", f"{API}/registered-models/create", json={"name": "model"}).ok
    version = {"name": "model", "source": info["artifact_uri"], "run_id": scene.run}
    assert scene.ask("ada", "POST", f"{API}/model-versions/create", json=version).ok
    # No system's file is the target of what might be written or deleted here.
    canary = scene.server.folder.parent / "canary" / "canary.txt"
    canary.parent.mkdir()
    canary.write_bytes(CANARY)
    folder = scene.server.folder / "artifacts" / place
    (folder / "folder-link").symlink_to(canary.parent)
    (folder / "file-link").symlink_to(canary)
    return scene


def _name(request: Hostile) -> str:
    who, method, path, body, headers = request
    extra = " ".join(value for name, value in headers.items() if name in ("Host", "Origin"))
    return f"{who or 'no login'} {method} {path[:80]} {body[:70].decode('ascii', 'replace')} {extra}".strip()


def _status(scene: Scene, request: Hostile) -> int:
    who, method, path, body, headers = request
    connection = http.client.HTTPConnection("127.0.0.1", scene.server.port, timeout=PATIENCE)
    connection.putrequest(method, scene.filled(path), skip_host="Host" in headers, skip_accept_encoding=True)
    if who:
        connection.putheader("Authorization", _basic(*scene.logins[who]))
    for name, value in headers.items():
        connection.putheader(name, value)
    body = body if len(body) > 1000 else scene.filled(body.decode("latin-1")).encode("latin-1")
    connection.putheader("Content-Length", str(len(body)))
    try:
        connection.endheaders()
        with suppress(BrokenPipeError, ConnectionResetError):  # it has been refused before it was read
            connection.send(body)
        reply = connection.getresponse()
        assert CANARY not in reply.read()
        return reply.status
    finally:
        connection.close()


def _basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


@pytest.mark.parametrize("request_", [pytest.param(request, id=_name(request)) for request in HOSTILE])
def test_a_hostile_request_is_refused_and_changes_nothing(scene: Scene, request_: Hostile) -> None:
    before = scene.snapshot()
    status = _status(scene, request_)
    assert 400 <= status < 500
    assert request_[0] not in WHO or status not in (401, 429)
    assert scene.snapshot() == before


@pytest.mark.parametrize(
    "text",
    [
        b"POST /api/2.0/mlflow/runs/create HTTP/1.1\r\nHost: HOST\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST /api/2.0/mlflow/runs/create HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /api/2.0/mlflow/runs/create HTTP/1.1\r\nHost: HOST\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: HOST\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: HOST\r\nX-One: a\rX-Two: b\r\n\r\n",
        b"GET /\r\nX-One: a HTTP/1.1\r\nHost: HOST\r\n\r\n",
        b"GET /%0d%0aX-One:%20a HTTP/1.1\r\nHost: HOST\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: HOST\r\nX-One: " + b"a" * 200_000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_proper_request_is_refused_and_changes_nothing(scene: Scene, text: bytes) -> None:
    before = scene.snapshot()
    with socket.create_connection(("127.0.0.1", scene.server.port), 60) as connection:
        connection.sendall(text.replace(b"HOST", f"127.0.0.1:{scene.server.port}".encode()))
        answer = connection.recv(1000)
    assert answer.startswith(b"HTTP/1.1 4")
    assert b"X-One" not in answer
    assert scene.snapshot() == before


def test_who_may_reads_and_writes(scene: Scene) -> None:
    for who in WHO:
        assert scene.ask(who, "GET", f"{FILES}/{scene.experiment}/{scene.run}/artifacts/a.txt").content == b"hello"
        assert scene.ask(who, "GET", "/").ok
        assert scene.ask(who, "POST", "/graphql", json={"query": "{__typename}"}).ok
    own = {"Origin": scene.server.uri}
    tag = {"run_id": scene.run, "key": "mood", "value": "good"}
    assert scene.ask("ada", "POST", f"{API}/runs/set-tag", json=tag, headers=own).ok
    file = f"{FILES}/{scene.experiment}/{scene.run}/artifacts/large.bin"
    assert scene.ask("ada", "PUT", file, data=bytes(20 << 20)).ok  # larger than any other request may be


def test_the_files_with_secrets_are_readable_by_their_owner_only(scene: Scene) -> None:
    folder = scene.server.folder
    for name in ("secrets.json", "basic_auth.ini"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    for name in ("artifacts", "backups", "logs", "postgresql"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o700


def test_the_server_and_its_database_listen_on_the_loopback_only(scene: Scene) -> None:
    services = scene.server.state()["services"]
    assert set(services) == {"database", "tracking server"}
    for service in services.values():
        listening = [
            found.laddr.ip
            for found in psutil.Process(service["pid"]).net_connections()
            if found.status == psutil.CONN_LISTEN
        ]
        assert listening == ["127.0.0.1"]


def _database_url(server: TeamServer, role: str, password: str) -> sqlalchemy.URL:
    url = sqlalchemy.make_url(server.state()["database_url"])
    return url.set(username=role, password=password, drivername="postgresql+psycopg2")


def _can_log_in(url: sqlalchemy.URL) -> bool:
    try:
        with sqlalchemy.create_engine(url, poolclass=NullPool).connect():
            return True
    except sqlalchemy.exc.OperationalError:
        return False


def test_the_database_wants_its_password_and_knows_no_other_role_name_or_address(scene: Scene) -> None:
    password = json.loads((scene.server.folder / "secrets.json").read_text())["database_password"]
    server = scene.server
    right = _database_url(server, "mlflow", password)
    assert _can_log_in(right)
    assert not _can_log_in(_database_url(server, "mlflow", "x"))
    assert not _can_log_in(_database_url(server, "mlflow", server.admin[1]))
    assert not _can_log_in(_database_url(server, "postgres", password))
    assert not _can_log_in(right.set(database="postgres"))
    assert not _can_log_in(right.set(host="127.0.0.2"))


def test_a_second_server_in_the_same_folder_is_refused(scene: Scene) -> None:
    done = scene.server.command("start", "--background", "--port", "1")
    assert (done.returncode, "running here already" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "--allowed-hosts"),
        (["--host", "0.0.0.0", "--allowed-hosts", "*"], "--allowed-hosts"),
        (["--database-url", "postgresql://ada:topsecret@127.0.0.1/mlflow"], "holds a password"),
        (["--artifacts", "s3://key:topsecret@bucket/path"], "holds credentials"),
    ],
)
def test_a_start_that_would_not_be_safe_is_refused(tmp_path: Path, options: list[str], said: str) -> None:
    done = TeamServer(tmp_path / "server").command("start", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "topsecret" not in done.stderr
    assert not (tmp_path / "server" / "secrets.json").exists()


def test_a_sweep_with_a_login_works_and_leaves_no_secret_anywhere(scene: Scene, tmp_path: Path) -> None:
    server, (name, password) = scene.server, scene.logins["ada"]
    login = {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password}
    where = {**login, "MLFLOW_TRACKING_URI": server.uri}
    small = "--train-samples 200 --validation-samples 100 --epochs 1 --lr 0.01 --batch-size 100 --shuffle true"
    small += f" --report false --delivery-timeout {PATIENCE:.0f}"
    done = program("sweep", *small.split(), cwd=tmp_path, **where)
    assert done.returncode == 0, done.stderr
    [folder] = [path for path in (tmp_path / "runs").iterdir() if path.is_dir()]
    found = scene.ask("admin", "POST", f"{API}/runs/search", json={"experiment_ids": ["0"]}).json()["runs"]
    assert [run["info"]["status"] for run in found] == ["FINISHED"] * 2
    [parent] = [run for run in found if "mlflow.parentRunId" not in {tag["key"] for tag in run["data"]["tags"]}]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    compare = ("compare", parent["info"]["run_id"], "--tracking-uri", server.uri)
    table = program(*compare, cwd=elsewhere, **login)
    assert (table.returncode, "validation accuracy" in table.stdout) == (0, True), table.stderr
    picture = elsewhere / "picture.gz"
    picture.write_bytes(gzip.compress(struct.pack(">4I", 0x803, 1, 28, 28) + bytes(784)))
    said = program("predict", "models:/fashion-mnist@champion", str(picture), cwd=elsewhere, **where)
    assert said.returncode == 0, said.stderr

    scene.ask("wrong password", "GET", "/")
    kept = json.loads((server.folder / "secrets.json").read_text())
    secrets = [password, scene.logins["eve"][1], *kept.values()]
    secrets += [base64.b64encode(f"{name}:{password}".encode()).decode(), base64.b64encode(password.encode()).decode()]
    shown = [json.dumps(found), *(" ".join(_command_line(process)) for process in psutil.process_iter())]
    shown += [done.stdout, done.stderr, table.stdout, table.stderr, said.stdout, said.stderr]
    assert not [text[:200] for text in shown for secret in secrets if secret in text]
    server.stop()
    written = [path for root in (server.folder, tmp_path) for path in root.rglob("*") if path.is_file()]
    assert {folder / "results.csv", server.folder / "logs" / "mlflow.log"} <= set(written)
    holding = [path for path in written if any(secret.encode() in path.read_bytes() for secret in secrets)]
    assert holding == [server.folder / "secrets.json"]


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:  # it has ended meanwhile
        return []


@pytest.fixture(scope="module")
def printed(scene: Scene) -> str:
    """Start the server a second time, for others and without assertions; return what was printed."""
    scene.server.stop()
    options = ["--host", "0.0.0.0", "--allowed-hosts", "mlflow.example.org"]
    started = scene.server.start(*options, PYTHONOPTIMIZE="1")
    return started.stdout + started.stderr


@pytest.fixture(scope="module")
def again(scene: Scene, printed: str) -> Iterator[Scene]:
    """The scene after the second start, whose database is at another port."""
    database = _engine(scene.server)
    yield replace(scene, database=database)
    database.dispose()


def test_the_second_start_prints_no_password(scene: Scene, printed: str) -> None:
    assert scene.server.admin[1] not in printed
    assert scene.server.admin == scene.logins["admin"]


def test_others_reach_the_server_by_the_name_that_was_allowed(again: Scene) -> None:
    path = f"{API}/runs/get?run_id=RUN"
    for host, status in (
        ("mlflow.example.org", 200),
        (f"mlflow.example.org:{again.server.port}", 200),
        ("evil.example", 403),
        ("0.0.0.0", 403),
        (socket.gethostname(), 403),
    ):
        assert _status(again, ("ada", "GET", path, b"", {"Host": host})) == status
    evil = {**JSON, "Host": "mlflow.example.org", "Origin": "https://evil.example"}
    assert _status(again, ("ada", "POST", f"{API}/experiments/create", NEW, evil)) == 403


@pytest.mark.parametrize("request_", [pytest.param(request, id=_name(request)) for request in FOR_THE_PATCHES])
def test_without_assertions_it_refuses_too_what_mlflow_would_do(again: Scene, request_: Hostile) -> None:
    tracking = psutil.Process(again.server.state()["services"]["tracking server"]["pid"])
    assert tracking.environ()["PYTHONOPTIMIZE"] == "1"
    before = again.snapshot()
    status = _status(again, request_)
    assert 400 <= status < 500
    assert again.snapshot() == before


def test_without_assertions_too_clients_are_handed_no_address(again: Scene) -> None:
    told = again.ask("ada", "GET", "/api/3.0/mlflow/server-info").json()
    assert not any(value for name, value in told.items() if "multipart" in name), told
