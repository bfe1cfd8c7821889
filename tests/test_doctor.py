"""The doctor: what is wrong is named, with its cure, in one line; what it never does is fail, or tell a secret."""

import datetime
import ipaddress
import socket
import sqlite3
import ssl
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import sweeptrail.doctor.access
from sweeptrail.cli.doctor import doctor
from sweeptrail.doctor import examine
from sweeptrail.doctor.findings import Finding
from sweeptrail.doctor.here import look_at_data, look_at_disk, look_at_records, room
from sweeptrail.doctor.packages import look_at_packages
from sweeptrail.doctor.tracking import look_at_tracking
from sweeptrail.fashion_mnist import data
from sweeptrail.outbox.sweep_folder import Description
from tests.commands import environment, new_store, start
from tests.server import Server, free_port, process_group
from tests.small_sweep import files_below, write_sweep
from tests.waiting import PATIENCE, wait_for

ADMIN, PASSWORD = "admin", "administrator-1"
DEFAULT = {"username": "ada", "resource_type": "experiment", "resource_id": "0"}
"""What a permission of ada's on MLflow's default experiment is named by."""

PROGRAM = "from sweeptrail.cli import main; main()"


@pytest.fixture(autouse=True)
def _nobodys_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep away the account and the proxies of whoever runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")


@contextmanager
def answering(
    status: int = 200, body: str = "3.17.2", cert: Path | None = None, **headers: str
) -> Iterator[ThreadingHTTPServer]:
    """Answer each request alike, over TLS if there is a certificate."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name is http.server's
            self.send_response_only(status)
            for name, value in {"Date": formatdate(usegmt=True), "Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that does not trust the certificate hangs up."""

    server = Quiet(("127.0.0.1", 0), Handler)
    if cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def address(server: ThreadingHTTPServer, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{server.server_address[1]}"


def certificate(folder: Path, host: str) -> Path:
    """Make a certificate that nobody has signed, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + made.public_bytes(serialization.Encoding.PEM)
    path = folder / f"{host}.pem"
    path.write_bytes(pem)
    return path


def tracking(uri: str, environ: Mapping[str, str] | None = None) -> dict[str, Finding]:
    return {finding.what: finding for finding in look_at_tracking(uri, environ or {})}


def login(name: str, password: str) -> dict[str, str]:
    return {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password}


@pytest.fixture
def server(tracking: Server) -> Server:
    return tracking


def test_where_all_is_well_every_line_is_ok_and_nothing_is_left_behind(server: Server, tmp_path: Path) -> None:
    (here := tmp_path / "here").mkdir()
    done = start(sys.executable, "-c", PROGRAM, "doctor", "--tracking-uri", server.uri, cwd=here)
    new = tracking(server.uri, {"MLFLOW_EXPERIMENT_NAME": "new"})["experiment"]
    absent = tracking(server.uri, {"MLFLOW_EXPERIMENT_ID": "777777"})["experiment"]
    old = ask(server.uri, "POST", "2.0/mlflow/experiments/create", name="old").json()
    ask(server.uri, "POST", "2.0/mlflow/experiments/delete", experiment_id=old["experiment_id"])
    deleted = tracking(server.uri, {"MLFLOW_EXPERIMENT_NAME": "old"})["experiment"]
    marks = {line.split()[1]: line.split()[0] for line in done.stdout.splitlines()}
    assert marks.pop("data") in ("ok", "warning")  # the data are not on every machine
    server_lines = ("tracking", "clock", "versions", "login", "experiment")
    assert marks == dict.fromkeys(("packages", *server_lines, "disk", "records", "outbox"), "ok"), done.stdout
    assert (done.returncode, done.stderr) == (0, "")
    assert list(here.iterdir()) == []
    assert new == Finding("ok", "experiment", "new is made by the first sweep")
    assert (absent.mark, "id=777777" in absent.found) == ("problem", True)
    assert (deleted.mark, f"restore -x {old['experiment_id']}" in deleted.todo) == ("problem", True)


@pytest.mark.slow
def test_a_login_that_is_missing_wrong_or_not_enough_is_told_with_its_cure(tmp_path: Path) -> None:
    with server_with_logins(tmp_path) as uri:
        ask(uri, "POST", "2.0/mlflow/users/create", username="ada", password="password-of-ada")
        seen = {
            "none": tracking(uri),
            "half": tracking(uri, {"MLFLOW_TRACKING_USERNAME": "ada"}),
            "wrong": tracking(uri, login("ada", "password-of-eve")),
            "token": tracking(uri, {"MLFLOW_TRACKING_TOKEN": "nonsense"}),
            "reader": tracking(uri, login("ada", "password-of-ada")),
            "admin": tracking(uri, login(ADMIN, PASSWORD)),
        }
        ask(uri, "POST", "3.0/mlflow/users/permissions/grant", permission="EDIT", **DEFAULT)
        write_credentials(tmp_path, "ada", "password-of-ada")
        seen["writer"] = tracking(uri)
        ask(uri, "POST", "3.0/mlflow/users/permissions/revoke", **DEFAULT)  # a second grant would be refused
        ask(uri, "POST", "3.0/mlflow/users/permissions/grant", permission="DENY", **DEFAULT)
        seen["denied"] = tracking(uri)
        found = ask(uri, "POST", "2.0/mlflow/runs/search", experiment_ids=["0"]).json()
    assert "runs" not in found
    for case, words in {
        "none": "asks for a login, and there is none",
        "half": "the password of the account is missing",
        "wrong": "refuses the password of ada",
        "token": "refuses MLFLOW_TRACKING_TOKEN",
    }.items():
        assert seen[case]["tracking"].mark == "ok"
        assert (seen[case]["login"].mark, words in seen[case]["login"].found) == ("problem", True), case
        assert "MLFLOW_TRACKING_PASSWORD" in seen[case]["login"].todo
        assert "experiment" not in seen[case]
    cure = "ask the administrator for: sweeptrail server set-permission ada EDIT"
    for case in ("reader", "denied"):
        assert (seen[case]["login"].mark, seen[case]["experiment"].mark) == ("ok", "problem")
        assert seen[case]["experiment"].todo == cure
    assert "READ on Default" in seen["reader"]["experiment"].found
    for case in ("writer", "admin"):
        assert {finding.mark for finding in seen[case].values()} == {"ok"}


@contextmanager
def server_with_logins(folder: Path) -> Iterator[str]:
    """Run MLflow's own server with logins, where an account that was given nothing may read."""
    uri = f"http://127.0.0.1:{(port := free_port())}"
    (config := folder / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/auth.db\nadmin_username = {ADMIN}\n"
    )
    secrets = environment(
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
        MLFLOW_FLASK_SERVER_SECRET_KEY="secret-of-the-tests",
        MLFLOW_AUTH_ADMIN_PASSWORD=PASSWORD,
        MLFLOW_AUTH_CONFIG_PATH=str(config),
    )
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--workers", "1"]
    where = ["--port", str(port), "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    with process_group(*command, *where, cwd=folder, env=secrets) as process:
        wait_for(lambda: process.poll() is not None or tracking(uri)["tracking"].mark == "ok")
        assert process.poll() is None, process.communicate()
        yield uri


def ask(uri: str, method: str, path: str, **content: object) -> requests.Response:
    reply = requests.request(method, f"{uri}/api/{path}", json=content, auth=(ADMIN, PASSWORD), timeout=PATIENCE)
    reply.raise_for_status()
    return reply


def write_credentials(home: Path, username: str, password: str) -> None:
    (home / ".mlflow").mkdir()
    text = f"[mlflow]\nmlflow_tracking_username = {username}\nmlflow_tracking_password = {password}\n"
    (home / ".mlflow" / "credentials").write_text(text)


@pytest.mark.parametrize(("ahead", "words"), [(-3600, "ahead of"), (3600, "behind")])
def test_a_clock_that_is_off_is_a_problem(ahead: float, words: str) -> None:
    with answering(Date=formatdate(time.time() + ahead, usegmt=True)) as server:
        clock = tracking(address(server))["clock"]
    assert (clock.mark, words in clock.found) == ("problem", True)
    assert "timedatectl" in clock.todo


def test_a_clock_that_is_nearly_right_is_ok() -> None:
    with answering(Date=formatdate(time.time() + 30, usegmt=True)) as server:
        assert tracking(address(server))["clock"].mark == "ok"


@pytest.mark.parametrize(
    ("version", "mark", "words"),
    [
        ("2.22.0", "problem", "needed"),
        ("4.0.0", "problem", "needed"),
        ("3.13.0", "warning", "may not know"),
        ("3.999.0", "ok", "3.999.0 on the server"),
        ("hello", "problem", "expected MLflow's version"),
    ],
)
def test_versions_that_do_not_fit_are_told(version: str, mark: str, words: str) -> None:
    with answering(body=version) as server:
        versions = tracking(address(server))["versions"]
    assert (versions.mark, words in versions.found) == (mark, True)


@pytest.mark.parametrize(
    ("status", "body", "headers", "found", "todo"),
    [
        (301, "", {"Location": "https://mlflow.example.org/version"}, "HTTP 301", "https://mlflow.example.org"),
        (403, "Invalid Host header", {}, "HTTP 403 Forbidden: Invalid Host header", "--allowed-hosts"),
        (404, "<html>a page</html>", {}, "HTTP 404 Not Found", "correct the address"),
        (502, "bad gateway", {}, "HTTP 502 Bad Gateway", "logs"),
    ],
)
def test_an_answer_that_is_not_mlflows_is_told_by_its_status(
    status: int, body: str, headers: dict[str, str], found: str, todo: str
) -> None:
    with answering(status, body, None, **headers) as server:
        seen = tracking(address(server))
    assert list(seen) == ["tracking"], "what follows from it would be noise"
    assert seen["tracking"].mark == "problem"
    assert found in seen["tracking"].found
    assert todo in seen["tracking"].todo


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("http://nobody.invalid:5000", "name lookup"),
        ("http://127.0.0.1:{free}", "connection refused"),
        ("http://127.0.0.1:{hanging}", "timeout: no answer"),
        ("https://127.0.0.1:{plain}", "TLS"),
        ("http://", "this is no address"),
    ],
)
def test_a_server_that_cannot_be_reached_is_told_once_and_why(
    uri: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeptrail.doctor.access, "PATIENCE", 1.0)
    with closing(socket.create_server(("127.0.0.1", 0))) as hanging, answering() as plain:
        ports = {"free": free_port(), "hanging": hanging.getsockname()[1], "plain": plain.server_address[1]}
        seen = tracking(uri.format(**ports))
    assert list(seen) == ["tracking"]
    assert (seen["tracking"].mark, found in seen["tracking"].found) == ("problem", True), seen
    assert seen["tracking"].todo


def test_a_proxy_that_passes_nothing_on_is_told_apart_from_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    seen = tracking("http://mlflow.example.org")["tracking"]
    assert (seen.mark, "the proxy does not pass it on" in seen.found, "NO_PROXY" in seen.todo) == (
        "problem",
        True,
        True,
    )


@pytest.mark.slow
def test_an_answer_that_trickles_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeptrail.doctor.access, "PATIENCE", 0.2)
    stop = threading.Event()

    def trickle(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while not stop.wait(0.05):
                connection.sendall(b".")

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=trickle, args=(listener,))
        thread.start()
        seen = tracking(f"http://127.0.0.1:{listener.getsockname()[1]}")
        stop.set()
        thread.join()
    assert "timeout: no answer" in seen["tracking"].found


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, "TLS"),
        ({"MLFLOW_TRACKING_SERVER_CERT_PATH": "{cert}"}, "answers"),
        ({"MLFLOW_TRACKING_INSECURE_TLS": "true"}, "answers"),
        ({"MLFLOW_TRACKING_INSECURE_TLS": "true", "MLFLOW_TRACKING_SERVER_CERT_PATH": "{cert}"}, "takes only one"),
        ({"MLFLOW_TRACKING_SERVER_CERT_PATH": "no/such/file"}, "no/such/file"),
    ],
)
def test_a_certificate_is_trusted_as_mlflow_trusts_it(variables: dict[str, str], found: str, tmp_path: Path) -> None:
    cert = certificate(tmp_path, "127.0.0.1")
    with answering(cert=cert) as server:
        seen = tracking(address(server, "https"), {name: value.format(cert=cert) for name, value in variables.items()})
    assert (seen["tracking"].mark == "ok", found in seen["tracking"].found) == (found == "answers", True), seen


def test_a_certificate_for_another_name_is_told_as_such(tmp_path: Path) -> None:
    cert = certificate(tmp_path, "127.0.0.2")
    with answering(cert=cert) as server:
        seen = tracking(address(server, "https"), {"MLFLOW_TRACKING_SERVER_CERT_PATH": str(cert)})
    assert "127.0.0.1" in seen["tracking"].found
    assert "name that the certificate is for" in seen["tracking"].todo


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "uri"),
    [
        ("uri", "http://ada:s%33cret-word@127.0.0.1:{port}"),
        ("uri", "ftp://ada:s3cret-word@127.0.0.1:{port}"),
        ("uri", "http://ada:s3cret-word/s3cret-word@127.0.0.1:{port}"),
        ("environment", "http://127.0.0.1:{port}"),
        ("token", "http://127.0.0.1:{port}"),
        ("file", "http://127.0.0.1:{port}"),
        ("damaged file", "http://127.0.0.1:{port}"),
    ],
)
@pytest.mark.parametrize("status", [200, 401, 500])
def test_no_line_tells_a_secret_even_if_the_server_does(place: str, uri: str, status: int, tmp_path: Path) -> None:
    secret = "s3cret-word"
    variables = {"environment": login("ada", secret), "token": {"MLFLOW_TRACKING_TOKEN": secret}}.get(place, {})
    if "file" in place:
        write_credentials(tmp_path, "ada", f"%{secret}" if place == "damaged file" else secret)
    with answering(status, body=f"{secret} {uri}") as server:
        options = ["--tracking-uri", uri.format(port=server.server_address[1]), "--runs-dir", str(tmp_path / "runs")]
        done = CliRunner().invoke(doctor, options, env=variables)
    assert done.exit_code == 1, done.output
    assert "problem" in done.output
    assert secret not in done.output
    assert "s%33cret" not in done.output


def test_what_a_server_sends_cannot_command_the_terminal(tmp_path: Path) -> None:
    with answering(500, body="\x1b]0;owned\x07\nproblem  everything") as server:
        lines = [
            f"{finding.found}{finding.todo}" for finding in examine(address(server), tmp_path / "runs", "auto", {})
        ]
    assert any("HTTP 500" in line for line in lines)
    assert all(line.isprintable() for line in lines)


def test_a_credentials_file_that_mlflow_cannot_read_is_told(tmp_path: Path) -> None:
    write_credentials(tmp_path, "ada", "100%secret")
    assert tracking("http://127.0.0.1:1") == {
        "login": Finding(
            "problem",
            "login",
            "~/.mlflow/credentials cannot be read (InterpolationSyntaxError)",
            "write [mlflow], mlflow_tracking_username = NAME, mlflow_tracking_password = PASSWORD; a % as %%",
        )
    }


@pytest.mark.slow
def test_an_sqlite_store_that_takes_changes_is_ok_and_stays_as_it_was(tmp_path: Path) -> None:
    uri = new_store(tmp_path)
    before = files_below(tmp_path)
    assert tracking(uri) == {"tracking": Finding("ok", "tracking", f"{tmp_path}/mlflow.db can be written")}
    assert files_below(tmp_path) == before


@pytest.mark.slow
def test_an_sqlite_store_of_another_mlflow_is_a_problem(tmp_path: Path) -> None:
    uri = new_store(tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store, store:
        store.execute("UPDATE alembic_version SET version_num = 'of_the_future'")
    seen = tracking(uri)["tracking"]
    assert (seen.mark, "schema" in seen.found, "mlflow db upgrade" in seen.todo) == ("problem", True, True)


def test_an_sqlite_store_that_is_locked_or_damaged_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeptrail.doctor.access, "PATIENCE", 0.1)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as store:
        store.execute("BEGIN EXCLUSIVE")
        assert "locked" in tracking(uri)["tracking"].found
    (tmp_path / "mlflow.db").write_text("no database at all" * 100)
    assert "not a database" in tracking(uri)["tracking"].found


def test_packages_that_are_missing_or_too_old_are_told_with_the_command_that_installs_them() -> None:
    [seen] = look_at_packages(["pytest>=1000", "no-such-package>=1", "click>=8"])
    assert seen.mark == "problem"
    assert f"pytest {pytest.__version__} (needed: >=1000), no-such-package is missing" in seen.found
    assert seen.todo == f"{sys.executable} -m pip install 'pytest>=1000' 'no-such-package>=1'"


def test_data_that_are_missing_are_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data, "DEBIAN", tmp_path / "nowhere")
    [missing] = look_at_data("")
    assert (missing.mark, "--data-dir" in missing.todo) == ("warning", True)
    assert list(tmp_path.iterdir()) == []


def test_data_that_are_damaged_or_not_where_they_should_be_are_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (folder := Path("data") / data.TORCHVISION).mkdir(parents=True)
    (folder / "train-labels-idx1-ubyte").write_bytes(b"half a fi")
    for data_dir in ("", str(folder), "nowhere"):
        [seen] = look_at_data(data_dir)
        assert (seen.mark, bool(seen.todo)) == ("problem", True)


def test_a_runs_folder_that_cannot_be_made_is_a_problem_and_one_that_can_is_not_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    [seen] = look_at_disk(tmp_path / "file" / "runs")
    assert (seen.mark, seen.todo) == ("problem", "give --runs-dir a folder of yours")
    [seen] = look_at_disk(tmp_path / "new" / "runs")
    assert seen.mark != "problem"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_little_room_is_a_warning() -> None:
    assert room(Path("runs"), 10**9 - 1).mark == "warning"
    assert room(Path("runs"), 10**9) == Finding("ok", "disk", "1.0 GB free for runs")


def test_records_that_wait_are_told_with_the_command_that_sends_them(tmp_path: Path) -> None:
    for name in ("sweep-1", "sweep-2"):
        (tmp_path / name).mkdir()
        write_sweep(tmp_path / name)
        Description(name, 0.0, f"sqlite:///{tmp_path}/mlflow.db", {}, []).write(tmp_path / name)
    (tmp_path / "sweep-0").mkdir()
    (tmp_path / "sweep-0" / "sweep.json").write_text("half a fi")
    damaged, waiting = look_at_records(tmp_path)
    assert (damaged.mark, "sweep-0" in damaged.found) == ("problem", True)
    assert (waiting.mark, "of 2 sweeps wait" in waiting.found) == ("warning", True)
    assert waiting.todo == f"sweeptrail sync {tmp_path}"


def test_where_everything_is_broken_every_line_still_comes_and_the_exit_code_is_1(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").mkdir()
    (tmp_path / "runs").touch()
    broken = ["--tracking-uri", "http://[::1", "--runs-dir", "runs/below", "--data-dir", "nowhere"]
    done = start(sys.executable, "-c", PROGRAM, "doctor", *broken, cwd=tmp_path)
    marks = {line.split()[1]: line.split()[0] for line in done.stdout.splitlines()}
    assert list(marks) == ["packages", "tracking", "data", "disk", "records", "outbox"]
    assert {marks[what] for what in ("tracking", "data", "disk")} == {"problem"}
    assert (done.returncode, done.stderr) == (1, "")
