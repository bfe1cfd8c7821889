"""The tables of an older MLflow are brought up to date, with a backup first."""

import json
import os
import subprocess
import sys

import pytest

from sweeptrail.server.backup import archive
from sweeptrail.server.database import postgres
from sweeptrail.server.database.cluster import Database, database
from sweeptrail.server.folder import Configuration, Secrets, ServerFolder, write_json
from tests.commands import environment
from tests.team_server import TeamServer, client, server_folder

pytestmark = pytest.mark.slow

OLDER = """
import sys
from alembic import command
from alembic.script import ScriptDirectory
from mlflow.store.db.utils import InitialBase, _get_alembic_config, create_sqlalchemy_engine
engine = create_sqlalchemy_engine(sys.argv[1])
InitialBase.metadata.create_all(engine)
config = _get_alembic_config(sys.argv[1])
script = ScriptDirectory.from_config(config)
head = script.get_current_head()
before = script.get_revision(head).down_revision
with engine.begin() as connection:
    config.attributes["connection"] = connection
    command.upgrade(config, before)
print(before, head)
"""
"""Makes the tables of the MLflow before this one, by its own migrations."""

REVISION = "SELECT version_num FROM alembic_version"


OLDER_EXPERIMENT = """
INSERT INTO experiments (name, artifact_location, lifecycle_stage, creation_time, last_update_time)
VALUES ('older', 'mlflow-artifacts:/older', 'active', 1, 1)
"""


def test_an_upgrade_of_mlflow_is_done_with_a_backup_first() -> None:
    with server_folder() as folder, server_folder() as again:
        own = ServerFolder(folder)
        own.make()
        own.configured(Configuration())
        own.keep_secrets(Secrets.new())
        write_json(own.served, {"mlflow": "3.0.0"})
        with database(own) as found:
            old, new = make_older_tables(found)
            query(own, found, OLDER_EXPERIMENT)
        server = TeamServer(folder)
        server.start()
        assert "the tables are those of MLflow 3.0.0; upgrading them" in (folder / "logs" / "server.log").read_text()
        with client(server, server.admin) as speaking:
            assert speaking.get_experiment_by_name("older")
        with database(own) as found:
            assert query(own, found, REVISION) == new
        [backup] = own.backups.iterdir()
        archive.restore(ServerFolder(again), backup, Configuration())
        with database(ServerFolder(again)) as found:
            assert query(ServerFolder(again), found, REVISION) == old
        # Whoever starts the restored one has the tables upgraded again.
        assert json.loads(ServerFolder(again).served.read_text()) == {"mlflow": "3.0.0"}


def make_older_tables(found: Database) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", OLDER, found.for_mlflow],
        env=environment(**found.environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def query(own: ServerFolder, found: Database, statement: str) -> str:
    done = subprocess.run(
        [postgres.program(own, "psql"), "-XAtc", statement, found.url],
        env={**os.environ, **found.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()
