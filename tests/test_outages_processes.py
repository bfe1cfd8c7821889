"""Nothing is lost and nothing arrives twice when several processes deliver, and in whole sweeps."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from sweeptrail.errors import DeliveryError
from sweeptrail.outbox.delivery.courier import Courier
from sweeptrail.system.locks import locked
from tests.commands import ROOT, SMALL, environment, family, program, start
from tests.proxy import Proxy, proxy_before
from tests.server import Server, kill_group, process_group
from tests.small_sweep import assert_arrived, deliver_at_last, files_below, write_sweep
from tests.steered import Held
from tests.waiting import FOR_EVER, PATIENCE, wait_for

pytestmark = pytest.mark.slow

PATHS = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
"""Where a process of the tests' own finds the package and the tests."""


def test_a_creation_keeps_other_couriers_out_and_when_it_is_killed_leaves_no_second_run(
    tracking: Server, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    write_sweep(folder)
    with proxy_before(tracking.port, seed=0) as proxy:
        proxy.once("hang", "/runs/create")
        with couriers(proxy.uri, folder) as process:
            wait_for(lambda: proxy.faults() == ["hang"])
            with pytest.raises(DeliveryError, match="another process is delivering"):
                Courier(proxy.uri, folder).deliver()
            kill_group(process)
        proxy.release()
        proxy.settle()
        assert deliver_at_last(proxy, Courier(proxy.uri, folder), fresh=False) == 0
    assert_arrived(tracking.uri, tracking.folder / "mlartifacts", folder)


@pytest.mark.parametrize("seed", range(2))
def test_two_processes_that_deliver_the_same_folder_at_once_make_each_run_once(
    tracking: Server, tmp_path: Path, seed: int
) -> None:
    folder = tmp_path / f"two-{seed}"
    write_sweep(folder)
    with proxy_before(tracking.port, seed) as proxy:
        proxy.mode = "slow"
        with couriers(proxy.uri, folder, folder) as process:
            output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert sum(json.loads(line)["delivered"] for line in output.splitlines()) > 0
    assert_arrived(tracking.uri, tracking.folder / "mlartifacts", folder)


def test_a_process_that_is_forked_during_a_delivery_does_not_hold_up_the_next(tmp_path: Path) -> None:
    """A DataLoader with workers forks at any moment, and what is forked has the lock's file open too."""
    call = "from tests.test_outages_processes import fork_while_locked; fork_while_locked()"
    ended = start(sys.executable, "-c", call, cwd=tmp_path, PYTHONPATH=PATHS)
    assert ended.returncode == 0, ended.stderr


def fork_while_locked() -> None:
    with locked(Path("lock")):
        if (child := os.fork()) == 0:
            time.sleep(FOR_EVER)
    try:
        with locked(Path("lock")) as was_free:
            assert was_free
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_eight_processes_share_a_new_sqlite_file_from_its_creation_on(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    folders = [tmp_path / f"writer-{number}" for number in range(8)]
    for folder in folders:
        write_sweep(folder)
    with couriers(uri, *folders, cwd=tmp_path) as process:
        output, errors = process.communicate(timeout=PATIENCE)
    print(output, errors)
    assert process.returncode == 0, errors
    assert "locked" not in output + errors
    assert "Traceback" not in errors
    for folder in folders:
        assert_arrived(uri, tmp_path / "mlruns", folder)


def couriers(uri: str, *folders: Path, cwd: Path = ROOT) -> "AbstractContextManager[subprocess.Popen[str]]":
    """Deliver these folders at the same moment, by one process each."""
    call = "import sys; from tests.test_outages_processes import deliver_in_forks; deliver_in_forks(*sys.argv[1:])"
    command = [sys.executable, "-c", call, uri, *map(str, folders)]
    return process_group(*command, cwd=cwd, env=environment(PYTHONPATH=PATHS))


def deliver_in_forks(uri: str, *folders: str) -> None:
    """Deliver each folder in a process of its own; each prints a line with what it took."""
    wait_here, go = os.pipe()
    children = []
    for folder in folders:
        if (child := os.fork()) == 0:
            try:
                os.close(go)
                os.read(wait_here, 1)  # returns when all have been forked, and the pipe has no other end
                print(json.dumps(deliver_stubbornly(Courier(uri, Path(folder)))), flush=True)
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        children.append(child)
    os.close(go)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    sys.exit(max(codes))


def deliver_stubbornly(courier: Courier) -> dict[str, object]:
    problems: list[str] = []
    while True:
        try:
            return {"delivered": courier.deliver(), "problems": problems, "refusals": courier.refusals}
        except DeliveryError as error:
            problems.append(str(error))
            time.sleep(0.1)


def test_a_sweep_survives_a_server_that_is_killed_three_times(tracking: Server, tmp_path: Path) -> None:
    held = Held(tmp_path / "hook", runs=0)
    settings = {"batch_size": "50", "seed": "0,1"}  # all of the same length, so they are carried out in their order
    with small_sweep(tracking.uri, tmp_path, held, **settings) as process:
        for runs in (2, 4, 6):
            held.let_begin(runs)
            wait_for_runs(tracking, tmp_path, runs)
            tracking.kill()
            tracking.start()
        assert process.poll() is None, process.communicate()
        held.let_go()
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode in (0, 3), errors
    assert errors.count("does not answer") - errors.count("answers again") in (0, 1)
    synced = program("sync", cwd=tmp_path)
    assert synced.returncode == 0, synced.stderr
    assert_whole_sweep_arrived(tracking, tmp_path)


def test_a_sweep_without_a_server_exits_with_3_and_is_delivered_later_by_two_at_once(
    tracking: Server, tmp_path: Path
) -> None:
    proxy = Proxy(tracking.port, seed=0)
    with small_sweep(proxy.uri, tmp_path, lr="0.01", delivery_timeout="1") as process:
        output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 3, errors
    assert "not sent yet: " in output
    assert errors.count("does not answer") == 1
    proxy.start()
    proxy.mode = "slow"
    try:
        command = [sys.executable, "-m", "sweeptrail", "sync"]
        with (
            process_group(*command, cwd=tmp_path, env=environment()) as first,
            process_group(*command, cwd=tmp_path, env=environment()) as second,
        ):
            assert (first.wait(PATIENCE), second.wait(PATIENCE)) == (0, 0)
    finally:
        proxy.stop()
    assert_whole_sweep_arrived(tracking, tmp_path, num_runs=4)


def small_sweep(
    uri: str, folder: Path, held: Held | None = None, **settings: str
) -> "AbstractContextManager[subprocess.Popen[str]]":
    options = [word for name, value in {**SMALL, **settings}.items() for word in (f"--{name.replace('_', '-')}", value)]
    where = ["--tracking-uri", uri, "--experiment", folder.name]
    command = [sys.executable, "-m", "sweeptrail", "sweep", *options, *where]
    return process_group(*command, cwd=folder, env=environment(**(held.environment if held else {})))


def wait_for_runs(tracking: Server, folder: Path, count: int) -> None:
    client = MlflowClient(tracking.uri)
    wait_for(lambda: client.get_experiment_by_name(folder.name))
    experiment = client.get_experiment_by_name(folder.name)
    assert experiment
    wait_for(lambda: len(client.search_runs([experiment.experiment_id])) >= count)


def assert_whole_sweep_arrived(tracking: Server, folder: Path, num_runs: int = 8) -> None:
    """Assert that the server holds the table that the sweep has left on disk, run by run and epoch by epoch."""
    client = MlflowClient(tracking.uri)
    experiment = client.get_experiment_by_name(folder.name)
    assert experiment
    parent, children = family(tracking.folder, experiment.experiment_id)
    assert parent.info.status == "FINISHED"
    assert [child.info.status for child in children] == ["FINISHED"] * num_runs
    [results] = folder.glob("runs/*/results.json")
    rows = json.loads(results.read_text())
    assert len(rows) == num_runs * 3
    artifacts = tracking.folder / "mlartifacts" / experiment.experiment_id
    assert (artifacts / parent.info.run_id / "artifacts" / "results.json").read_bytes() == results.read_bytes()
    for number, child in enumerate(children, 1):
        expected = [row for row in rows if row["run"] == number]
        for metric in ("loss", "accuracy", "validation_loss"):
            history = client.get_metric_history(child.info.run_id, metric)
            assert [(item.step, item.value) for item in history] == [(row["epoch"], row[metric]) for row in expected]
        stored = files_below(artifacts / child.info.run_id / "artifacts" / "tensorboard")
        kept = files_below(results.parent / child.info.run_name)
        # What a server that was killed in the middle of an upload has left of it, which nobody is shown.
        stored = {name: content for name, content in stored.items() if not name.startswith(".artifact.uploading.")}
        assert stored.items() <= kept.items()
        assert stored
