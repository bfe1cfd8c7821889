"""Which requests are open, and to whom: what is not in this table is closed, also what a later MLflow brings."""

import re
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

API, API3, FILES = "/api/2.0/mlflow", "/api/3.0/mlflow", "/api/2.0/mlflow-artifacts/artifacts"
"""The UI asks at `/ajax-api` for the same."""


class Right(Enum):
    """What a request needs; server/front/rights.py says who has it."""

    OPEN = "nothing"
    LOOK = "a login"
    READ_RUN = "a login, and an experiment that is not denied"
    READ_FILES = "the same for the experiment of the files"
    OWN_PASSWORD = "to be that account"
    NEW_EXPERIMENT = "to write anywhere"
    NEW_MODEL = "to write in all experiments"
    NEW_RUN = "to write in its experiment"
    NEW_LOGGED_MODEL = "the same, and its run to be one's own"
    NEW_VERSION = "to write in its registered model"
    OWN_RUN = "that the account has made it, or looks after its experiment"
    OWN_FILES = "the same for the run of the files"
    OWN_LOGGED_MODEL = "the same for the run of the model"
    OWN_EXPERIMENT = "that the account has made it, or was given it"
    OWN_MODEL = "that the account has made the registered model, or was given it"
    OWN_VERSION = "the same, or its run to be one's own"
    ADMIN = "to be an administrator"


READS = {Right.OPEN, Right.LOOK, Right.READ_RUN, Right.READ_FILES, Right.OWN_PASSWORD}
"""What readers may do as well."""


class Body(Enum):
    """What a request carries."""

    JSON = "a JSON object"
    FILE = "a file that is read whole"
    STREAM = "a file that is written as it arrives"


@dataclass(frozen=True)
class Route:
    """Requests of one method and a pattern of paths, `<id>` for a part of them and `<path>` for several."""

    method: str
    path: str
    right: Right
    body: Body = Body.JSON
    heavy: bool = False
    """Whether one such request can keep the database busy, so that an account may have few at a time."""

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        known = {"<id>": "(?P<id>[^/]+)", "<tag>": "[^/]+", "<path>": "(?P<path>.+)"}
        parts = (known.get(part, re.escape(part)) for part in re.split("(<[a-z]+>)", self.path))
        return re.compile("".join(parts).replace("/api/", "/(?:ajax\\-)?api/"))

    @property
    def is_plain(self) -> bool:
        return "<" not in self.path


ROUTES = (
    Route("GET", "/health", Right.OPEN),
    Route("GET", "/static-files/<path>", Right.OPEN),
    Route("GET", "/favicon.ico", Right.OPEN),
    Route("GET", "/", Right.LOOK),
    Route("GET", "/version", Right.LOOK),
    Route("GET", f"{API3}/server-info", Right.LOOK),
    Route("POST", "/graphql", Right.LOOK, heavy=True),
    Route("GET", "/get-artifact", Right.READ_RUN),
    Route("GET", "/model-versions/get-artifact", Right.LOOK),
    Route("GET", f"{FILES}", Right.READ_FILES),
    Route("GET", f"{FILES}/<path>", Right.READ_FILES),
    Route("PUT", f"{FILES}/<path>", Right.OWN_FILES, Body.STREAM),
    Route("DELETE", f"{FILES}/<path>", Right.OWN_FILES),
    Route("GET", f"{API}/artifacts/list", Right.READ_RUN),
    Route("POST", f"{API}/upload-artifact", Right.OWN_RUN, Body.FILE),
    Route("GET", f"{API}/experiments/get", Right.LOOK),
    Route("GET", f"{API}/experiments/get-by-name", Right.LOOK),
    Route("GET", f"{API}/experiments/search", Right.LOOK, heavy=True),
    Route("POST", f"{API}/experiments/search", Right.LOOK, heavy=True),
    Route("POST", f"{API}/experiments/search-datasets", Right.LOOK, heavy=True),
    Route("POST", f"{API}/experiments/create", Right.NEW_EXPERIMENT),
    Route("POST", f"{API}/experiments/delete", Right.OWN_EXPERIMENT),
    Route("POST", f"{API}/experiments/restore", Right.OWN_EXPERIMENT),
    Route("POST", f"{API}/experiments/update", Right.OWN_EXPERIMENT),
    Route("POST", f"{API}/experiments/set-experiment-tag", Right.OWN_EXPERIMENT),
    Route("POST", f"{API}/experiments/delete-experiment-tag", Right.OWN_EXPERIMENT),
    Route("GET", f"{API}/runs/get", Right.READ_RUN),
    Route("POST", f"{API}/runs/search", Right.LOOK, heavy=True),
    Route("POST", f"{API}/runs/create", Right.NEW_RUN),
    Route("POST", f"{API}/runs/update", Right.OWN_RUN),
    Route("POST", f"{API}/runs/delete", Right.OWN_RUN),
    Route("POST", f"{API}/runs/restore", Right.OWN_RUN),
    Route("POST", f"{API}/runs/log-batch", Right.OWN_RUN),
    Route("POST", f"{API}/runs/log-metric", Right.OWN_RUN),
    Route("POST", f"{API}/runs/log-parameter", Right.OWN_RUN),
    Route("POST", f"{API}/runs/log-inputs", Right.OWN_RUN),
    Route("POST", f"{API}/runs/log-model", Right.OWN_RUN),
    Route("POST", f"{API}/runs/outputs", Right.OWN_RUN),
    Route("POST", f"{API}/runs/set-tag", Right.OWN_RUN),
    Route("POST", f"{API}/runs/delete-tag", Right.OWN_RUN),
    Route("GET", f"{API}/metrics/get-history", Right.READ_RUN),
    Route("GET", f"{API}/metrics/get-history-bulk", Right.LOOK, heavy=True),
    Route("GET", f"{API}/metrics/get-history-bulk-interval", Right.LOOK, heavy=True),
    Route("POST", f"{API}/logged-models", Right.NEW_LOGGED_MODEL),
    Route("POST", f"{API}/logged-models/search", Right.LOOK, heavy=True),
    Route("GET", f"{API}/logged-models/<id>", Right.LOOK),
    Route("PATCH", f"{API}/logged-models/<id>", Right.OWN_LOGGED_MODEL),
    Route("DELETE", f"{API}/logged-models/<id>", Right.OWN_LOGGED_MODEL),
    Route("POST", f"{API}/logged-models/<id>/params", Right.OWN_LOGGED_MODEL),
    Route("PATCH", f"{API}/logged-models/<id>/tags", Right.OWN_LOGGED_MODEL),
    Route("DELETE", f"{API}/logged-models/<id>/tags/<tag>", Right.OWN_LOGGED_MODEL),
    Route("GET", f"{API}/logged-models/<id>/artifacts/directories", Right.LOOK),
    Route("GET", f"{API}/logged-models/<id>/artifacts/files", Right.LOOK),
    Route("GET", f"{API}/registered-models/get", Right.LOOK),
    Route("GET", f"{API}/registered-models/search", Right.LOOK, heavy=True),
    Route("GET", f"{API}/registered-models/get-latest-versions", Right.LOOK),
    Route("POST", f"{API}/registered-models/get-latest-versions", Right.LOOK),
    Route("GET", f"{API}/registered-models/alias", Right.LOOK),
    Route("POST", f"{API}/registered-models/create", Right.NEW_MODEL),
    Route("POST", f"{API}/registered-models/rename", Right.OWN_MODEL),
    Route("PATCH", f"{API}/registered-models/update", Right.OWN_MODEL),
    Route("DELETE", f"{API}/registered-models/delete", Right.OWN_MODEL),
    Route("POST", f"{API}/registered-models/set-tag", Right.OWN_MODEL),
    Route("DELETE", f"{API}/registered-models/delete-tag", Right.OWN_MODEL),
    Route("POST", f"{API}/registered-models/alias", Right.OWN_MODEL),
    Route("DELETE", f"{API}/registered-models/alias", Right.OWN_MODEL),
    Route("GET", f"{API}/model-versions/get", Right.LOOK),
    Route("GET", f"{API}/model-versions/get-download-uri", Right.LOOK),
    Route("GET", f"{API}/model-versions/search", Right.LOOK, heavy=True),
    Route("POST", f"{API}/model-versions/create", Right.NEW_VERSION),
    Route("PATCH", f"{API}/model-versions/update", Right.OWN_VERSION),
    Route("DELETE", f"{API}/model-versions/delete", Right.OWN_MODEL),
    Route("POST", f"{API}/model-versions/transition-stage", Right.OWN_MODEL),
    Route("POST", f"{API}/model-versions/set-tag", Right.OWN_VERSION),
    Route("DELETE", f"{API}/model-versions/delete-tag", Right.OWN_VERSION),
    Route("GET", f"{API}/users/current", Right.LOOK),
    Route("GET", f"{API3}/users/current/permissions", Right.LOOK),
    Route("PATCH", f"{API}/users/update-password", Right.OWN_PASSWORD, heavy=True),
    Route("GET", f"{API}/users/list", Right.ADMIN),
    Route("GET", f"{API}/users/get", Right.ADMIN),
    Route("POST", f"{API}/users/create", Right.ADMIN),
    Route("DELETE", f"{API}/users/delete", Right.ADMIN),
    Route("PATCH", f"{API}/users/update-admin", Right.ADMIN),
    Route("GET", f"{API3}/users/permissions/list", Right.ADMIN),
    Route("GET", f"{API3}/users/permissions/get", Right.ADMIN),
    Route("POST", f"{API3}/users/permissions/grant", Right.ADMIN),
    Route("POST", f"{API3}/users/permissions/revoke", Right.ADMIN),
)

_PLAIN = {(route.method, route.path): route for route in ROUTES if route.is_plain}
_OTHERS = tuple(route for route in ROUTES if not route.is_plain)


def find(method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """Return the row for a request and the parts of its path, None where it is closed."""
    canonical = f"/api/{path.removeprefix('/ajax-api/')}" if path.startswith("/ajax-api/") else path
    if route := _PLAIN.get((method, canonical)):
        return route, {}
    for route in _OTHERS:
        if route.method == method and (found := route.pattern.fullmatch(path)):
            return route, found.groupdict()
    return None
