"""`mlflow run` on anybody's project, and a database instead of a server, by way of an outbox."""

import sys
from pathlib import Path

import pytest

from tests.commands import start
from tests.outboxes import Outboxes, outboxes, plain, runs_in
from tests.proxy import Proxy
from tests.server import Server

PROJECT = {
    "MLproject": "name: tiny\nentry_points:\n  main:\n    command: python train.py\n",
    "train.py": """
import mlflow
with mlflow.start_run() as run:
    mlflow.log_metric("loss", 1.0)
    mlflow.log_text("text", "file.txt")
    print("inside", run.info.run_id)
""",
}


@pytest.mark.parametrize("mode", ["there", "away"])
def test_a_project_runs_as_one_run(box: Outboxes, proxy: Proxy, tracking: Server, tmp_path: Path, mode: str) -> None:
    if mode == "away":
        proxy.stop()
    project = tmp_path / "project"
    project.mkdir()
    for name, text in PROJECT.items():
        (project / name).write_text(text)
    name = f"project {mode}"
    command = ("mlflow", "run", str(project), "--env-manager", "local", "--experiment-name", name)
    done = start(*command, cwd=tmp_path, **box.environment())
    assert done.returncode == 0, done.stderr
    if mode == "away":
        proxy.start()
    box.settle()
    [run] = runs_in(tracking.uri, name)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"loss": 1.0})
    assert run.data.tags["mlflow.project.entryPoint"] == "main"
    assert f"inside {run.data.tags['sweeptrail.identity']}" in done.stdout


def test_a_database_is_written_by_the_courier_alone_and_has_its_artifacts_beside_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("""
import mlflow
mlflow.set_experiment("database")
with mlflow.start_run():
    for number in range(100):
        mlflow.log_metric("loss", number, step=number)
    mlflow.log_text("text", "folder/file.txt")
""")
    with outboxes(tmp_path, "sqlite:///mlflow.db") as box:
        done = start(sys.executable, str(script), cwd=tmp_path, **box.environment())
        assert done.returncode == 0, done.stderr
        box.settle()
        uri = f"sqlite:///{tmp_path}/mlflow.db"
        [run] = runs_in(uri, "database")
        assert (run.info.status, run.data.metrics) == ("FINISHED", {"loss": 99})
        assert [each.path for each in plain(uri).list_artifacts(run.info.run_id, "folder")] == ["folder/file.txt"]
        assert Path(run.info.artifact_uri).is_relative_to(tmp_path / "mlruns")
