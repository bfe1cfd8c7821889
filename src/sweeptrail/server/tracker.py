"""MLflow's own server, as a team needs it: with logins, one process, no jobs, artifacts through the server."""

import configparser
import ipaddress
import os
import socket
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass

from sweeptrail.errors import UsageError
from sweeptrail.server.place import ADMIN, Kept, Place, Secrets

MODEL_SOURCES = r"\A(runs|models|mlflow-artifacts):/[^/]"
"""Where a registered model may come from: MLflow reads any other place, such as a bucket, with the server's rights."""

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class Address:
    """Where the server listens, and by which names its clients may call it."""

    host: str = "127.0.0.1"
    port: int = 5000
    allowed_hosts: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise UsageError if others could reach the server and its names are not known, or the port is taken."""
        problems = []
        if not 1 <= self.port <= 65535:
            problems.append(f"--port: expected 1 to 65535, got {self.port}")
        if not is_loopback(self.host) and not self.allowed_hosts:
            problems.append(
                f"--host {self.host}: others can reach the server there; name what they call it by: "
                "--allowed-hosts mlflow.example.org (several separated by commas)"
            )
        problems += [
            f"--allowed-hosts: expected names such as mlflow.example.org, got {name!r}"
            for name in self.allowed_hosts
            if not name or set(name) & set("*?[]/@ ")
        ]
        if problems:
            raise UsageError(problems)
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            with socket.socket(family) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((self.host, self.port))
        except OSError as error:
            raise UsageError(
                f"--host {self.host} --port {self.port}: cannot listen there ({error.strerror}); write another --port"
            ) from error

    @property
    def uri(self) -> str:
        """What clients on this machine call the server by."""
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
        host = everywhere.get(self.host, f"[{self.host}]" if ":" in self.host else self.host)
        return f"http://{host}:{self.port}"

    @property
    def names(self) -> list[str]:
        """What a request may name as its host, with the port and, behind a proxy, without."""
        known = dict.fromkeys([*LOOPBACK, self.uri.removeprefix("http://").rpartition(":")[0], *self.allowed_hosts])
        return [form for name in known for form in (name, f"{name}:{self.port}")]

    @property
    def origins(self) -> list[str]:
        """Which pages may change something: the server's own."""
        return [f"{scheme}://{name}" for name in self.names for scheme in ("http", "https")]


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def command(address: Address) -> list[str]:
    """Return the words that start MLflow; every process list shows them, so that none of them is a secret."""
    return [sys.executable, "-m", "sweeptrail.server.app", address.host, str(address.port)]


def environment(place: Place, address: Address, secrets: Secrets, kept: Kept, database_url: str) -> dict[str, str]:
    """Return the environment of MLflow's server: ours, without what is meant for a client."""
    config = place.folder / "basic_auth.ini"
    write_auth_config(config, database_url)
    inherited = {name: value for name, value in os.environ.items() if not is_for_clients(name)}
    return {
        **inherited,
        "MLFLOW_BACKEND_STORE_URI": database_url,
        "MLFLOW_ARTIFACTS_DESTINATION": kept.artifacts or place.artifacts.as_uri(),
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(address.names),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(address.origins),
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
        "MLFLOW_AUTH_ADMIN_PASSWORD": secrets.admin_password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.flask_secret_key,
        "MLFLOW_CRYPTO_KEK_PASSPHRASE": secrets.kek_passphrase,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX": MODEL_SOURCES,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "20",
        "PYTHONUNBUFFERED": "1",
    }


def is_for_clients(name: str) -> bool:
    """Tell whether a variable tells a client of MLflow something, which would confuse a server."""
    return name.startswith(("MLFLOW_", "_MLFLOW_")) and not name.startswith(("MLFLOW_S3_", "MLFLOW_BOTO_"))


def write_auth_config(path: os.PathLike[str], database_url: str) -> None:
    """Write how MLflow checks logins.

    Who has an account sees everything, and changes what they were allowed to. Without the cache each request
    would hash the password anew; with one process nobody sees a password that was changed a minute ago.
    """
    config = configparser.ConfigParser(interpolation=None)
    config["mlflow"] = {
        "default_permission": "READ",
        "database_uri": database_url,
        "admin_username": ADMIN,
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
        "auth_cache_ttl_seconds": "60",
    }
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        config.write(file)


def answers(uri: str) -> bool:
    """Tell whether the server answers."""
    return answer(uri) == "ok"


def answer(uri: str) -> str:
    """Return `ok`, or in a few words what is wrong."""
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=5) as reply:
            return "ok" if reply.status == 200 else f"HTTP {reply.status}"
    except (urllib.error.URLError, OSError) as error:
        return str(getattr(error, "reason", error))
