"""MLflow's server with logins in one process; `mlflow server` takes two, and loads MLflow in both, one after the other.

Its own process starts with `python -m sweeptrail.server.app.main HOST PORT`, everything else in the environment.
"""

import gc
import os
import sys
from pathlib import Path
from typing import Any

# First: MLflow guards itself against wrong hosts and origins only where it finds itself in a web server.
import sqlalchemy
import uvicorn

from sweeptrail.errors import ServerError
from sweeptrail.server.app import launch, mlflow_patches
from sweeptrail.server.app.connections import Connection, most_connections
from sweeptrail.server.front.accounts import Accounts
from sweeptrail.server.front.application import Front
from sweeptrail.server.front.audit import Audit

OPEN_REQUESTS = 5
"""Seconds that requests have to end when the server is asked to."""

STATEMENT_LIMITS = (
    "SET statement_timeout = '15s'; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '60s'"
)
"""What PostgreSQL ends, so that no request keeps it busy for longer: a list of 10,000 runs takes less than a second."""

KEPT_CONNECTION = 75
"""Seconds that a connection is kept for another request: longer than an epoch takes, or nginx keeps one."""


def main() -> None:
    """Answer requests until SIGTERM. Raises ServerError where MLflow is not the one that the guards are made for."""
    os.environ["_MLFLOW_SGI_NAME"] = "uvicorn"  # which kind of application `create_app` is to return
    from mlflow.server import constants, handlers

    store, root = os.environ["MLFLOW_BACKEND_STORE_URI"], "mlflow-artifacts:/"
    os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = store
    os.environ[constants.REGISTRY_STORE_URI_ENV_VAR] = store
    os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = root
    os.environ[constants.ARTIFACTS_DESTINATION_ENV_VAR] = os.environ["MLFLOW_ARTIFACTS_DESTINATION"]
    os.environ[constants.SERVE_ARTIFACTS_ENV_VAR] = "true"
    mlflow_patches.check()
    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", _limit_statements)
    handlers.initialize_backend_stores(store, store, root)

    from mlflow.server import auth

    app = auth.create_app()
    mlflow_patches.patch(auth, app)
    gc.freeze()  # all that MLflow has loaded stays: looking through it for garbage again and again only costs time
    host, port = sys.argv[1:]
    Connection.most = most_connections()
    front = Front(
        app,
        Accounts(store),
        Audit(Path(os.environ[launch.AUDIT_LOG])),
        origins=tuple(os.environ["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"].split(",")),
        shared=os.environ[launch.SHARED_WRITE] == "true",
    )
    uvicorn.run(
        front,
        host=host,
        port=int(port),
        http=Connection,
        access_log=False,
        limit_concurrency=Connection.most + 100,
        timeout_graceful_shutdown=OPEN_REQUESTS,
        timeout_keep_alive=KEPT_CONNECTION,
        workers=1,
    )


def _limit_statements(connection: Any, _: object) -> None:
    """Set limits on a new connection; as options of the connection, some poolers before a database refuse them."""
    if type(connection).__module__.startswith("psycopg2"):
        was, connection.autocommit = connection.autocommit, True  # else a rollback would take them back
        with connection.cursor() as cursor:
            cursor.execute(STATEMENT_LIMITS)
        connection.autocommit = was


if __name__ == "__main__":
    try:
        main()
    except ServerError as error:
        sys.exit(str(error))
