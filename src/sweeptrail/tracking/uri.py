"""Which tracking server a sweep reports to, read from the environment once."""

import os
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sweeptrail.errors import TrackingError

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
PREFIX = "sweeptrail+"
"""Of an address by which anybody's MLflow code writes through the outbox of this machine; a sweep has its own."""

SERVERS = ("http", "https", "databricks")


@dataclass(frozen=True)
class Tracking:
    """A tracking server, and where on it a sweep belongs."""

    uri: str
    experiment: Mapping[str, str] = field(default_factory=dict)
    """The `id` or the `name` of the experiment; MLflow's default one when neither is given."""
    adopt: str = ""
    """The id of an MLflow run that is open already and becomes the parent."""
    adopted_closes_itself: bool = False
    """Whoever opened the adopted run will close it."""

    def experiment_entry(self) -> dict[str, str]:
        """Return what the journal must say of the experiment: its name, or its id on this server."""
        server = {"uri": without_credentials(self.uri)} if "id" in self.experiment else {}
        return {**self.experiment, **server}

    def adopt_entry(self) -> dict[str, str]:
        """Return what the journal must say of the adopted run, if there is one."""
        return {"uri": without_credentials(self.uri), "run_id": self.adopt} if self.adopt else {}

    @property
    def database(self) -> Path | None:
        """The file of an SQLite store."""
        return sqlite_file(self.uri) if self.uri.startswith("sqlite") else None

    @classmethod
    def from_environment(
        cls, environ: MutableMapping[str, str] = os.environ, *, uri: str = "", experiment: str = ""
    ) -> "Tracking":
        """Return what MLflow's own variables and the active MLflow run of this process say.

        A URI or the name of an experiment given here goes before them. `MLFLOW_RUN_ID` is removed:
        any process that inherited it would resume that run as its own.
        Raises TrackingError if the URI cannot be used.
        """
        run_id = environ.pop("MLFLOW_RUN_ID", "")
        mlflow = sys.modules.get("mlflow")  # a script that never imported it has no active run
        active = mlflow.active_run() if mlflow and not run_id else None
        uri = uri or (mlflow.get_tracking_uri() if mlflow else environ.get("MLFLOW_TRACKING_URI", ""))
        found = {"name": experiment or environ.get("MLFLOW_EXPERIMENT_NAME", "")}
        if not experiment and (experiment_id := environ.get("MLFLOW_EXPERIMENT_ID")):
            found = {"id": experiment_id}
        return cls(
            uri=usable_uri(uri or "sqlite:///mlflow.db"),
            experiment=found,
            adopt=active.info.run_id if active else run_id,
            adopted_closes_itself=active is not None,
        )


def usable_uri(uri: str) -> str:
    """Return the tracking URI, with the path of an SQLite file made absolute.

    Raises TrackingError for a scheme that MLflow has not, for its retired file store, and for an
    SQLite file in a folder that is not there or cannot be written.
    """
    uri = uri.removeprefix(PREFIX)
    scheme, separator, _ = uri.partition(":")
    database = scheme.partition("+")[0]
    if scheme in SERVERS or (separator and database in DATABASES[1:]):
        return uri
    if database != "sqlite":
        what = "MLflow has retired its file store" if not separator or scheme == "file" else f"{scheme!r} is unknown"
        raise TrackingError(
            f"tracking_uri: expected a server or a database, got {uri!r} ({what}); "
            "write sqlite:///mlflow.db or http://HOST:5000"
        )
    file = sqlite_file(uri)
    if file is None:
        raise TrackingError(f"tracking_uri: expected a file after sqlite:///, got {uri!r}; write sqlite:///mlflow.db")
    if not os.access(file if file.exists() else file.parent, os.W_OK) or file.is_dir():
        raise TrackingError(f"tracking_uri: {file} cannot be written; write sqlite:/// and a file in a folder of yours")
    # Only these two mean something else to SQLAlchemy; MLflow takes the other letters as they are.
    path = str(file).replace("%", "%25").replace("?", "%3F")
    return f"{scheme}:///{path}"


def sqlite_file(uri: str) -> Path | None:
    """Return the file that an SQLite URI names, None for one that lives in memory."""
    path = unquote(uri.partition(":///")[2].partition("?")[0])
    return Path(path).absolute() if path and path != ":memory:" else None


def without_credentials(uri: str) -> str:
    """Return the URI without the user and password that it may hold."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return uri.replace(parts.netloc, parts.netloc.rpartition("@")[2], 1)
