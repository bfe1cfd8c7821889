"""A team's server keeps artifacts in an object store that speaks S3, whose keys no client ever sees."""

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import psutil
import pytest
import requests
from botocore.config import Config
from mlflow import MlflowClient

from tests.commands import PROGRAMS, environment, program
from tests.server import free_port, kill_group, process_group
from tests.small_sweep import files_below
from tests.steered import Held
from tests.team_server import TeamServer, server_folder
from tests.waiting import PATIENCE, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("server-store")]

SWEEP = ["--train-samples", "1000", "--validation-samples", "200", "--shuffle", "true", "--lr", "0.01"]
SWEEP += ["--workers", "1", "--report", "false", "--register", "none", "--delivery-timeout", f"{PATIENCE:.0f}"]
KEYS = {"AWS_ACCESS_KEY_ID": "TEAMKEY", "AWS_SECRET_ACCESS_KEY": "ateamssecretkey"}
LARGE = 150 << 20
"""Bytes of a file that no store takes in one piece; boto3 cuts from 8 MiB on."""


class Store:
    """A SeaweedFS that can be killed and started again with what it has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
        self.uri = f"http://127.0.0.1:{self.ports['s3']}"
        self.environment = {**KEYS, "MLFLOW_S3_ENDPOINT_URL": self.uri, "AWS_DEFAULT_REGION": "us-east-1"}
        self._process: subprocess.Popen[str] | None = None
        identity = {"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}
        actions = ["Admin", "Read", "Write", "List"]
        (folder / "s3.json").write_text(
            json.dumps({"identities": [{"name": "team", "credentials": [identity], "actions": actions}]})
        )

    @property
    def client(self) -> Any:
        names = {"aws_access_key_id": KEYS["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": KEYS["AWS_SECRET_ACCESS_KEY"]}
        patience = Config(connect_timeout=5, read_timeout=30, retries={"max_attempts": 1})
        return boto3.client("s3", endpoint_url=self.uri, region_name="us-east-1", config=patience, **names)

    def start(self) -> None:
        """Start, and wait until it takes files."""
        options = ["-dir=.", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.config=s3.json"]
        options += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false", "-volume.max=20"]
        # Else it waits ten seconds for other masters when it comes back.
        options += ["-master.volumeSizeLimitMB=256", "-master.electionTimeout=1s"]
        for name, port in self.ports.items():
            options += [f"-{name}.port={port}", f"-{name}.port.grpc={free_port()}"]
        with (self.folder / "weed.log").open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAMS / "weed", "server", *options],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        wait_for(self._takes_files)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process:
            kill_group(self._process)
            self._process = None

    def files(self, path: str) -> dict[str, bytes]:
        """Return what lies in the bucket below a path."""
        return {
            key.removeprefix(f"{path}/"): self.client.get_object(Bucket="team", Key=key)["Body"].read()
            for key in self.keys(path)
        }

    def keys(self, path: str) -> set[str]:
        """Return the names of what lies in the bucket below a path."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket="team", Prefix=f"{path}/")
        return {item["Key"] for page in pages for item in page.get("Contents", [])}

    def _takes_files(self) -> bool:
        try:
            if "team" not in [bucket["Name"] for bucket in self.client.list_buckets()["Buckets"]]:
                self.client.create_bucket(Bucket="team")
            self.client.put_object(Bucket="team", Key="ready", Body=b"x" * 10_000)
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
            return False
        return True


class Team:
    """A server, its store, and somebody with an account."""

    def __init__(self, store: Store, server: TeamServer) -> None:
        self.store, self.server = store, server
        self.account = server.add_user("ada")
        login = {"MLFLOW_TRACKING_USERNAME": self.account[0], "MLFLOW_TRACKING_PASSWORD": self.account[1]}
        self.login = {"MLFLOW_TRACKING_URI": server.uri, **login}

    @contextmanager
    def client(self, server: TeamServer) -> Iterator[MlflowClient]:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.login.items():
                patch.setenv(name, value)
            yield MlflowClient(server.uri)

    def assert_stored(self, server: TeamServer, path: str, folder: Path) -> None:
        """Assert that the store and the server have each event file of the sweep in a folder, byte for byte."""
        written = {file.name: file.read_bytes() for file in folder.glob("runs/*/*/events.*")}
        stored = {name.rpartition("/")[2]: content for name, content in self.store.files(path).items()}
        assert written
        assert written.items() <= stored.items()
        with self.client(server) as client:
            for run in client.search_runs(["0"]):
                for item in client.list_artifacts(run.info.run_id, "tensorboard"):
                    name = item.path.rpartition("/")[2]
                    if name in written:
                        copy = client.download_artifacts(run.info.run_id, item.path)
                        assert Path(copy).read_bytes() == written[name]


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    store = Store(tmp_path_factory.mktemp("store"))
    try:
        store.start()
        with server_folder() as folder:
            server = TeamServer(folder)
            server.start("--artifacts", "s3://team/artifacts", **store.environment)
            yield Team(store, server)
    finally:
        store.kill()


@pytest.fixture(scope="module")
def swept(team: Team, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a sweep; return the folder in which it was started."""
    folder = tmp_path_factory.mktemp("swept")
    done = program("sweep", *SWEEP, cwd=folder, **team.login)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_sweep_s_artifacts_are_in_the_store_and_come_back_byte_for_byte(team: Team, swept: Path) -> None:
    team.assert_stored(team.server, "artifacts", swept)
    assert files_below(team.server.folder / "artifacts") == {}


def test_a_large_file_goes_through_the_server_and_to_the_store_in_parts(team: Team, tmp_path: Path) -> None:
    large = tmp_path / "weights.bin"
    large.write_bytes(random.Random(1).randbytes(1 << 20) * (LARGE >> 20))
    with team.client(team.server) as client:
        run = client.create_run("0").info
        client.log_artifact(run.run_id, str(large))
        copy = client.download_artifacts(run.run_id, large.name, str(tmp_path / "copy"))
    with large.open("rb") as sent, open(copy, "rb") as returned:
        assert hashlib.file_digest(sent, "sha256").digest() == hashlib.file_digest(returned, "sha256").digest()
    [key] = [key for key in team.store.keys("artifacts") if key.endswith(large.name)]
    tag = team.store.client.head_object(Bucket="team", Key=key)["ETag"]
    assert int(tag.strip('"').partition("-")[2]) > 1, "which S3 says of a file that came in parts"
    team.store.client.delete_object(Bucket="team", Key=key)


def test_a_store_that_is_away_loses_nothing_and_sync_delivers(team: Team, tmp_path: Path) -> None:
    before = team.store.keys("artifacts")
    held = Held(tmp_path / "hook", runs=1)
    env = environment(**team.login, **held.environment)
    words = ["-m", "sweeptrail", "sweep", *SWEEP, "--delivery-timeout", "2"]
    with process_group(sys.executable, *words, cwd=tmp_path, env=env) as process:
        wait_for(lambda: team.store.keys("artifacts") > before)
        team.store.kill()
        held.let_go()
        try:
            output, errors = process.communicate(timeout=PATIENCE)
        finally:
            team.store.start()
    assert process.returncode == 3, output + errors
    assert "sweeptrail sync" in output + errors
    done = program("sync", cwd=tmp_path, **team.login)
    assert done.returncode == 0, done.stderr
    team.assert_stored(team.server, "artifacts", tmp_path)


def test_a_backup_takes_the_files_out_of_the_store_and_a_restore_puts_them_elsewhere(
    team: Team, swept: Path, tmp_path: Path
) -> None:
    file = str(tmp_path / "backup.tar")
    made = team.server.command("backup", file, **team.store.environment)
    assert made.returncode == 0, made.stderr
    taken = team.server.command("restore", file, "--artifacts", "s3://team/artifacts", **team.store.environment)
    assert taken.returncode == 2  # the folder is that of the server
    with server_folder() as folder:
        restored = TeamServer(folder)
        options = ["--artifacts", "s3://team/artifacts"]
        refused = restored.command("restore", file, *options, **team.store.environment)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert "expected a place without artifacts" in refused.stderr
        options = ["--artifacts", "s3://team/restored/here"]
        done = restored.command("restore", file, *options, **team.store.environment)
        assert done.returncode == 0, done.stderr
        assert team.store.files("restored/here") == team.store.files("artifacts")
        restored.start(**team.store.environment)
        team.assert_stored(restored, "restored/here", swept)


def test_a_backup_without_its_store_is_refused_in_one_line(team: Team, tmp_path: Path) -> None:
    away = {**team.store.environment, "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    refused = team.server.command("backup", str(tmp_path / "backup.tar"), **away, AWS_MAX_ATTEMPTS="1")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert "s3://team/artifacts: the object store could not be used" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_store_s_keys_are_in_no_file_of_the_server_and_in_no_process_list(team: Team) -> None:
    secret = KEYS["AWS_SECRET_ACCESS_KEY"]
    assert not [process for process in psutil.process_iter(["cmdline"]) if secret in str(process.info["cmdline"])]
    folder = team.server.folder
    found = [path for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert found == []


def test_clients_are_given_no_address_of_the_store(team: Team) -> None:
    told = requests.get(f"{team.server.uri}/api/3.0/mlflow/server-info", auth=team.account, timeout=PATIENCE).json()
    assert not any(value for name, value in told.items() if "multipart" in name), told
