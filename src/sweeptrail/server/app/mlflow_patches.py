"""All that is replaced in MLflow, by names that are its own affair: each is looked for before the server starts."""

import errno
import os
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from operator import attrgetter
from typing import Any

from sweeptrail.errors import ServerError

VERSION = "3.17."
"""How the versions of MLflow begin whose names these are."""

NAMES = {
    "mlflow.server.auth": (
        "_can_create_in_workspace",
        "_role_grant_for_resource",
        "_run_requirement",
        "app",
        "create_app",
        "store.get_user",
    ),
    "mlflow.server.handlers": (
        "MultipartDownloadMixin",
        "MultipartUploadMixin",
        "PresignedUploadMixin",
        "_get_tracking_store",
        "initialize_backend_stores",
    ),
    "mlflow.store.artifact.local_artifact_repo": ("LocalArtifactRepository.delete_artifacts",),
    "mlflow.store.tracking.sqlalchemy_store": ("SqlAlchemyStore.create_experiment",),
    "mlflow.utils.uri": ("validate_path_within_directory",),
    "mlflow.utils.workspace_utils": ("DEFAULT_WORKSPACE_NAME",),
}
"""What is replaced here, and what the replacements use."""

RUNS = 100_000
"""Of how many runs to remember the experiment: 30 MB."""

IMPOSSIBLE = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR)
"""What is wrong with the name of an artifact when the system says so, and not with the server."""


def check() -> None:
    """Raise ServerError unless MLflow is of the version whose names are replaced here, and has each of them."""
    from mlflow.version import VERSION as INSTALLED  # MLflow's own name

    if not INSTALLED.startswith(VERSION):
        raise ServerError(f"MLflow {INSTALLED}: expected {VERSION}x, which the server's guards are made for")
    if missing := ", ".join(_missing()):
        raise ServerError(f"MLflow {INSTALLED}: expected {missing}, which the server's guards replace; got none")


def _missing() -> Iterator[str]:
    for module, names in NAMES.items():
        for name in names:
            try:
                attrgetter(name)(import_module(module))
            except (ImportError, AttributeError):
                yield f"{module}.{name}"


def patch(auth: Any, application: Any) -> None:
    """Let MLflow's application work with nothing outside the artifact root, and blame the client for its mistakes."""
    from mlflow.server import handlers
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    _hand_out_no_addresses(handlers)
    _keep_artifacts_together(handlers._get_tracking_store())
    _delete_no_links(LocalArtifactRepository)
    _let_readers_create_nothing(auth)
    _remember_experiments(auth)
    hooks = auth.app.before_request_funcs.setdefault(None, [])
    hooks.insert(0, _refuse_what_is_no_object)  # before MLflow's own, which fail on it
    auth.app.register_error_handler(OSError, _impossible_name)
    application.add_exception_handler(OSError, _impossible_name_asgi)


def _hand_out_no_addresses(handlers: Any) -> None:
    """Send nobody to the object store, which clients may not be able to reach: MLflow would, for large files."""
    for name in ("MultipartUploadMixin", "MultipartDownloadMixin", "PresignedUploadMixin"):
        setattr(handlers, name, _Nothing)


class _Nothing:
    """What no store is able to do."""


def _keep_artifacts_together(store: Any) -> None:
    """Refuse an experiment with a place of its own for artifacts.

    MLflow would read and write there, in any folder or bucket, with the rights of the server.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

    create = store.create_experiment

    def create_experiment(name: str, artifact_location: str | None = None, tags: Any = None) -> Any:
        if artifact_location:
            raise MlflowException(
                "This server keeps the artifacts of all experiments in one place; leave artifact_location out.",
                PERMISSION_DENIED,
            )
        return create(name, artifact_location, tags)

    store.create_experiment = create_experiment


def _delete_no_links(repository: Any) -> None:
    """Delete nothing through a symbolic link: MLflow looks where one leads when it reads and writes only."""
    from mlflow.utils.uri import validate_path_within_directory

    delete = repository.delete_artifacts

    def delete_artifacts(self: Any, artifact_path: str | None = None) -> None:
        if artifact_path:
            validate_path_within_directory(self.artifact_dir, os.path.join(self.artifact_dir, artifact_path))
        delete(self, artifact_path)

    repository.delete_artifacts = delete_artifacts


def _let_readers_create_nothing(auth: Any) -> None:
    """Let only those create an experiment or a model who may write to all: MLflow lets everybody, and own it."""
    from mlflow.utils.workspace_utils import DEFAULT_WORKSPACE_NAME

    def can_create(username: str) -> bool:
        user = auth.store.get_user(username)
        found = auth._role_grant_for_resource(user.id, "experiment", "*", DEFAULT_WORKSPACE_NAME)
        return found is not None and bool(found.can_update)

    auth._can_create_in_workspace = can_create


def _remember_experiments(auth: Any) -> None:
    """Let MLflow ask only once in which experiment a run is, by which it decides who may write to it.

    That never changes. It reads the whole run for it, at each request: 40 % of a log_batch's time.
    """
    ask = auth._run_requirement

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


def _refuse_what_is_no_object() -> tuple[str, int] | None:
    """Refuse a body that is no JSON object, at which MLflow breaks."""
    from flask import request

    if request.path.endswith("/upload-artifact"):  # a file
        return None
    if not request.content_length and request.path != "/graphql":
        return None
    try:
        body = request.get_json(force=True, silent=True)
    except RecursionError:
        body = None
    whole = isinstance(body, dict) and (request.path != "/graphql" or isinstance(body.get("query"), str))
    return None if whole else ("Expected a JSON object.", 400)


def _impossible_name(error: OSError) -> tuple[str, int]:
    if error.errno not in IMPOSSIBLE:
        raise error
    return "There can be no artifact of this name.", 400


def _impossible_name_asgi(_: Any, error: OSError) -> Any:
    from starlette.responses import PlainTextResponse

    return PlainTextResponse(*_impossible_name(error))
