"""What only the engine of several processes promises."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from sweeptrail.engines.carry_out import longest_first
from sweeptrail.engines.carry_out import results as results_of
from sweeptrail.engines.processes import engine
from sweeptrail.engines.processes.engine import Processes, auto_workers
from sweeptrail.engines.processes.forkserver import ForkServer
from sweeptrail.errors import SweeptrailError
from sweeptrail.fashion_mnist.settings import RunSettings
from tests import engine_works as works
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

SCRIPT = """
import sys

from sweeptrail.engines.processes.forkserver import ForkServer
from sweeptrail.engines.carry_out import longest_first
from sweeptrail.engines.carry_out import results as results_of
from sweeptrail.engines.processes import engine
from sweeptrail.engines.carry_out import results as results_of
from sweeptrail.engines.processes.engine import Processes
from tests import engine_works as works

print("begun")
print(*sorted(result.status for result in results_of(Processes(2, 1, ForkServer(())), works.square, works.jobs(2))))
print("torch" in sys.modules or "mlflow" in sys.modules)
"""


def test_a_script_without_a_main_guard_runs_once_and_imports_neither_torch_nor_mlflow(tmp_path: Path) -> None:
    script = tmp_path / "it's a script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["begun", "FINISHED FINISHED", "False"]
    assert done.stderr == ""


def test_the_longest_runs_come_first() -> None:
    jobs = [
        *works.jobs(2, batch_size=1000),
        *[replace(job, index=job.index + 2) for job in works.jobs(2, batch_size=100)],
    ]
    results = list(results_of(Processes(1, 1, ForkServer(())), works.square, longest_first(jobs)))
    assert [result.index for result in results] == [3, 4, 1, 2]


@pytest.mark.parametrize("longer", [{"batch_size": 10}, {"epochs": 4}, {"validation_samples": 0}])
def test_a_run_with_more_to_do_costs_more(longer: dict[str, int]) -> None:
    assert RunSettings(**longer).cost > RunSettings().cost  # type: ignore[arg-type]  # each fits its own field


def test_fewer_training_samples_cost_less() -> None:
    assert RunSettings(train_samples=1000).cost < RunSettings().cost


@pytest.mark.parametrize(("cores", "threads", "workers"), [(8, 1, 8), (8, 3, 2), (2, 4, 1)])
def test_workers_are_as_many_as_the_cores_have_room_for(
    monkeypatch: pytest.MonkeyPatch, cores: int, threads: int, workers: int
) -> None:
    monkeypatch.setattr(engine, "available_cores", lambda: cores)
    assert auto_workers(threads) == workers


def test_no_more_workers_are_started_than_there_are_jobs() -> None:
    results = list(results_of(Processes(8, 1, ForkServer(())), works.tell_the_process, works.jobs(2)))
    assert len({result.metrics["worker"] for result in results}) == 2


def test_workers_live_as_long_as_there_are_jobs() -> None:
    results = list(results_of(Processes(2, 1, ForkServer(())), works.tell_the_process, works.jobs(12)))
    assert len({result.metrics["worker"] for result in results}) == 2


def test_retries_say_how_often_a_lost_run_is_tried_again() -> None:
    engine = Processes(1, 0, ForkServer(()))
    assert "tried once" in [result.reason for result in results_of(engine, works.die_in_the_second, works.jobs(2))][1]


def test_a_module_that_cannot_be_imported_beforehand_ends_the_sweep_and_says_why() -> None:
    with pytest.raises(SweeptrailError, match="No module named 'no_such_module'"):
        list(results_of(Processes(2, 1, ForkServer(("no_such_module",))), works.square, works.jobs(4)))


def test_work_that_cannot_be_pickled_is_refused_before_anything_is_started() -> None:
    with pytest.raises(SweeptrailError, match="at the top level of a module"):
        list(results_of(Processes(2, 1, ForkServer(())), lambda job: works.square(job), works.jobs(4)))


def test_work_that_a_worker_cannot_load_ends_the_sweep_and_says_why() -> None:
    with pytest.raises(SweeptrailError, match="invalid literal for int"):
        list(results_of(Processes(2, 1, ForkServer(())), works.UnreadableWork(), works.jobs(4)))


def test_a_fork_server_that_is_killed_costs_no_run() -> None:
    results = []
    for result in results_of(Processes(2, 1, ForkServer(())), works.tell_the_process, works.jobs(24)):
        results.append(result)
        if len(results) == 6:
            os.kill(int(result.metrics["parent"]), signal.SIGKILL)
    assert sorted(result.index for result in results) == list(range(1, 25))
    assert {result.status for result in results} == {"FINISHED"}


def test_a_cancelled_run_cleans_up(tmp_path: Path) -> None:
    results = results_of(Processes(2, 1, ForkServer(())), works.clean_up_when_cancelled, works.jobs(2, tmp_path))
    next(results)
    wait_for((tmp_path / "began 2").exists)
    results.close()
    assert (tmp_path / "cleaned 2").exists()


def test_a_run_that_does_not_hear_is_killed(tmp_path: Path) -> None:
    results = results_of(Processes(2, 1, ForkServer(())), works.hang_deaf, works.jobs(2, tmp_path))
    next(results)
    wait_for((tmp_path / "began 2").exists)
    results.close()
    assert not psutil.pid_exists(int((tmp_path / "began 2").read_text()))


def test_lines_that_several_workers_write_at_a_time_stay_whole(capfd: pytest.CaptureFixture[str]) -> None:
    list(results_of(Processes(4, 1, ForkServer(())), works.print_something, works.jobs(400)))
    written = capfd.readouterr().err.splitlines()
    assert sorted(written) == sorted(f"trouble in run {number}" for number in range(1, 401))
