"""A tracking server, asked as MLflow's client asks it, but once and not for long."""

import base64
import configparser
import threading
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from requests import Response

PATIENCE = 5.0
"""Seconds to wait for one answer."""

CREDENTIALS = Path("~/.mlflow/credentials")
"""Where MLflow's client looks for what the environment does not say."""


@dataclass(frozen=True)
class Access:
    """How MLflow's client shows itself to a server, and what it asks of the server."""

    username: str
    password: str
    token: str
    verify: bool | str
    """Whether the server's certificate is checked, or the file with the certificates that are trusted."""
    certificate: str | None
    """The file with the client's own certificate."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Access":
        """Return what MLflow would use. Raises OSError, ValueError or configparser.Error for a file it cannot read."""
        file = configparser.ConfigParser()
        if (path := CREDENTIALS.expanduser()).exists():
            file.read_string(path.read_text())
        username, password = (
            environ.get(name) or str(file.get("mlflow", name.lower(), fallback=""))
            for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
        )
        return cls(
            username,
            password,
            environ.get("MLFLOW_TRACKING_TOKEN", ""),
            environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or not is_careless(environ),
            environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH"),
        )

    @property
    def headers(self) -> dict[str, str]:
        if self.username and self.password:
            return {"Authorization": f"Basic {base64.b64encode(f'{self.username}:{self.password}'.encode()).decode()}"}
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


def is_careless(environ: Mapping[str, str]) -> bool:
    """Tell whether any certificate is to be believed."""
    return environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1")


@dataclass(frozen=True)
class Server:
    """A tracking server and how we show ourselves to it."""

    uri: str
    access: Access

    def get(self, path: str, **params: str) -> "Response":
        """Return its answer, whatever that says; raises OSError when there is none."""
        import requests

        def ask() -> "Response":
            with warnings.catch_warnings(action="ignore"):  # who does not check certificates knows it
                return requests.get(
                    f"{self.uri.rstrip('/')}/{path}",
                    params=params,
                    headers=self.access.headers,
                    verify=self.access.verify,
                    cert=self.access.certificate,
                    timeout=PATIENCE,
                    allow_redirects=False,
                )

        return _within(PATIENCE + 1, ask)


def _within(seconds: float, ask: "Callable[[], Response]") -> "Response":
    """Return the answer; raises TimeoutError, since looking up a name and trickling answers know no timeout."""
    answer: Future[Response] = Future()

    def work() -> None:
        try:
            answer.set_result(ask())
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return answer.result(seconds)
