"""MLflow's own server, as a team needs it: with logins, one process, no jobs, artifacts through the server."""

import configparser
import os
import sys
import urllib.error
import urllib.request

from sweeptrail.server.app.address import Address
from sweeptrail.server.folder import ADMIN, ServerFolder

MODEL_SOURCES = r"\A(runs|models|mlflow-artifacts):/[^/]"
"""Where a registered model may come from: MLflow reads any other place, such as a bucket, with the server's rights."""

AUDIT_LOG, SHARED_WRITE = "SWEEPTRAIL_AUDIT_LOG", "SWEEPTRAIL_SHARED_WRITE"
"""Variables by which the server's process learns where its audit log is, and whether everybody writes everywhere."""


def command(address: Address) -> list[str]:
    """Return the words that start MLflow; every process list shows them, so that none of them is a secret."""
    return [sys.executable, "-m", "sweeptrail.server.app.main", address.host, str(address.port)]


def environment(
    folder: ServerFolder, address: Address, database_url: str, *, shared_write: bool = False
) -> dict[str, str]:
    """Return the environment of MLflow's server: ours, without what is meant for a client."""
    secrets, configuration = folder.secrets(), folder.configuration()
    config = folder.path / "basic_auth.ini"
    write_auth_config(config, database_url)
    inherited = {name: value for name, value in os.environ.items() if not is_for_clients(name)}
    return {
        **inherited,
        "MLFLOW_BACKEND_STORE_URI": database_url,
        "MLFLOW_ARTIFACTS_DESTINATION": configuration.artifacts or folder.artifacts.as_uri(),
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
        AUDIT_LOG: str(folder.audit_log),
        SHARED_WRITE: "true" if shared_write else "false",
    }


def is_for_clients(name: str) -> bool:
    """Tell whether a variable tells a client of MLflow something, which would confuse a server."""
    return name.startswith(("MLFLOW_", "_MLFLOW_")) and not name.startswith(("MLFLOW_S3_", "MLFLOW_BOTO_"))


def write_auth_config(path: os.PathLike[str], database_url: str) -> None:
    """Write how MLflow checks logins.

    Who has an account sees everything, and changes what they were allowed to. The front has checked the password.
    """
    config = configparser.ConfigParser(interpolation=None)
    config["mlflow"] = {
        "default_permission": "READ",
        "database_uri": database_url,
        "admin_username": ADMIN,
        "authorization_function": "sweeptrail.server.front.identity:authorization",
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
