"""What MLflow's server would do and a tracking server for sweeps must not: it is refused, whoever asks."""

import errno
import os
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Channel = Callable[..., Awaitable[Any]]
Application = Callable[[Scope, Channel, Channel], Awaitable[None]]

CLOSED = re.compile(
    r"/signup|/gateway/|/v1/|/(ajax-)?api/\d\.\d/"
    r"(jobs|mlflow/(assistant|gateway|gateway-proxy|mcp-servers|prompt-optimization|runs/create-promptlab-run"
    r"|scorers|users/create-ui|webhooks|workspaces)(/|$))"
)
"""What runs code on the server, reaches out from it to addresses that a user names, or lets people sign up."""

UNCLEAR = re.compile(r"//|\\|[\x00-\x1f]")
"""What no client of MLflow puts into a path, and what two programs may understand in two ways."""

BODY = 16 << 20
"""Bytes; the largest request of a sweep has 1. MLflow reads the body whole before it looks at the login."""

STREAMED = re.compile(r"/(ajax-)?api/2\.0/mlflow-artifacts/artifacts/")
"""Where MLflow writes to disk as it reads, and looks at the login before: artifacts may be large."""

CHANGES = ("POST", "PUT", "PATCH", "DELETE")

IMPOSSIBLE = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR)
"""What is wrong with the name of an artifact when the system says so, and not with the server."""


def guarded(application: Application, origins: tuple[str, ...]) -> Application:
    """Return an application that passes on what is not refused; `origins` are the pages that may change something."""

    async def answer(scope: Scope, receive: Channel, send: Channel) -> None:
        refusal = _refusal(scope, origins) if scope["type"] == "http" else None
        if refusal is None:
            await application(scope, receive, send)
            return
        status, reason = refusal
        headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]  # the body stays unread
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": reason.encode()})

    return answer


def _refusal(scope: Scope, origins: tuple[str, ...]) -> tuple[int, str] | None:
    path, headers = scope["path"], dict(scope["headers"])
    if UNCLEAR.search(path):
        return 400, "This path is not understood."
    if CLOSED.match(path):
        return 403, "This part of MLflow is closed on this server."
    # MLflow itself lets every page of localhost write, and every page at all ask by GraphQL.
    if scope["method"] in CHANGES and headers.get(b"origin", origins[0].encode()).decode("latin-1") not in origins:
        return 403, "Cross-origin request blocked"
    if scope["method"] == "PUT" and STREAMED.match(path):
        return None
    if b"transfer-encoding" in headers:
        return 411, "The length of this request has to be known."
    if int(headers.get(b"content-length", b"0")) > BODY:  # a number, or uvicorn has refused it
        return 413, f"This request is larger than {BODY} bytes."
    return None


def close_ways_out(auth: Any, application: Any) -> None:
    """Let MLflow's application work with nothing outside the artifact root, and blame the client for its mistakes."""
    from mlflow.server import handlers
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    _hand_out_no_addresses(handlers)
    _keep_artifacts_together(handlers._get_tracking_store())
    _delete_no_links(LocalArtifactRepository)
    _let_readers_create_nothing(auth)
    hooks = auth.app.before_request_funcs.setdefault(None, [])
    hooks.insert(0, _refuse_what_is_no_object)  # before MLflow's own, which fail on it
    auth.app.register_error_handler(OSError, _impossible_name)
    application.add_exception_handler(OSError, _impossible_name_asgi)


def _hand_out_no_addresses(handlers: Any) -> None:
    """Send nobody to the object store, which clients may not be able to reach: MLflow would, for large files."""
    for name in ("MultipartUploadMixin", "MultipartDownloadMixin", "PresignedUploadMixin"):
        assert getattr(handlers, name)  # another version may call it otherwise
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

    assert auth._can_create_in_workspace  # another version may ask in another way, and must not be let through

    def can_create(username: str) -> bool:
        user = auth.store.get_user(username)
        found = auth._role_grant_for_resource(user.id, "experiment", "*", DEFAULT_WORKSPACE_NAME)
        return found is not None and bool(found.can_update)

    auth._can_create_in_workspace = can_create


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
