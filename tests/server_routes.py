"""The page of docs/ on who may ask the server for what: python -m tests.server_routes > docs/server-routes.md."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from sweeptrail.server.front.routes import READS, ROUTES, Right, find
from tests.commands import ROOT, environment

PAGE = ROOT / "docs" / "server-routes.md"

EVERY_ROUTE = """
import json
from starlette.routing import Mount
from mlflow.server import auth
application = auth.create_app()
found = {(method, rule.rule) for rule in auth.app.url_map.iter_rules() for method in rule.methods}
for included in application.routes:
    if not isinstance(included, Mount):
        prefix = included.include_context.prefix
        for route in included.original_router.routes:
            found |= {(method, prefix + route.path) for method in route.methods or ()}
print(json.dumps(sorted(found)))
"""

CONFIG = "[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///auth.db\nadmin_username = admin\n"
CONFIG += "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"

TEXT = """# Who may ask the server for what

Held by a test: a page of this text is made of the table in `src/sweeptrail/server/front/routes.py` and of the routes
that MLflow {version} has. What a later version brings is closed until it stands there. The UI asks at `/ajax-api` for
what stands here at `/api`. An ordinary account reads everything and writes in what it has made; with
`server start --shared-write` in everything.

| request | no login | reader | ordinary | needs |
|---|---|---|---|---|
{rows}

Closed to everybody, administrators too, are {count} requests: those of other methods, and what begins with

{closed}
"""


def every_route() -> list[tuple[str, str]]:
    """Return the method and the path of each route of MLflow's server with logins."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "basic_auth.ini")
        config.write_text(CONFIG)
        env = environment(
            MLFLOW_AUTH_CONFIG_PATH=str(config),
            MLFLOW_AUTH_ADMIN_PASSWORD="for this test alone",
            MLFLOW_FLASK_SERVER_SECRET_KEY="for this test alone",
            MLFLOW_BACKEND_STORE_URI="sqlite:///store.db",
            _MLFLOW_SERVER_FILE_STORE="sqlite:///store.db",
            _MLFLOW_SGI_NAME="uvicorn",
        )
        command = [sys.executable, "-W", "ignore", "-c", EVERY_ROUTE]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return [(method, path) for method, path in found if method not in ("HEAD", "OPTIONS")]


def canonical(path: str) -> str:
    """Return a path as our table writes it: at /api, its variable parts as <id>."""
    path = re.sub(r"<path:\w+>|\{\w+:path\}", "<path>", path).replace("/ajax-api/", "/api/")
    return re.sub(r"<\w+:\w+>|<(?!path>)\w+>|\{\w+\}", "<id>", path)


def example(path: str) -> str:
    return path.replace("<path>", "a/b").replace("<id>", "x").replace("<tag>", "y")


def page() -> str:
    from mlflow.version import VERSION

    known = {(method, canonical(path)) for method, path in every_route()}
    closed = sorted((method, path) for method, path in known if not find(method, example(path)))
    families = sorted({_family(path) for _, path in closed if not _is_open_too(path)})
    rows = []
    for route in ROUTES:
        open_to = (route.right is Right.OPEN, route.right in READS, route.right is not Right.ADMIN)
        marks = " | ".join("yes" if may else "" for may in open_to)
        rows.append(f"| `{route.method} {route.path}` | {marks} | {route.right.value} |".replace("  ", " "))
    text = "\n".join(f"- `{family}`" for family in families)
    return TEXT.format(version=VERSION, rows="\n".join(rows), count=len(closed), closed=text)


def _is_open_too(path: str) -> bool:
    return any(find(method, example(path)) for method in ("GET", "POST", "PUT", "PATCH", "DELETE"))


def _family(path: str) -> str:
    """Return the beginning of a path, by which its like are known, or all of it where others of them are open."""
    beginning = "/".join(path.split("/")[:5])
    is_mixed = any(route.path.startswith(f"{beginning}/") for route in ROUTES)
    return path if is_mixed or beginning == path else f"{beginning}/…"


if __name__ == "__main__":
    os.chdir(ROOT)
    print(page(), end="")
