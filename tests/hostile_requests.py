"""Requests that a server for a team has to refuse, whoever sends them."""

import json
from collections.abc import Iterator
from typing import Any

API, FILES = "/api/2.0/mlflow", "/api/2.0/mlflow-artifacts/artifacts"

NO_LOGIN = [
    ("GET", "/"),
    ("GET", "/signup"),
    ("GET", "/version"),
    ("GET", "/metrics"),
    ("GET", f"{API}/experiments/search?max_results=9"),
    ("GET", f"{API}/runs/get?run_id=RUN"),
    ("GET", f"{API}/metrics/get-history?run_id=RUN&metric_key=loss"),
    ("GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk?run_id=RUN&metric_key=loss"),
    ("GET", f"{API}/artifacts/list?run_id=RUN"),
    ("GET", "/get-artifact?run_uuid=RUN&path=a.txt"),
    ("GET", "/model-versions/get-artifact?name=model&version=1&path=a.txt"),
    ("GET", f"{FILES}/EXPERIMENT/RUN/artifacts/a.txt"),
    ("GET", f"{FILES}?path=EXPERIMENT"),
    ("PUT", f"{FILES}/EXPERIMENT/RUN/artifacts/b.txt"),
    ("DELETE", f"{FILES}/EXPERIMENT/RUN/artifacts/a.txt"),
    ("GET", f"{API}/users/list"),
    ("GET", f"{API}/users/current"),
    ("GET", f"{API}/registered-models/search"),
    ("GET", "/ajax-api/3.0/mlflow/mcp-servers"),
    ("POST", "/api/3.0/mlflow/traces/search"),
    ("GET", "/static-files/../../basic_auth.ini"),
    ("GET", "/health/../api/2.0/mlflow/users/list"),
    ("HEAD", f"{FILES}/EXPERIMENT/RUN/artifacts/a.txt"),
    ("TRACE", "/"),
    ("PROPFIND", f"{API}/users/list"),
]

WRITES: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", f"{API}/experiments/create", {"name": "new"}),
    ("POST", f"{API}/registered-models/create", {"name": "new"}),
    ("POST", f"{API}/runs/create", {"experiment_id": "EXPERIMENT"}),
    ("POST", f"{API}/runs/log-batch", {"run_id": "RUN", "params": [{"key": "a", "value": "b"}]}),
    ("POST", f"{API}/runs/set-tag", {"run_id": "RUN", "key": "a", "value": "b"}),
    ("POST", f"{API}/runs/update", {"run_id": "RUN", "status": "FAILED"}),
    ("POST", f"{API}/runs/delete", {"run_id": "RUN"}),
    ("POST", f"{API}/runs/restore", {"run_id": "RUN"}),
    ("POST", f"{API}/experiments/delete", {"experiment_id": "EXPERIMENT"}),
    ("POST", f"{API}/registered-models/alias", {"name": "model", "alias": "champion", "version": "1"}),
    ("DELETE", f"{API}/registered-models/delete", {"name": "model"}),
    ("PUT", f"{FILES}/EXPERIMENT/RUN/artifacts/a.txt", {}),
    ("DELETE", f"{FILES}/EXPERIMENT/RUN/artifacts/a.txt", {}),
    ("POST", "/ajax-api/2.0/mlflow/upload-artifact?run_uuid=RUN&path=b.txt", {}),
]

GRANT = {"resource_type": "experiment", "resource_id": "*", "permission": "MANAGE"}

FOR_ADMINISTRATORS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", f"{API}/users/create", {"username": "mallory", "password": "correct horse"}),
    ("POST", f"{API}/users/create-ui", {"username": "mallory", "password": "correct horse"}),
    ("PATCH", f"{API}/users/update-admin", {"username": "WHO", "is_admin": True}),
    ("PATCH", f"{API}/users/update-password", {"username": "admin", "password": "correct horse"}),
    ("DELETE", f"{API}/users/delete", {"username": "admin"}),
    ("POST", "/api/3.0/mlflow/users/permissions/grant", {"username": "WHO", **GRANT}),
    ("POST", "/api/3.0/mlflow/roles/create", {"name": "role", "workspace": "default"}),
    ("GET", f"{API}/users/get?username=admin", {}),
]

OUTSIDE = [
    f"{FILES}/../secrets.json",
    f"{FILES}/%2e%2e/secrets.json",
    f"{FILES}/%252e%252e/secrets.json",
    f"{FILES}/%25252e%25252e/secrets.json",
    f"{FILES}/..%2fsecrets.json",
    f"{FILES}/..%5csecrets.json",
    f"{FILES}/..\\secrets.json",
    f"{FILES}/EXPERIMENT/RUN/artifacts/../../../../secrets.json",
    f"{FILES}//etc/passwd",
    f"{FILES}/%2fetc%2fpasswd",
    f"{FILES}/file:///etc/passwd",
    f"{FILES}/file:%2f%2f%2fetc%2fpasswd",
    f"{FILES}/a%00b",
    f"{FILES}/{'x' * 300}",
    f"{FILES}/{'x' * 9000}",
    f"{FILES}/EXPERIMENT/RUN/artifacts/folder-link/canary.txt",
    f"{FILES}/EXPERIMENT/RUN/artifacts/file-link",
    f"{FILES}?path=../",
    f"{FILES}?path=%252e%252e",
    f"{FILES}?path=/etc",
    f"{FILES}?path=EXPERIMENT/RUN/artifacts/folder-link",
    f"{API}/artifacts/list?run_id=RUN&path=../../..",
    f"{API}/artifacts/list?run_id=RUN&path=folder-link",
    "/get-artifact?run_uuid=RUN&path=../../../../secrets.json",
    "/get-artifact?run_uuid=RUN&path=%252e%252e/%252e%252e/%252e%252e/secrets.json",
    "/get-artifact?run_uuid=RUN&path=/etc/passwd",
    "/get-artifact?run_uuid=RUN&path=file-link",
    "/model-versions/get-artifact?name=model&version=1&path=../../../../secrets.json",
    "/static-files/..%2f..%2fauth/__init__.py",
]

LINKS = [
    ("PUT", f"{FILES}/EXPERIMENT/RUN/artifacts/folder-link/canary.txt"),
    ("PUT", f"{FILES}/EXPERIMENT/RUN/artifacts/file-link"),
    ("PUT", f"{FILES}/EXPERIMENT/RUN/artifacts/folder-link/new.txt"),
    ("DELETE", f"{FILES}/EXPERIMENT/RUN/artifacts/folder-link/canary.txt"),
    ("DELETE", f"{FILES}/EXPERIMENT/RUN/artifacts/folder-link"),
    ("DELETE", f"{FILES}/EXPERIMENT/RUN/artifacts/file-link"),
    ("DELETE", f"{FILES}/EXPERIMENT/..%2f..%2fcanary/canary.txt"),
    ("PUT", f"{FILES}/%252e%252e/written.txt"),
]

LOCATIONS = [
    "file:///etc",
    "FILE:///etc",
    "/etc",
    "../..",
    "FOLDER/canary",
    "s3://other/bucket",
    "mlflow-artifacts:/../..",
    "mlflow-artifacts:/%2e%2e",
    "mlflow-artifacts:/0",
    "mlflow-artifacts://evil.example/x",
    "http://127.0.0.1/x",
    "file:///etc/passwd#",
]

SOURCES = [
    "file:///etc",
    "FOLDER/canary",
    "../../canary",
    "s3://other/bucket",
    "dbfs:/x",
    "mlflow-artifacts:/0/another/artifacts",
    "mlflow-artifacts:/EXPERIMENT/RUN/artifacts/../../..",
    "mlflow-artifacts://evil.example/x",
    "runs:/../x",
    "http://127.0.0.1/x",
]

CLOSED = [
    ("POST", "/ajax-api/3.0/jobs/"),
    ("POST", "/ajax-api/3.0/jobs/search"),
    ("GET", "/ajax-api/3.0/mlflow/assistant/config"),
    ("PUT", "/ajax-api/3.0/mlflow/assistant/config"),
    ("POST", "/ajax-api/3.0/mlflow/mcp-servers"),
    ("GET", "/gateway/mlflow/v1/models"),
    ("POST", "/ajax-api/3.0/mlflow/gateway/secrets/create"),
    ("GET", "/ajax-api/2.0/mlflow/gateway-proxy?gateway_path=x"),
    ("POST", "/api/3.0/mlflow/prompt-optimization/jobs"),
    ("POST", "/api/3.0/mlflow/scorers/register"),
    ("POST", f"{API}/webhooks"),
    ("POST", "/v1/traces"),
    ("GET", "/signup"),
]

MALFORMED = [b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"[" * 50_000]

JSON = {"Content-Type": "application/json"}
EVIL = {**JSON, "Origin": "https://evil.example"}
NEW = json.dumps({"name": "new"}).encode()

Hostile = tuple[str, str, str, bytes, dict[str, str]]
"""Who asks, the method, the path, the body, more headers."""


def _json(content: dict[str, Any], who: str = "") -> bytes:
    return json.dumps(content).replace("WHO", who).encode()


def _of_strangers_and_readers() -> Iterator[Hostile]:
    for method, path in NO_LOGIN:
        yield "", method, path, b"", {}
    for who in ("wrong password", "no password", "removed", "nobody", "SQL"):
        yield who, "GET", f"{API}/runs/get?run_id=RUN", b"", {}
        yield who, "PUT", f"{FILES}/EXPERIMENT/RUN/artifacts/b.txt", b"evil", {}
    for who in ("", "eve"):
        for method, path, content in WRITES:
            yield who, method, path, _json(content), JSON
    for who in ("", "eve", "ada"):
        for method, path, content in FOR_ADMINISTRATORS:
            yield who, method, path, _json(content, who), JSON


def _to_other_places() -> Iterator[Hostile]:
    for path in OUTSIDE:
        yield "ada", "GET", path, b"", {}
    for method, path in LINKS:
        yield "ada", method, path, b"evil" if method == "PUT" else b"", {}
    for name in ("artifact_location", "artifactLocation"):
        for where in LOCATIONS:
            yield "ada", "POST", f"{API}/experiments/create", _json({"name": "new", name: where}), JSON
    for source in SOURCES:
        for run in ({}, {"run_id": "RUN"}):
            version = {"name": "model", "source": source, **run}
            yield "ada", "POST", f"{API}/model-versions/create", _json(version), JSON


def _of_strange_form() -> Iterator[Hostile]:
    for method, path in CLOSED:
        yield "admin", method, path, b"{}" if method != "GET" else b"", JSON
    for body in MALFORMED:
        for path in (f"{API}/runs/create", f"{API}/runs/log-batch", "/graphql"):
            yield "ada", "POST", path, body, JSON
    yield "ada", "GET", "/graphql", b"", {}
    yield "ada", "POST", "/graphql", b'{"query": 1}', JSON
    yield "ada", "POST", f"{API}/experiments/create", b"x" * (17 << 20), JSON
    for host in ("evil.example", "127.0.0.1.evil.example", "evil.example:5000", ""):
        yield "ada", "GET", f"{API}/runs/get?run_id=RUN", b"", {"Host": host}
    for origin in ("https://evil.example", "null", "http://localhost.evil.example", "http://localhost:1"):
        yield "ada", "POST", f"{API}/experiments/create", NEW, {**JSON, "Origin": origin}
    yield "ada", "POST", "/graphql", b'{"query": "{__typename}"}', EVIL
    yield "ada", "PUT", f"{FILES}/EXPERIMENT/RUN/artifacts/b.txt", b"evil", EVIL
    yield "eve", "POST", f"{API}/runs/delete", _json({"run_id": "RUN"}), {**JSON, "X-HTTP-Method-Override": "GET"}
    yield "ada", "DELETE", f"{API}/users/create", b"", {}


HOSTILE = [*_of_strangers_and_readers(), *_to_other_places(), *_of_strange_form()]

FOR_THE_PATCHES: list[Hostile] = [
    ("ada", "POST", f"{API}/experiments/create", _json({"name": "new", "artifact_location": "FOLDER/canary"}), JSON),
    ("ada", "DELETE", f"{FILES}/EXPERIMENT/RUN/artifacts/folder-link/canary.txt", b"", {}),
    ("eve", "POST", f"{API}/experiments/create", NEW, JSON),
    ("ada", "POST", f"{API}/runs/create", b"[]", JSON),
    ("ada", "GET", f"{FILES}/{'x' * 300}", b"", {}),
    ("", "GET", "/signup", b"", {}),
]
"""One for each way in that is closed by a patch of MLflow, and one for the filter before it."""
