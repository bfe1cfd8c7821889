"""How the tests start the programs of this environment, and read what they left on MLflow."""

import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from tests.waiting import PATIENCE

ROOT = Path(__file__).parent.parent
PROGRAMS = Path(sys.executable).parent

SMALL = {
    "train_samples": "300",
    "validation_samples": "200",
    "batch_size": "50,100",
    "epochs": "3",
    "report": "false",
    "register": "none",
    "delivery_timeout": f"{PATIENCE:.0f}",
}
"""The default sweep on fewer images, without what it does at its end, which takes longer than the sweep.

On a machine that is busy, MLflow alone may take longer than people wait for a server.
"""


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a person who has activated this virtual environment and configured nothing."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    path = f"{PROGRAMS}{os.pathsep}{kept['PATH']}"
    return {**kept, "PATH": path, "PYTHONPATH": str(ROOT / "src"), "MLFLOW_DISABLE_TELEMETRY": "true", **more}


def start(*command: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command, cwd=cwd, env=environment(**more), capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def mlflow_run(project: str, *arguments: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Start a project as a person does, with these settings on few images."""
    params = [word for name, value in {**SMALL, **settings}.items() for word in ("-P", f"{name}={value}")]
    return start("mlflow", "run", project, "--env-manager", "local", *arguments, *params, cwd=cwd, PYTHONPATH="")


def sweep(*arguments: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Start a sweep without MLflow's project runner."""
    if not {"--tracking-uri", "--no-tracking"} & {*arguments}:
        new_store(cwd)
    options = [word for name, value in {**SMALL, **settings}.items() for word in (f"--{name.replace('_', '-')}", value)]
    return start(sys.executable, "-m", "sweeptrail", "sweep", *options, *arguments, cwd=cwd)


def new_store(folder: Path) -> str:
    """Make an empty store in a folder, unless there is one, and return its URI.

    It is a copy: MLflow takes a second to make one, and that it does is the claim of few tests.
    """
    file = folder / "mlflow.db"
    if not file.exists():
        file.write_bytes(_empty_store())
        with closing(sqlite3.connect(file)) as database, database:
            database.execute("UPDATE experiments SET artifact_location = ?", [f"{folder}/mlruns/0"])
    return f"sqlite:///{file}"


@cache
def _empty_store() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
        return Path(folder, "mlflow.db").read_bytes()


def client(folder: Path) -> MlflowClient:
    """Return a client for the database in a folder."""
    return MlflowClient(f"sqlite:///{folder}/mlflow.db")


def family(folder: Path, experiment_id: str = "0") -> tuple[Run, list[Run]]:
    """Return the one parent in the database of a folder, and its nested runs in their order."""
    runs = client(folder).search_runs([experiment_id])
    [parent] = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == len(runs) - 1
    return parent, sorted(children, key=lambda run: int(run.data.tags["sweeptrail.run"]))
