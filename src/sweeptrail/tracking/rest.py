"""MLflow's client with timeouts of its own.

MLflow takes retries and timeouts from the environment, which belongs to the process: in a notebook the person's own
calls would then have ours. Seven retries block one call for four minutes; the courier comes again by itself.
"""

import json
import posixpath
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlflow import MlflowClient
from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
from mlflow.store.model_registry.rest_store import RestStore as RegistryRestStore
from mlflow.store.tracking.rest_store import RestStore
from mlflow.tracking._model_registry.client import ModelRegistryClient
from mlflow.tracking._tracking_service.client import TrackingServiceClient
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.mime_type_utils import _guess_mime_type
from mlflow.utils.proto_json_utils import parse_dict
from mlflow.utils.request_utils import augmented_raise_for_status
from mlflow.utils.rest_utils import http_request, verify_rest_response
from mlflow.utils.uri import validate_path_is_safe

TIMEOUT = 10.0
"""Seconds to connect, and to wait for each piece of an answer."""

CHUNK = 1 << 20
SERVICE = "/api/2.0/mlflow-artifacts/artifacts"
"""Where a server has the artifacts that it keeps."""


def request(credentials: Any, endpoint: str, method: str, **more: Any) -> Any:
    """Return the answer to one request, sent once."""
    return http_request(credentials, endpoint, method, max_retries=0, timeout=TIMEOUT, **more)


def call(credentials: Any, endpoint: str, method: str, body: str | None, answer: Any) -> Any:
    """Return what the server answers to a call of its API, as the message `answer`."""
    content = json.loads(body) if body else None
    given = {"params" if method == "GET" else "json": content}
    reply = verify_rest_response(request(credentials, endpoint, method, **given), endpoint)
    parse_dict(js_dict=json.loads(reply.text), message=answer)
    return answer


class _TrackingStore(RestStore):
    def _call_endpoint(
        self, api: Any, json_body: str | None = None, endpoint: str | None = None, *_: Any, **more: Any
    ) -> Any:
        usual, method = (self._V3_METHOD_TO_INFO if api in self._V3_APIS else self._METHOD_TO_INFO)[api]
        answer = more.get("response_proto") or api.Response()
        return call(self.get_host_creds(), endpoint or usual, method, json_body, answer)


class _RegistryStore(RegistryRestStore):
    def _call_endpoint(self, api: Any, json_body: str, *_: Any, **__: Any) -> Any:
        endpoint, method = self._get_all_endpoints_from_method(api)[0]
        return call(self.get_host_creds(), endpoint, method, json_body, api.Response())


class _TrackingClient(TrackingServiceClient):
    def __init__(self, uri: str) -> None:
        self._own = _TrackingStore(partial(get_default_host_creds, uri))
        super().__init__(uri)

    @property
    def store(self) -> Any:
        return self._own

    def _log_url(self, run_id: str) -> None:
        """Print nothing: nobody here has asked where the run is."""


class _RegistryClient(ModelRegistryClient):
    def __init__(self, uri: str) -> None:
        self._own = _RegistryStore(partial(get_default_host_creds, uri))
        super().__init__(uri, uri)

    @property
    def store(self) -> Any:
        return self._own


class _RestClient(MlflowClient):
    def __init__(self, uri: str) -> None:
        super().__init__(uri, uri)
        self._tracking_client = _TrackingClient(uri)
        self._registry = _RegistryClient(uri)

    def _get_registry_client(self) -> ModelRegistryClient:
        return self._registry


def make_client(uri: str) -> MlflowClient:
    """Return a client for a server, or a database."""
    return _RestClient(uri) if uri.startswith("http") else MlflowClient(uri, uri)


class _Artifacts(HttpArtifactRepository):
    """Files on a server, each in one request."""

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        name = Path(local_file).name
        endpoint = _endpoint(artifact_path or "", name)
        with open(local_file, "rb") as file:
            headers = {"Content-Type": _guess_mime_type(name)}
            reply = request(self._host_creds, endpoint, "PUT", data=file, extra_headers=headers)
        augmented_raise_for_status(reply)

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        server, _, root = self.artifact_uri.partition(SERVICE)
        wanted = {"path": posixpath.join(root.strip("/"), path or "").rstrip("/")}
        reply = request(get_default_host_creds(server), SERVICE, "GET", params=wanted)
        augmented_raise_for_status(reply)
        return [
            FileInfo(posixpath.join(path or "", validate_path_is_safe(file["path"])), file["is_dir"], _size(file))
            for file in reply.json().get("files", [])
        ]

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        reply = request(self._host_creds, _endpoint(remote_file_path), "GET", stream=True)
        augmented_raise_for_status(reply)
        with open(local_path, "wb") as file:
            for chunk in reply.iter_content(CHUNK):
                file.write(chunk)


def _endpoint(*path: str) -> str:
    """Return the address of a file; MLflow's client would leave out what follows a `?` or `#`."""
    return quote(posixpath.join("/", *path))


def _size(file: dict[str, Any]) -> int | None:
    return int(file["file_size"]) if "file_size" in file else None


def plain_location(uri: str, tracking_uri: str) -> str:
    """Return an address of artifacts, without MLflow's own scheme for those that the tracking server keeps."""
    return MlflowArtifactsRepository.resolve_uri(uri, tracking_uri) if uri.startswith("mlflow-artifacts:") else uri


def artifacts_at(uri: str, tracking_uri: str) -> ArtifactRepository:
    """Return where the artifacts of a run are: on the tracking server, or in a store that MLflow knows."""
    uri = plain_location(uri, tracking_uri)
    if uri.startswith("http"):
        return _Artifacts(uri, tracking_uri)
    return get_artifact_repository(uri, tracking_uri)


def download(files: ArtifactRepository, path: str, into: Path) -> Path:
    """Copy a file, or all files of a folder, into a folder, below the same path; return where it is."""
    listed = files.list_artifacts(path or None)
    for each in listed:
        download(files, each.path, into)
    if not listed:
        (into / path).parent.mkdir(parents=True, exist_ok=True)
        files._download_file(path, str(into / path))
    return into / path
