"""Turns every failure of MLflow's client into one of two errors."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException
from requests import HTTPError

from sweeptrail.errors import DeliveryError, RefusedError
from sweeptrail.tracking.uri import without_credentials

REFUSALS = frozenset({400, 404, 405, 409, 413, 422})
"""HTTP answers after which sending the same again cannot help."""


@contextmanager
def answering(uri: str, refusals: Collection[int] = REFUSALS) -> Iterator[None]:
    """Turn what MLflow raises into DeliveryError (come again) or, at one of these answers, RefusedError (never)."""
    try:
        yield
    except Exception as error:
        is_refused = _status(error) in refusals and not _is_trouble_of_the_database(error)
        kind = RefusedError if is_refused else DeliveryError
        raise kind(f"{without_credentials(uri)}: {root_cause(error)}") from error


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
