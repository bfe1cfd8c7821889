"""A backup that somebody else has made is read only if it stays inside the server's own artifacts."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from tests.team_server import TeamServer, server_folder, team_server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("server-foreign-backup")]

FUNCTION = "CREATE FUNCTION evil() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"

HOSTILE = {
    "an experiment in another folder": "UPDATE experiments SET artifact_location = 'file:///CANARY'",
    "an experiment outside by a path upwards": "UPDATE experiments SET artifact_location = 'mlflow-artifacts:/0/../..'",
    "a run in another folder": """INSERT INTO runs (run_uuid, experiment_id, lifecycle_stage, artifact_uri)
        VALUES ('a', 0, 'active', 'file:///CANARY')""",
    "a version of a model from another folder": """INSERT INTO registered_models (name) VALUES ('model');
        INSERT INTO model_versions (name, version, source) VALUES ('model', 1, 'file:///CANARY')""",
    "a function that changes what is written later": FUNCTION,
}


@pytest.fixture(scope="module")
def server() -> Iterator[TeamServer]:
    with team_server() as server:
        yield server


def database(server: TeamServer) -> sqlalchemy.Engine:
    password = json.loads((server.folder / "secrets.json").read_text())["database_password"]
    url = sqlalchemy.make_url(server.state()["database_url"])
    return sqlalchemy.create_engine(url.set(password=password, drivername="postgresql+psycopg2"))


@pytest.mark.parametrize("statement", HOSTILE.values(), ids=HOSTILE)
def test_a_backup_that_reaches_outside_the_artifacts_is_refused(
    server: TeamServer, tmp_path: Path, statement: str
) -> None:
    file = tmp_path / "theirs.tar"
    engine = database(server)
    with engine.connect() as connection:
        places = connection.execute(sqlalchemy.text("SELECT experiment_id, artifact_location FROM experiments")).all()
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(statement.replace("CANARY", str(tmp_path))))
    try:
        assert server.command("backup", str(file)).returncode == 0
    finally:
        with engine.begin() as connection:
            for number, place in places:
                update = "UPDATE experiments SET artifact_location = :place WHERE experiment_id = :number"
                connection.execute(sqlalchemy.text(update), {"place": place, "number": number})
            for table in ("model_versions", "registered_models", "runs"):
                connection.execute(sqlalchemy.text(f"DELETE FROM {table}"))
            connection.execute(sqlalchemy.text("DROP FUNCTION IF EXISTS evil"))
        engine.dispose()
    with server_folder() as folder:
        refused = TeamServer(folder).command("restore", str(file))
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
        assert "which no server of sweeptrail has written" in refused.stderr
        assert list(folder.parent.iterdir()) == []


def test_a_backup_of_the_same_server_unchanged_is_read(server: TeamServer, tmp_path: Path) -> None:
    assert server.command("backup", str(tmp_path / "own.tar")).returncode == 0
    assert tarfile.is_tarfile(tmp_path / "own.tar")
    with server_folder() as folder:
        done = TeamServer(folder).command("restore", str(tmp_path / "own.tar"))
        assert done.returncode == 0, done.stderr
