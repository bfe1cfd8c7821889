"""The folder where a team's server keeps everything, and what each file in it is called."""

import json
import os
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit

from sweeptrail.errors import ServerError, UsageError
from sweeptrail.system.files import write_whole
from sweeptrail.system.locks import is_locked

ADMIN = "admin"
DATABASE = "mlflow"
"""The name of PostgreSQL's role and of its database, where we bring our own."""


@dataclass(frozen=True)
class Configuration:
    """What a server keeps from its first start on, since its runs would be gone with another choice."""

    database_url: str = ""
    """The team's own PostgreSQL, without a password; empty for the one that we bring."""
    artifacts: str = ""
    """Where MLflow keeps artifacts; empty for the folder `artifacts`."""


@dataclass(frozen=True)
class Secrets:
    """What nobody but the owner of the folder may know."""

    admin_password: str
    flask_secret_key: str
    kek_passphrase: str
    """What MLflow encrypts the credentials with that its users store on it."""
    database_password: str

    @classmethod
    def new(cls) -> Self:
        return cls(*(secrets.token_urlsafe(24) for _ in range(4)))


@dataclass(frozen=True)
class ServerFolder:
    """The folder of one server."""

    path: Path

    @classmethod
    def named(cls, path: Path | None) -> Self:
        """Return the folder given, or the usual one."""
        return cls((path or usual_folder()).expanduser().absolute())

    @property
    def database(self) -> Path:
        return self.path / "postgresql"

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts"

    @property
    def backups(self) -> Path:
        return self.path / "backups"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def log(self) -> Path:
        return self.logs / "server.log"

    @property
    def audit_log(self) -> Path:
        """Who did what, from where, when."""
        return self.logs / "audit.log"

    @property
    def lock(self) -> Path:
        """Held by the process that looks after the server and its database."""
        return self.path / "lock"

    @property
    def running(self) -> Path:
        """What that process says of itself, as JSON."""
        return self.path / "running.json"

    @property
    def served(self) -> Path:
        """Which version of MLflow has answered here last, as JSON."""
        return self.path / "served.json"

    @property
    def exists(self) -> bool:
        """Whether a server was ever started here."""
        return self._secrets.exists()

    @property
    def is_running(self) -> bool:
        return is_locked(self.lock)

    def make(self) -> None:
        """Make the folder, for its owner alone. Raises ServerError if that cannot be done."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # PostgreSQL refuses to run as root: its own account must be able to pass through.
            self.path.chmod(0o711 if os.geteuid() == 0 else 0o700)
            for folder in (self.artifacts, self.backups, self.logs):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ServerError(
                f"{self.path}: expected a folder that can be written, got: {error.strerror}; "
                "write --folder and a folder of yours"
            ) from error

    def configured(self, asked: Configuration) -> Configuration:
        """Return the server's configuration, which is what is asked for at its first start.

        Raises UsageError if something else is asked for than what it was started with.
        """
        if not self._configuration.exists():
            write_json(self._configuration, asdict(asked))
            return asked
        kept = self.configuration()
        differs = [
            f"{name}: this server keeps its data in {of_kept or 'its own folder'}, asked for {of_asked}; "
            "leave the option out, or write another --folder"
            for name, of_kept, of_asked in (
                ("--database-url", kept.database_url, asked.database_url),
                ("--artifacts", kept.artifacts, asked.artifacts),
            )
            if of_asked and of_asked != of_kept
        ]
        if differs:
            raise UsageError(differs)
        return kept

    def configuration(self) -> Configuration:
        """Return what the server was first started with. Raises ServerError when no server was started here."""
        return Configuration(**self._read(self._configuration))

    @property
    def _configuration(self) -> Path:
        return self.path / "kept.json"

    @property
    def _secrets(self) -> Path:
        return self.path / "secrets.json"

    def secrets(self) -> Secrets:
        """Return the passwords and keys. Raises ServerError when no server was started here."""
        return Secrets(**self._read(self._secrets))

    def _read(self, path: Path) -> dict[str, str]:
        try:
            content: dict[str, str] = json.loads(path.read_text())
        except FileNotFoundError:
            raise ServerError(
                f"{self.path}: no server was started here; write --folder, or sweeptrail server start"
            ) from None
        except (OSError, ValueError) as error:
            raise ServerError(f"{path}: cannot be read: {error}") from error
        return content

    def keep_secrets(self, kept: Secrets) -> None:
        write_json(self._secrets, asdict(kept))

    def with_admin_password(self, password: str) -> None:
        self.keep_secrets(replace(self.secrets(), admin_password=password))

    def write_log(self, line: str) -> None:
        """Append to the server's log; a folder that is gone or full is no reason to stop."""
        with suppress(OSError), open(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a") as file:
            file.write(line + "\n")

    def state(self) -> dict[str, Any]:
        """Return what the running server says of itself. Raises ServerError when none is running."""
        if self.is_running:
            try:
                state: dict[str, Any] = json.loads(self.running.read_text())
            except (OSError, ValueError):
                raise ServerError(f"{self.path}: the server is just starting; try again in a moment") from None
            return state
        raise ServerError(f"{self.path}: no server is running here; start it with sweeptrail server start")


def usual_folder() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/sweeptrail")
    data_home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data_home) / "sweeptrail" / "server"


def read_json(path: Path) -> dict[str, Any]:
    """Return what a JSON file holds, nothing if it is not there or not whole."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all, readable by its owner only."""
    write_whole(path, json.dumps(content, indent=2), mode=0o600)


def checked_artifacts(uri: str) -> str:
    """Return the address of an object store, or nothing. Raises UsageError for what is none."""
    parts = urlsplit(uri)
    if uri and (not parts.scheme or not parts.netloc or parts.scheme in ("file", "http", "https")):
        raise UsageError(f"--artifacts: expected an object store, got {shown(uri)}; write s3://BUCKET/PATH")
    if parts.password or parts.query:
        raise UsageError(
            "--artifacts: holds credentials, which everybody on this machine could read; "
            "put them into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return uri.rstrip("/")


def checked_database_url(url: str) -> str:
    """Return the address of a PostgreSQL database, or nothing.

    Raises UsageError for any other kind, and for one with a password in it.
    """
    if not url:
        return ""
    parts = urlsplit(url)
    scheme = parts.scheme.partition("+")[0]
    if scheme not in ("postgresql", "postgres") or not parts.path.strip("/"):
        raise UsageError(
            f"--database-url: expected a PostgreSQL database, got {shown(url)}; write postgresql://USER@HOST/DATABASE"
        )
    if parts.password:
        raise UsageError(
            "--database-url: holds a password, which everybody on this machine could read; "
            "leave it out and put it into PGPASSWORD or ~/.pgpass"
        )
    return parts._replace(scheme="postgresql").geturl()


def shown(url: str) -> str:
    """Return an address as it may be shown and logged."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts.password else url


def own_database_url(port: int) -> str:
    """Return the address of the database that we bring, without its password."""
    return f"postgresql://{quote(DATABASE)}@127.0.0.1:{port}/{quote(DATABASE)}"
