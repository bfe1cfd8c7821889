"""A backup of a team's server is whole, restores everything, and is refused when it is not what was written."""

import random
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow import MlflowClient
from mlflow.entities import Run

from sweeptrail.errors import ServerError
from sweeptrail.server.backup import archive
from sweeptrail.server.folder import Configuration, ServerFolder
from tests.commands import environment
from tests.server import process_group
from tests.small_sweep import files_below
from tests.steered import Held, kill_after
from tests.team_server import TeamServer, client, processes, server_folder, team_server
from tests.waiting import PATIENCE, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("server-backup")]

SWEEP = ["--train-samples", "2000", "--validation-samples", "200", "--batch-size", "50", "--epochs", "12"]
SWEEP += ["--workers", "1", "--report", "false", "--register", "none", "--delivery-timeout", f"{PATIENCE:.0f}"]


@dataclass
class Used:
    """A server on which two sweeps have run, and a backup that was made meanwhile."""

    server: TeamServer
    accounts: list[tuple[str, str]]
    backup: Path
    delivered: dict[str, bytes] = field(default_factory=dict)
    """The artifacts when both sweeps had ended."""


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Used]:
    with team_server() as server, ExitStack() as sweeps:
        found = Used(server, [server.add_user(name) for name in ("ada", "grace")], server.folder.parent / "running.tar")
        held = Held(tmp_path_factory.mktemp("hook"), runs=3)
        started = []
        for name, password in found.accounts:
            login = {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password}
            env = environment(MLFLOW_TRACKING_URI=server.uri, **held.environment, **login)
            command = [sys.executable, "-m", "sweeptrail", "sweep", *SWEEP]
            folder = tmp_path_factory.mktemp(name)
            started.append(sweeps.enter_context(process_group(*command, cwd=folder, env=env)))
        wait_for(lambda: len(list((server.folder / "artifacts").glob("**/events.*"))) >= 3)
        made = server.command("backup", str(found.backup))
        assert made.returncode == 0, made.stderr
        assert all(process.poll() is None for process in started), "the sweeps were to be running meanwhile"
        held.let_go()
        for process in started:
            _, errors = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, errors
        found.delivered = files_below(server.folder / "artifacts")
        yield found


def runs(speaking: MlflowClient) -> list[Run]:
    return list(speaking.search_runs(["0"], max_results=1000))


def metrics(speaking: MlflowClient, run: Run) -> set[tuple[str, int, int, float]]:
    """Return each value that a run has ever had."""
    histories = (speaking.get_metric_history(run.info.run_id, name) for name in run.data.metrics)
    return {(item.key, item.step, item.timestamp, item.value) for history in histories for item in history}


def everything(server: TeamServer) -> dict[str, Any]:
    """Return what a server tells of its runs, models and users, and its artifacts."""
    with client(server, server.admin) as speaking:
        found = runs(speaking)
        return {
            "runs": {run.info.run_id: run.to_dictionary() for run in found},
            "metrics": {run.info.run_id: metrics(speaking, run) for run in found},
            "models": [
                (version.name, version.version, version.run_id, version.source, version.aliases)
                for version in speaking.search_model_versions()
            ],
            "users": server.command("users").stdout.split(),
            "artifacts": files_below(server.folder / "artifacts"),
        }


def may_enter(server: TeamServer, account: tuple[str, str]) -> bool:
    where = f"{server.uri}/api/2.0/mlflow/experiments/get?experiment_id=0"
    return requests.get(where, auth=account, timeout=PATIENCE).status_code == 200


def artifacts_in(backup: Path) -> dict[str, bytes]:
    with tarfile.open(backup) as opened:
        found = {}
        for member in opened:
            content = opened.extractfile(member)
            if content and member.name.startswith(archive.ARTIFACTS):
                found[member.name.removeprefix(archive.ARTIFACTS)] = content.read()
    return found


def test_a_backup_made_while_sweeps_run_restores_the_users_and_the_runs_of_the_moment(used: Used) -> None:
    held = artifacts_in(used.backup)
    with server_folder() as folder:
        restored = TeamServer(folder)
        done = restored.command("restore", str(used.backup))
        assert done.returncode == 0, done.stderr
        assert f"the database and {len(held)} artifacts" in done.stdout
        assert files_below(folder / "artifacts") == held
        restored.start()
        assert all(may_enter(restored, account) for account in used.accounts)
        with client(restored, used.accounts[0]) as speaking:
            then = {run.info.run_id: (run, metrics(speaking, run)) for run in runs(speaking)}
    with client(used.server, used.server.admin) as speaking:
        now = {run.info.run_id: (run, metrics(speaking, run)) for run in runs(speaking)}
    assert "RUNNING" in {run.info.status for run, _ in then.values()}
    assert {run.info.status for run, _ in now.values()} == {"FINISHED"}
    for run_id, (run, values) in then.items():
        assert run.data.params.items() <= now[run_id][0].data.params.items()
        assert values <= now[run_id][1]
    # What was written since has only grown, event by event; the table of a sweep is written anew.
    for name, content in held.items():
        if "/tensorboard/" in name:
            assert used.delivered[name].startswith(content)
        else:
            assert name in used.delivered


def test_a_destroyed_server_comes_back_with_everything_it_had(used: Used, tmp_path: Path) -> None:
    server = used.server
    with client(server, used.accounts[1]) as speaking:
        own = [run for run in runs(speaking) if run.info.user_id.startswith("grace#")]
        [first, *_] = [run.info.run_id for run in own if "mlflow.parentRunId" in run.data.tags]
        speaking.create_registered_model("shoes")
        speaking.create_model_version("shoes", f"runs:/{first}/tensorboard", first)
        speaking.set_registered_model_alias("shoes", "champion", "1")
        speaking.set_tag(first, "näme", "with 'quotes' and 界")
        (tmp_path / "näme of a file.txt").write_bytes(bytes(range(256)))
        speaking.log_artifact(first, str(tmp_path / "näme of a file.txt"), "a folder")
    before = everything(server)
    assert len(before["runs"]) == 10
    made = server.command("backup", str(tmp_path / "idle.tar"))
    assert made.returncode == 0, made.stderr
    server.stop()
    shutil.rmtree(server.folder)
    done = server.command("restore", str(tmp_path / "idle.tar"))
    assert done.returncode == 0, done.stderr
    server.start()
    assert everything(server) == before
    assert all(may_enter(server, account) for account in used.accounts)
    assert not may_enter(server, ("ada", "guessed"))


def test_a_backup_is_readable_by_its_owner_only(used: Used) -> None:
    assert used.backup.stat().st_mode & 0o777 == 0o600


def damage(backup: Path, way: str) -> bytes:
    """Return a backup as it must not be."""
    content = bytearray(backup.read_bytes())
    if way == "empty":
        return b""
    if way == "zeros":
        return bytes(10240)
    if way == "no tar":
        return random.Random(1).randbytes(50_000)
    if way == "cut off before its end":
        return bytes(content[: len(content) * 2 // 3])
    with tarfile.open(backup) as opened:
        member = opened.getmember(archive.CHECKSUMS if "last" in way else archive.DUMP)
    if way == "without its last member":
        return bytes(content[: member.offset])
    content[member.offset_data + member.size // 2] ^= 1
    return bytes(content)


@pytest.mark.parametrize(
    "way", ["empty", "zeros", "no tar", "cut off before its end", "without its last member", "one bit flipped"]
)
def test_a_damaged_backup_is_refused_in_one_line_and_leaves_nothing(used: Used, tmp_path: Path, way: str) -> None:
    damaged = tmp_path / "damaged.tar"
    damaged.write_bytes(damage(used.backup, way))
    target = TeamServer(tmp_path / "restored")
    refused = target.command("restore", str(damaged))
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    assert refused.stderr.startswith(f"error: {damaged}: expected a whole backup of sweeptrail server, got: ")
    assert list(tmp_path.iterdir()) == [damaged]


def test_one_flipped_bit_is_found_in_each_member_of_a_backup(used: Used, tmp_path: Path) -> None:
    content = used.backup.read_bytes()
    with tarfile.open(used.backup) as opened:
        members = opened.getmembers()
    bits = random.Random(2)
    for member in members[:8] + members[-4:]:
        in_header, in_data = member.offset + bits.randrange(257), member.offset_data + bits.randrange(member.size)
        for place in (in_header, in_data):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bits.randrange(8)
            (tmp_path / "damaged.tar").write_bytes(damaged)
            with pytest.raises(ServerError, match="expected a whole backup"):
                archive.restore(ServerFolder(tmp_path / "restored"), tmp_path / "damaged.tar", Configuration())
    assert not (tmp_path / "restored").exists()


def test_nothing_that_is_there_is_overwritten(used: Used, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("something else")
    refused = used.server.command("backup", str(tmp_path / "there"))
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    target = TeamServer(tmp_path)
    refused = target.command("restore", str(used.backup))
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert files_below(tmp_path) == {"there": b"something else"}


@pytest.mark.parametrize("size", [50_000, 1_000_000])
def test_a_disk_that_is_full_leaves_no_backup(used: Used, tmp_path: Path, size: int) -> None:
    """The smaller size is not enough for the database, the other one not for the artifacts."""
    code = (
        "import os, resource, sys; size = int(sys.argv[1]); resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)); "
    )
    code += "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
    words = ["-m", "sweeptrail", "server", "backup", str(tmp_path / "backup.tar"), "--folder", str(used.server.folder)]
    told = subprocess.run(
        [sys.executable, "-c", code, str(size), *words],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, told.stderr.count("\n")) == (1, 1), told.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("moment", "is_there"),
    [
        ("sweeptrail.server.database.postgres.dump", False),
        ("sweeptrail.server.backup.archive._add_file", False),
        ("os.fsync", False),
        ("os.replace", True),
    ],
)
def test_a_killed_backup_leaves_a_whole_one_or_nothing_that_looks_like_one(
    used: Used, tmp_path: Path, moment: str, is_there: bool
) -> None:
    file = tmp_path / "killed.tar"
    kill_after(moment, "server", "backup", str(file), "--folder", str(used.server.folder))
    assert [path for path in tmp_path.iterdir() if not path.name.startswith(".backup-")] == [file] * is_there
    if is_there:
        with archive._checked(file):
            pass


RESTORING = (
    "sweeptrail.server.database.postgres._run",
    "sweeptrail.server.backup.artifacts.FolderStore.put",
    "sweeptrail.server.database.postgres.restore",
    "sweeptrail.server.backup.archive._read",
)
"""The cluster is made, an artifact is there beside a running database, the tables are, all is but its name."""


def test_a_killed_restore_leaves_nothing_that_looks_like_a_server_and_can_be_done_again(used: Used) -> None:
    with server_folder() as folder:
        for moment in RESTORING:
            kill_after(moment, "server", "restore", str(used.backup), "--folder", str(folder))
            assert not folder.exists()
        wait_for(lambda: processes(folder.parent) == [])
        done = TeamServer(folder).command("restore", str(used.backup))
        assert done.returncode == 0, done.stderr
        assert files_below(folder / "artifacts") == artifacts_in(used.backup)
        assert [path.name for path in folder.parent.iterdir()] == [folder.name]
