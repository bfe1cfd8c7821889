"""MLflow's server with logins in one process; `mlflow server` takes two, and loads MLflow in both, one after the other.

Its own process starts with `python -m sweeptrail.server.app.main HOST PORT`, everything else in the environment.
"""

import gc
import os
import sys
from functools import lru_cache
from typing import Any

# First: MLflow guards itself against wrong hosts and origins only where it finds itself in a web server.
import uvicorn

from sweeptrail.server.app.guard import close_ways_out, guarded

OPEN_REQUESTS = 5
"""Seconds that requests have to end when the server is asked to."""

KEPT_CONNECTION = 75
"""Seconds that a connection is kept for another request: longer than an epoch takes, or nginx keeps one."""

RUNS = 100_000
"""Of how many runs to remember the experiment: 30 MB."""


def main() -> None:
    """Answer requests until SIGTERM."""
    os.environ["_MLFLOW_SGI_NAME"] = "uvicorn"  # which kind of application `create_app` is to return
    from mlflow.server import constants, handlers

    store, root = os.environ["MLFLOW_BACKEND_STORE_URI"], "mlflow-artifacts:/"
    os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = store
    os.environ[constants.REGISTRY_STORE_URI_ENV_VAR] = store
    os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = root
    os.environ[constants.ARTIFACTS_DESTINATION_ENV_VAR] = os.environ["MLFLOW_ARTIFACTS_DESTINATION"]
    os.environ[constants.SERVE_ARTIFACTS_ENV_VAR] = "true"
    handlers.initialize_backend_stores(store, store, root)

    from mlflow.server import auth

    remember_experiments(auth)
    app = auth.create_app()
    close_ways_out(auth, app)
    gc.freeze()  # all that MLflow has loaded stays: looking through it for garbage again and again only costs time
    host, port = sys.argv[1:]
    origins = tuple(os.environ["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"].split(","))
    application = guarded(app, origins)
    uvicorn.run(
        application,
        host=host,
        port=int(port),
        access_log=False,
        timeout_graceful_shutdown=OPEN_REQUESTS,
        timeout_keep_alive=KEPT_CONNECTION,
        workers=1,
    )


def remember_experiments(auth: Any) -> None:
    """Let MLflow ask only once in which experiment a run is, by which it decides who may write to it.

    That never changes. It reads the whole run for it, at each request: 40 % of a log_batch's time.
    """
    ask = getattr(auth, "_run_requirement", None)
    if ask is None:  # another version decides in another way
        return

    @lru_cache(RUNS)
    def known(run_id: str, action: str) -> Any:
        found = ask(run_id, action)
        if found is None:
            raise LookupError  # which is not remembered: the run may be created yet
        anchor, requirements = found
        return anchor, tuple(requirements)

    def requirement(run_id: str, action: str) -> Any:
        try:
            anchor, requirements = known(run_id, action)
        except LookupError:
            return None
        return anchor, list(requirements)  # MLflow appends to it

    auth._run_requirement = requirement


if __name__ == "__main__":
    main()
