"""The files for running the server behind nginx, as a service of systemd and in containers."""

import configparser
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
import requests
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from sweeptrail.cli import main
from tests.commands import ROOT, SMALL, start
from tests.server import free_port
from tests.team_server import team_server
from tests.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.slow

DEPLOY = ROOT / "docs" / "deploy"
NAME = "mlflow.example.org"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


@contextmanager
def nginx(folder: Path, port: int, server_port: int) -> Iterator[Path]:
    """Run nginx with our configuration, its ports and certificate changed; yield the certificate, which it signed."""
    certificate, key = folder / "certificate.pem", folder / "certificate.key"
    names = f"subjectAltName=DNS:{NAME},DNS:localhost,IP:127.0.0.1"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={NAME} -addext {names}"
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*shlex.split(command), *files], check=True, capture_output=True)
    ours = (DEPLOY / "nginx.conf").read_text()
    ours = ours.replace("/etc/ssl/certs/mlflow.example.org.pem", str(certificate))
    ours = ours.replace("/etc/ssl/private/mlflow.example.org.key", str(key))
    ours = re.sub(r"listen (?:\[::\]:)?443 ssl;", f"listen 127.0.0.1:{port} ssl;", ours, count=1)
    ours = re.sub(r"listen (?:\[::\]:)?80;", f"listen 127.0.0.1:{free_port()};", ours, count=1)
    ours = re.sub(r"listen \[::\]:\d+.*;\n", "", ours).replace(f"server_name {NAME};", f"server_name {NAME} localhost;")
    (folder / "site.conf").write_text(ours.replace("127.0.0.1:5000", f"127.0.0.1:{server_port}"))
    places = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off;\n{places}include {folder}/site.conf; }}\n"
    )
    process = subprocess.Popen(["nginx", "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")])
    try:
        wait_for(lambda: (folder / "nginx.pid").exists() or process.poll() is not None)
        assert process.poll() is None, (folder / "error.log").read_text()
        yield certificate
    finally:
        process.terminate()
        process.wait(PATIENCE)


def test_behind_nginx_with_tls_a_sweep_is_delivered_and_only_the_named_host_is_answered(tmp_path: Path) -> None:
    port = free_port()
    with (
        team_server("--allowed-hosts", f"{NAME},{NAME}:{port},localhost:{port}") as server,
        nginx(tmp_path, port, server.port) as certificate,
    ):
        user, password = server.add_user("ada")
        uri = f"https://localhost:{port}"
        experiments = f"{uri}/api/2.0/mlflow/experiments/get?experiment_id=0"
        with requests.Session() as ada:
            ada.auth, ada.verify = (user, password), str(certificate)
            ada.trust_env = False  # else a variable says which certificates are trusted
            for host, expected in ((NAME, 200), (f"{NAME}:{port}", 200), ("evil.example", 403)):
                reply = ada.get(experiments, headers={"Host": host}, timeout=PATIENCE)
                assert reply.status_code == expected, (host, reply.text)
            create = f"{uri}/api/2.0/mlflow/experiments/create"
            for origin, expected in (("https://evil.example", 403), (f"https://{NAME}:{port}", 200)):
                changing = {"Host": f"{NAME}:{port}", "Origin": origin}
                reply = ada.post(create, json={"name": "x"}, headers=changing, timeout=PATIENCE)
                assert reply.status_code == expected, (origin, reply.text)
        nobody = requests.get(experiments, headers={"Host": NAME}, verify=str(certificate), timeout=PATIENCE)
        assert nobody.status_code == 401

        words = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", value)]
        swept = start(
            sys.executable, "-m", "sweeptrail", "sweep", *words, "--lr", "0.01", cwd=tmp_path,
            MLFLOW_TRACKING_URI=uri, MLFLOW_TRACKING_USERNAME=user, MLFLOW_TRACKING_PASSWORD=password,
            MLFLOW_TRACKING_SERVER_CERT_PATH=str(certificate),
        )  # fmt: skip
        assert swept.returncode == 0, swept.stderr
        assert {run.info.status for run in _runs(server.uri, user, password)} == {"FINISHED"}


def _runs(uri: str, user: str, password: str) -> list[Run]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", user)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", password)
        found = list(MlflowClient(uri).search_runs(["0"]))
    assert len(found) == 5
    return found


def understood(words: list[str]) -> bool:
    """Tell whether our own command line takes these words."""
    context: click.Context = click.Context(main)
    command: click.Command = main
    while isinstance(command, click.Group):
        name, *words = words
        found = command.get_command(context, name)
        assert found, f"{name} is no command"
        command = found
    command.make_context(command.name, list(words))
    return True


def test_the_service_of_systemd_starts_a_command_that_there_is() -> None:
    service = configparser.ConfigParser(strict=False, interpolation=None)
    service.optionxform = str  # type: ignore[assignment,method-assign]  # as configparser documents it
    service.read(DEPLOY / "sweeptrail.service")
    program, *words = shlex.split(service["Service"]["ExecStart"])
    assert program.endswith("/sweeptrail")
    assert understood(words)
    assert service["Service"]["KillMode"] == "mixed"  # the database has to outlive MLflow
    assert service["Service"]["User"] != "root"


def test_compose_starts_a_command_that_there_is_with_files_that_there_are() -> None:
    server = COMPOSE["services"]["server"]
    assert understood(["server", *server["command"]])
    build = server["build"]
    root = (DEPLOY / build["context"]).resolve()
    assert root == ROOT
    assert (root / build["dockerfile"]).is_file()
    mounted = {volume.partition(":")[0] for service in COMPOSE["services"].values() for volume in service["volumes"]}
    assert (DEPLOY / "nginx.conf").is_file()
    assert mounted - {"./nginx.conf"} >= set(COMPOSE["volumes"])
    copied = re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE)
    assert all((ROOT / name).exists() for line in copied for name in line.split())


def test_compose_holds_no_password_and_opens_no_port_but_those_of_nginx() -> None:
    services = COMPOSE["services"]
    assert [name for name, service in services.items() if "ports" in service] == ["nginx"]
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            assert "PASSWORD" not in name or value.startswith("${DATABASE_PASSWORD:?")
    assert "PASSWORD" not in " ".join(services["server"]["command"])
