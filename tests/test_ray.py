"""What only the engine of a Ray cluster promises."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from sweeptrail.engines import Options
from sweeptrail.engines.carry_out import results as results_of
from sweeptrail.engines.ray import worker
from sweeptrail.engines.ray.engine import Ray
from sweeptrail.engines.serial import Serial
from sweeptrail.errors import SweeptrailError, UsageError
from sweeptrail.outbox import journal
from sweeptrail.records import Job, RunResult
from sweeptrail.system.shared_arrays import share
from tests import engine_works as works
from tests.test_engines import ON_RAY, end_shared_cluster, engine

pytestmark = list(ON_RAY)

SMALL_STORE = 150 * 2**20
"""Bytes that a node of the tests keeps for objects."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of one node, to which others can be added."""
    end_shared_cluster()
    from ray.cluster_utils import Cluster

    # A node that is gone is given up after a second.
    patience = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 2}
    options = {"num_cpus": 2, "num_gpus": 1, "object_store_memory": SMALL_STORE, "_system_config": patience}
    running = Cluster(initialize_head=True, head_node_args=options)
    yield running
    running.shutdown()


def numbers_of(results: list[RunResult]) -> list[Any]:
    return [
        (
            result.index,
            result.status,
            dict(result.metrics),
            [(e.loss, e.accuracy, dict(e.extra)) for e in result.epochs],
        )
        for result in sorted(results, key=lambda result: result.index)
    ]


def test_a_node_that_dies_in_the_middle_of_a_sweep_costs_no_run_and_changes_no_number(
    tmp_path: Path, cluster: Any
) -> None:
    end_shared_cluster()
    work = works.HangOnANode(works.fashion_mnist(), str(tmp_path))
    doomed = cluster.add_node(num_cpus=1, object_store_memory=SMALL_STORE)
    (tmp_path / "doomed").write_text(doomed.node_id)
    results = []
    for result in results_of(Ray(Options(address=cluster.address)), work, works.training_jobs(12, tmp_path / "ray")):
        results.append(result)
        if (tmp_path / "hangs").exists() and doomed in cluster.list_all_nodes():
            cluster.remove_node(doomed, allow_graceful=False)
    assert (tmp_path / "hangs").exists()
    assert numbers_of(results) == numbers_of(
        list(results_of(Serial(), work.work, works.training_jobs(12, tmp_path / "serial")))
    )
    for job in works.training_jobs(12, tmp_path / "ray"):
        kinds = [entry.kind for entry, _ in journal.read(Path(job.folder) / journal.FILE_NAME)]
        assert kinds.count("closed") == 1
        assert (kinds.count("epoch"), kinds.count("final")) == (2, 1)


def test_a_cluster_gets_our_code_and_the_needs_of_a_run_and_no_secret_in_writing(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tell_the_surroundings(job: Job) -> RunResult:  # in here it travels as it is, and needs no module
        import ray

        resources = ray.get_runtime_context().get_assigned_resources()
        found = [path for path in sys.path if Path(path, "my_network.py").exists()]
        return RunResult(job.index, job.name, {}, "FINISHED", metrics=resources, warnings=(worker.__file__, *found))

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "open-sesame")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_network.py").write_text("NAME = 'mine'\n")
    jobs = works.jobs(2, threads=2)
    tracked = [replace(job, folder=str(tmp_path / "sweep" / job.name), sinks=("outbox",)) for job in jobs]
    (tmp_path / "sweep").mkdir()
    end_shared_cluster()
    options = Options(
        threads=2,
        gpus_per_run=0.5,
        address=cluster.address,
        modules=("my_network",),
        tracking_uri="http://ada:open-sesame@127.0.0.1:9",
        sweep_folder=tmp_path / "sweep",
    )
    results = list(results_of(Ray(options), tell_the_surroundings, tracked))
    session = Path(cluster.head_node.get_session_dir_path())
    told = [path for path in session.rglob("*") if path.is_file() and b"open-sesame" in path.read_bytes()]
    assert [result.error for result in results] == [None, None]
    assert [(result.metrics["CPU"], result.metrics["GPU"]) for result in results] == [(2, 0.5)] * 2
    for result in results:
        code, *networks = result.warnings
        assert "/py_modules_files/" in code
        assert "/py_modules_files/" in "".join(networks)
    assert told == []
    assert not [path for path in (tmp_path / "sweep").rglob("*") if path.is_file()]


def test_a_local_cluster_is_reached_from_nowhere_else_and_leaves_signals_alone() -> None:
    end_shared_cluster()
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    engine("ray")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    listening = {
        connection.laddr.ip
        for process in [psutil.Process(), *psutil.Process().children(recursive=True)]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    assert os.environ["RAY_AUTH_MODE"] == "token"


def test_a_worker_is_used_again_and_maps_the_data_without_a_copy() -> None:
    work = works.TellTheObject(share(np.zeros((1000, 28, 28), np.uint8)))
    results = list(results_of(engine("ray"), work, works.jobs(12)))
    assert len({(result.metrics["worker"], result.metrics["object"]) for result in results}) <= 2
    assert {result.metrics["writeable"] for result in results} == {False}


def test_work_that_a_worker_cannot_load_ends_the_sweep_and_says_why() -> None:
    with pytest.raises(SweeptrailError, match="invalid literal for int"):
        list(results_of(engine("ray"), works.UnreadableWork(), works.jobs(2)))


def test_work_that_cannot_be_sent_is_refused() -> None:
    lock = threading.Lock()
    with pytest.raises(SweeptrailError, match="cannot be sent to another process"):
        list(results_of(engine("ray"), lambda job: works.finished(job, locked=lock.locked()), works.jobs(2)))


def test_more_gpus_than_there_are_is_refused() -> None:
    end_shared_cluster()
    with pytest.raises(UsageError, match=r"expected at most the \d+ GPUs of this machine, got 1000"):
        list(results_of(Ray(Options(gpus_per_run=1000)), works.square, works.jobs(1)))


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "nonsense"])
def test_a_cluster_that_does_not_answer_is_said_at_once(address: str) -> None:
    end_shared_cluster()
    with pytest.raises(UsageError, match=f"no cluster answers at '{address}'.*write RAY_ADDRESS=HOST:6379"):
        list(results_of(Ray(Options(address=address)), works.square, works.jobs(1)))


def test_where_ray_is_missing_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SweeptrailError, match=r"write pip install 'sweeptrail\[ray\]'"):
        list(results_of(Ray(Options()), works.square, works.jobs(1)))
