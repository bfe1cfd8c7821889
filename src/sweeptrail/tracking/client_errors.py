"""How MLflow's client is spoken through: with settings of our own, every failure turned into one of two errors."""

import os
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException
from requests import HTTPError

from sweeptrail.errors import DeliveryError, RefusedError
from sweeptrail.tracking.uri import without_credentials

SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",  # else each download asks first whether the server can do that
}
"""MLflow's own seven retries block one call for four minutes; the courier comes again by itself."""

REFUSALS = frozenset({400, 404, 405, 409, 413, 422})
"""HTTP answers after which sending the same again cannot help."""


@contextmanager
def answering(uri: str, refusals: Collection[int] = REFUSALS) -> Iterator[None]:
    """Turn what MLflow raises into DeliveryError (come again) or, at one of these answers, RefusedError (never)."""
    try:
        with _settings:
            yield
    except Exception as error:
        is_refused = _status(error) in refusals and not _is_trouble_of_the_database(error)
        kind = RefusedError if is_refused else DeliveryError
        raise kind(f"{without_credentials(uri)}: {root_cause(error)}") from error


class _Settings:
    """Holds the settings of MLflow's client in the environment while any thread speaks to a server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._speaking = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._speaking:
                self._before = {name: os.environ.get(name) for name in SETTINGS}
            self._speaking += 1
            os.environ.update(SETTINGS)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._speaking -= 1
            if self._speaking:
                return
            for name, value in self._before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


_settings = _Settings()


def _status(error: Exception) -> int | None:
    """Return the HTTP status of an answer; an error that is none may be over at the next attempt."""
    if isinstance(error, MlflowException):
        return int(error.get_http_status_code())  # type: ignore[no-untyped-call]  # MLflow has no types for it
    if isinstance(error, HTTPError) and error.response is not None:  # of an artifact store
        return error.response.status_code
    return None


def _is_trouble_of_the_database(error: Exception) -> bool:
    """Tell whether the database failed, and not what it was told: MLflow answers 400 to most that SQLAlchemy raises."""
    return "sqlalche.me" in str(error) and "DataError" not in str(error)


def root_cause(error: BaseException) -> str:
    """Return the first line of what an error goes back to; MLflow and urllib3 wrap it in pages."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return (str(error).strip() or type(error).__name__).partition("\n")[0][:300]
