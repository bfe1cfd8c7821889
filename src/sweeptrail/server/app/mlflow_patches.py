"""All that is replaced in MLflow, by names that are its own affair: each is looked for before the server starts."""

import errno
import os
from collections.abc import Iterator
from importlib import import_module
from operator import attrgetter
from typing import Any

from sweeptrail.errors import ServerError
from sweeptrail.server.front.identity import asks_no_more

VERSION = "3.17."
"""How the versions of MLflow begin whose names these are."""

NAMES = {
    "mlflow.server.auth": (
        "_KNOWN_UNGATED_FASTAPI_ROUTE_MARKERS",
        "_find_fastapi_validator",
        "app",
        "create_app",
        "sender_is_admin",
    ),
    "mlflow.server.handlers": (
        "MultipartDownloadMixin",
        "MultipartUploadMixin",
        "PresignedUploadMixin",
        "_get_artifact_repository_for_uri",
        "initialize_backend_stores",
    ),
    "mlflow.store.artifact.local_artifact_repo": ("LocalArtifactRepository.delete_artifacts",),
    "mlflow.utils.uri": ("validate_path_within_directory",),
}
"""What is replaced here, and what the replacements use."""

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
    _keep_artifacts_together(handlers)
    _delete_no_links(LocalArtifactRepository)
    _believe_the_front(auth)
    auth.app.register_error_handler(OSError, _impossible_name)
    application.add_exception_handler(OSError, _impossible_name_asgi)


def _hand_out_no_addresses(handlers: Any) -> None:
    """Send nobody to the object store, which clients may not be able to reach: MLflow would, for large files."""
    for name in ("MultipartUploadMixin", "MultipartDownloadMixin", "PresignedUploadMixin"):
        setattr(handlers, name, _Nothing)


class _Nothing:
    """What no store is able to do."""


def _keep_artifacts_together(handlers: Any) -> None:
    """Read and write nowhere but in the one place for artifacts, whatever the database says of a run or a version.

    MLflow would in any folder or bucket, with the rights of the server.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

    def refuse(artifact_uri: str) -> Any:
        raise MlflowException("These artifacts lie outside the place where this server keeps them.", PERMISSION_DENIED)

    handlers._get_artifact_repository_for_uri = refuse


def _delete_no_links(repository: Any) -> None:
    """Delete nothing through a symbolic link: MLflow looks where one leads when it reads and writes only."""
    from mlflow.utils.uri import validate_path_within_directory

    delete = repository.delete_artifacts

    def delete_artifacts(self: Any, artifact_path: str | None = None) -> None:
        if artifact_path:
            validate_path_within_directory(self.artifact_dir, os.path.join(self.artifact_dir, artifact_path))
        delete(self, artifact_path)

    repository.delete_artifacts = delete_artifacts


def _believe_the_front(auth: Any) -> None:
    """Let MLflow ask the front, and not its header and the database again, who asks.

    Of the routes that it answers in the event loop, files, the front has decided all: its own way asks the database
    there, and everybody waits.
    """
    auth.sender_is_admin = asks_no_more
    auth._find_fastapi_validator = lambda path, method: None
    auth._KNOWN_UNGATED_FASTAPI_ROUTE_MARKERS = ("/mlflow-artifacts/artifacts/",)


def _impossible_name(error: OSError) -> tuple[str, int]:
    if error.errno not in IMPOSSIBLE:
        raise error
    return "There can be no artifact of this name.", 400


def _impossible_name_asgi(_: Any, error: OSError) -> Any:
    from starlette.responses import PlainTextResponse

    return PlainTextResponse(*_impossible_name(error))
