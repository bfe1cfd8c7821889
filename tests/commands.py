"""How the tests start the programs of this environment, and read what they left on MLflow."""

import atexit
import json
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

from tests.waiting import PATIENCE, wait_for

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


LOADED = """
import contextlib, json, os, random, sys
import mlflow.store.tracking.sqlalchemy_store, numpy
import sweeptrail.__main__, sweeptrail.outbox.store.artifacts, sweeptrail.outbox.store.store, sweeptrail.sweeps.run
from sweeptrail.cli import main, outcome, project_run

def tell(command, what, number):
    path = os.path.join(command["told"], what)
    with open(path + ".tmp", "w") as file:
        file.write(str(number))
    os.rename(path + ".tmp", path)

def become(command):
    os.setsid()
    for descriptor, path in enumerate((os.devnull, command["output"], command["errors"])):
        os.dup2(os.open(path, os.O_RDWR | os.O_APPEND), descriptor)
    os.chdir(command["cwd"])
    os.environ.clear()
    os.environ.update(command["environment"])
    sys.path[0] = command["cwd"]
    sys.argv[:] = [sweeptrail.__main__.__file__, *command["words"]]
    random.seed()
    numpy.random.seed()
    if code := command.get("code"):
        exec(code, {"__name__": "__main__"})
        sys.exit()
    main()

def reap():  # so that what the commands took counts in the time that the tests take
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass

for line in iter(sys.stdin.readline, ""):
    reap()
    if os.fork() == 0:
        command = json.loads(line)
        if (child := os.fork()) == 0:
            become(command)
        tell(command, "pid", child)
        tell(command, "code", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        os._exit(0)
reap()
"""
"""Is told commands, one a line, and carries each out in a process that is forked here."""


class Forked(subprocess.Popen[bytes]):
    """`sweeptrail WORDS`, or code, at the head of a group of its own, in a process that has loaded MLflow already.

    Loading takes longer than most commands. Where it matters what is loaded when, or how a process
    begins, `start` and `begun` begin with nothing.
    """

    returncode: int | None

    def __init__(self, *words: str, cwd: Path, output: Path, errors: Path, code: str = "", **more: str) -> None:
        self._told = tempfile.TemporaryDirectory()
        self.args, self.returncode = words, None
        files = {"told": self._told.name, "output": str(output), "errors": str(errors), "code": code}
        loaded = _loaded()
        assert loaded.stdin
        loaded.stdin.write(json.dumps({"words": words, "cwd": str(cwd), "environment": environment(**more), **files}))
        loaded.stdin.write("\n")
        loaded.stdin.flush()
        wait_for(lambda: self._read("pid") is not None or loaded.poll() is not None)
        assert loaded.poll() is None, "the process that commands are forked from has ended"
        self.pid = self._read("pid") or 0

    def poll(self) -> int | None:
        if self.returncode is None and (code := self._read("code")) is not None:
            self.returncode = code
            self._told.cleanup()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        wait_for(lambda: self.poll() is not None, timeout or PATIENCE)
        assert self.returncode is not None
        return self.returncode

    def _read(self, what: str) -> int | None:
        path = Path(self._told.name, what)
        return int(path.read_text()) if path.exists() else None


@cache
def _loaded() -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", LOADED],
        env=environment(OPENBLAS_NUM_THREADS="1"),  # threads do not survive a fork
        stdin=subprocess.PIPE,
        text=True,
    )
    atexit.register(process.__exit__, None, None, None)
    return process


def program(*words: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `sweeptrail WORDS` to its end."""
    with tempfile.NamedTemporaryFile("r+") as output, tempfile.NamedTemporaryFile("r+") as errors:
        process = Forked(*words, cwd=cwd, output=Path(output.name), errors=Path(errors.name), **more)
        try:
            process.wait()
        finally:
            process.kill()
        return subprocess.CompletedProcess(words, process.returncode or 0, output.read(), errors.read())


def mlflow_run(project: str, *arguments: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Start a project as a person does, with these settings on few images."""
    params = [word for name, value in {**SMALL, **settings}.items() for word in ("-P", f"{name}={value}")]
    return start("mlflow", "run", project, "--env-manager", "local", *arguments, *params, cwd=cwd, PYTHONPATH="")


def sweep(*arguments: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Start a sweep without MLflow's project runner."""
    if not {"--tracking-uri", "--no-tracking"} & {*arguments}:
        new_store(cwd)
    options = [word for name, value in {**SMALL, **settings}.items() for word in (f"--{name.replace('_', '-')}", value)]
    return program("sweep", *options, *arguments, cwd=cwd)


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
