"""The server itself, asked for at most a second."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import cached_property
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import NOT_IMPLEMENTED, TEMPORARILY_UNAVAILABLE

from sweeptrail.errors import RefusedError, SweeptrailError
from sweeptrail.tracking.client import TrackingServer
from sweeptrail.tracking.client_errors import answering, root_cause
from sweeptrail.tracking.uri import without_credentials

LIMIT = 1.0
"""Seconds that somebody waits for what the server knows."""

PATIENCE = 10.0
"""Seconds that somebody waits for what only the server can do."""

PAUSE = 5.0
"""Seconds for which a server that did not answer is not asked again."""

_logger = logging.getLogger("mlflow.sweeptrail")


class AwayError(SweeptrailError):
    """The server does not answer."""


class NotDeliveredError(LookupError):
    """Something has no id on the server yet."""


class AskedServer:
    """One tracking server, whose answers are welcome and not waited for long."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._silent_until = 0.0
        self._has_said = False

    @cached_property
    def client(self) -> TrackingServer:
        """The server's client; an SQLite file is made by this."""
        return TrackingServer(self.uri)

    @property
    def is_away(self) -> bool:
        """Whether it did not answer a moment ago."""
        return time.monotonic() < self._silent_until

    def ask(self, question: Callable[[Any], Any], limit: float = LIMIT) -> Any:
        """Return what the question, put to MLflow's store for the server, has for an answer.

        Raises AwayError when there is none within `limit` seconds, MlflowException when the answer is no, and
        NotDeliveredError when the question itself does, because what it means has no id on the server.
        """
        if self.is_away:
            raise AwayError("it did not answer a moment ago")
        store = self.client.store  # where a database is made first, that is waited for
        answer: Future[Any] = Future()

        def work() -> None:
            try:
                answer.set_result(question(store))
            except BaseException as error:
                answer.set_exception(error)

        # A daemon: a server that hangs must not keep the process from ending.
        threading.Thread(target=work, daemon=True).start()
        try:
            return answer.result(limit)
        except NotDeliveredError:  # it was not asked
            raise
        except TimeoutError as error:
            raise self._away(f"no answer within {limit:g} s") from error
        except Exception as error:
            if _is_answer(self.uri, error):
                raise
            raise self._away(root_cause(error)) from error

    def _away(self, why: str) -> AwayError:
        self._silent_until = time.monotonic() + PAUSE
        if not self._has_said:
            self._has_said = True
            _logger.warning(
                "%s does not answer (%s): what is logged is kept and delivered later, what is read is what this "
                "machine knows",
                without_credentials(self.uri),
                why,
            )
        return AwayError(why)

    def demand(self, call: str, question: Callable[[Any], Any], limit: float = PATIENCE) -> Any:
        """Return the answer to what only the server can do; raises MlflowException, at once, when it is away."""
        try:
            return self.ask(question, limit)
        except AwayError as error:
            raise MlflowException(
                f"{call}: only the tracking server can do this, and {without_credentials(self.uri)} does not answer "
                f"({error}); nothing was done",
                error_code=TEMPORARILY_UNAVAILABLE,
            ) from error


def refuse(call: str) -> MlflowException:
    """Return the error for what cannot be done by way of an outbox."""
    return MlflowException(
        f"{call}: not possible by way of an outbox; ask the server itself, by its plain address: "
        "MlflowClient('http://HOST:5000')",
        error_code=NOT_IMPLEMENTED,
    )


def _is_answer(uri: str, error: Exception) -> bool:
    """Tell whether the server has said no, and not nothing."""
    if "IntegrityError" in str(error):  # of the database: it is not there, or there already
        return True
    try:
        with answering(uri, range(400, 500)):
            raise error
    except RefusedError:
        return True
    except SweeptrailError:
        return False
