"""Makes plain MLflow code inside of a run belong to it, without loading MLflow where nobody else does."""

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from sweeptrail.outbox.plugin.open_run import EXPERIMENT_ID, URI, OpenRun, opened
from sweeptrail.system.imports import when_imported

ENVIRONMENT: Mapping[str, str | None] = {
    "MLFLOW_TRACKING_URI": URI,
    "MLFLOW_EXPERIMENT_ID": EXPERIMENT_ID,
    "MLFLOW_EXPERIMENT_NAME": None,
    "MLFLOW_RUN_ID": None,
    "MLFLOW_ACTIVE_MODEL_ID": None,
    "_MLFLOW_ACTIVE_MODEL_ID": None,
}
"""Inside of a run; None is not set."""


@contextmanager
def belongs_to(run: OpenRun) -> Iterator[None]:
    """Let whatever is logged to MLflow in this process go to `run`, for the `with` block.

    MLflow is not loaded by this; when the block loads it, or it is loaded already, its active run is this one.
    """
    with opened(run), _environment(), _Activation() as activate, when_imported("mlflow", activate) as finder:
        # It may be on its way in another thread. What the finder has found is activated there; doing it here too
        # would have each thread wait for a module of the other's. What is older this waits for.
        if "mlflow" in sys.modules and not finder.has_found:
            activate()
        yield


def tracking_store(*_: Any, **__: Any) -> Any:
    """Build the tracking store of the open run: the entry point that MLflow calls for its scheme."""
    from sweeptrail.outbox.plugin.store import run_store  # not at the top: MLflow is being imported then

    return run_store()


class _Activation:
    """Makes the open run MLflow's active run, in whichever thread MLflow was imported; and undoes it at its end."""

    def __init__(self) -> None:
        self._changes = ExitStack()
        self._is_over = False
        self._lock = threading.Lock()

    def __enter__(self) -> "_Activation":
        return self

    def __call__(self) -> None:
        from sweeptrail.outbox.plugin.active import active_run

        with self._lock:
            if not self._is_over:
                self._changes.enter_context(active_run())

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._is_over = True
            self._changes.close()


@contextmanager
def _environment() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    _set(ENVIRONMENT)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
